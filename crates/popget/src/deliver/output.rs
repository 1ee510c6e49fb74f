//! Standard output, as an mbox: for a pipe, or to look.

use std::io::{self, Write};

use deliver::{Quoting, Spool};

use super::mbox::from_line;
use super::{Delivery, Failure, Incoming, MAX_BATCH_MESSAGES};
use crate::seen::Record;

/// Delivery to standard output. Only whole messages are written.
#[derive(Default)]
pub struct Output {
    spool: Spool,
    quoting: Quoting,
    current: Option<String>,
    done: Vec<String>,
}

impl Write for Output {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.quoting.write(octets, &mut self.spool)?;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Delivery for Output {
    fn recover(
        &mut self,
        _: &Record,
        _: &[Incoming],
        _: &mut Vec<String>,
    ) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn begin(&mut self, message: &Incoming, _: &mut Record) -> Result<(), Failure> {
        self.abandon();
        self.current = Some(message.key.clone());
        self.spool.write_all(from_line(&message.tag).as_bytes())?;
        Ok(())
    }

    fn abandon(&mut self) {
        (self.spool, self.quoting, self.current) = Default::default();
    }

    fn finish(&mut self, _: &mut Record) -> Result<(), Failure> {
        self.quoting.finish(&mut self.spool)?;
        let mut out = io::stdout().lock();
        self.spool.replay(|piece| out.write_all(piece))?;
        out.flush()?;
        self.done.extend(self.current.take());
        Ok(())
    }

    fn commit(&mut self, record: &mut Record) -> Result<Vec<String>, Failure> {
        let done = std::mem::take(&mut self.done);
        record.seen(done.iter().map(String::as_str))?;
        Ok(done)
    }

    fn is_full(&self) -> bool {
        self.done.len() >= MAX_BATCH_MESSAGES
    }
}
