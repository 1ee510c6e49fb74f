//! A command that is given each message: procmail, maildrop, a script.

use std::io::{self, Write};
use std::process;

use super::{Delivery, Failure, Incoming};
use crate::seen::Record;
use deliver::Spool;

/// Delivery to a command by the shell. Exit status 0 says that the message is delivered.
pub struct Command {
    command: String,
    host: String,
    user: String,
    spool: Spool,
    current: Option<Incoming>,
    done: Vec<String>,
}

impl Command {
    /// The command sees the account as `POPGET_HOST` and `POPGET_USER`, the message as `POPGET_UNIQUE_ID`.
    pub fn new(command: &str, host: &str, user: &str) -> Command {
        Command {
            command: command.to_owned(),
            host: host.to_owned(),
            user: user.to_owned(),
            spool: Spool::default(),
            current: None,
            done: Vec::new(),
        }
    }
}

impl Write for Command {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.spool.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Delivery for Command {
    /// Whether the command had done its work nobody can tell.
    fn recover(
        &mut self,
        record: &Record,
        _: &[Incoming],
        doubtful: &mut Vec<String>,
    ) -> io::Result<Vec<String>> {
        if let Some(interrupted) = record.interrupted() {
            doubtful.extend(interrupted.intended.iter().cloned());
        }
        Ok(Vec::new())
    }

    fn begin(&mut self, message: &Incoming, _: &mut Record) -> Result<(), Failure> {
        self.spool = Spool::default();
        self.current = Some(message.clone());
        Ok(())
    }

    fn abandon(&mut self) {
        self.current = None;
        self.spool = Spool::default();
    }

    fn finish(&mut self, record: &mut Record) -> Result<(), Failure> {
        let Some(message) = self.current.take() else {
            return Ok(());
        };
        // Only a whole message is handed over.
        let input = std::mem::take(&mut self.spool).into_file()?;
        record.intend([message.key.as_str()], None)?;
        let status = process::Command::new("/bin/sh")
            .arg("-c")
            .arg(&self.command)
            .env("POPGET_HOST", &self.host)
            .env("POPGET_USER", &self.user)
            .env("POPGET_UNIQUE_ID", &message.key)
            .stdin(input)
            .stdout(io::stderr())
            .status()?;
        if status.success() {
            self.done.push(message.key);
            return Ok(());
        }
        record.refrain()?;
        Err(Failure::Message(format!("the command failed: {status}")))
    }

    fn commit(&mut self, record: &mut Record) -> Result<Vec<String>, Failure> {
        let done = std::mem::take(&mut self.done);
        record.seen(done.iter().map(String::as_str))?;
        Ok(done)
    }

    fn is_full(&self) -> bool {
        !self.done.is_empty()
    }
}
