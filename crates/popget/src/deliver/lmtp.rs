//! LMTP (RFC 2033): to a delivery agent that listens, on TCP or a Unix socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pop3_proto::multiline::Encoder;

use super::{Delivery, Failure, Incoming};
use crate::seen::Record;
use deliver::Spool;

/// RFC 5321 section 4.5.3.2 asks for up to ten minutes, behind the final dot.
const PATIENCE: Duration = Duration::from_secs(600);

/// Octets of a reply line: RFC 5321 section 4.5.3.1.5 says 512.
const MAX_REPLY_LINE: u64 = 4096;

/// Lines of one reply.
const MAX_REPLY_LINES: usize = 100;

/// Delivery by LMTP. The connection is made at the first message and kept.
pub struct Lmtp {
    address: String,
    recipient: String,
    server: Option<BufReader<Box<dyn Stream>>>,
    spool: Spool,
    current: Option<String>,
    done: Vec<String>,
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

impl Lmtp {
    /// `address` is `host:port` or the path of a socket.
    pub fn new(address: &str, recipient: &str) -> Lmtp {
        Lmtp {
            address: address.to_owned(),
            recipient: recipient.to_owned(),
            server: None,
            spool: Spool::default(),
            current: None,
            done: Vec::new(),
        }
    }

    fn connect(&self) -> io::Result<BufReader<Box<dyn Stream>>> {
        let stream: Box<dyn Stream> = if self.address.contains('/') {
            let stream = UnixStream::connect(&self.address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Box::new(stream)
        } else {
            let stream = TcpStream::connect(&self.address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Box::new(stream)
        };
        let mut server = BufReader::new(stream);
        expect(&mut server, "", '2').map_err(place)?;
        expect(&mut server, "LHLO localhost\r\n", '2').map_err(place)?;
        Ok(server)
    }

    fn send(&mut self) -> Result<(), Failure> {
        let mut server = match self.server.take() {
            Some(server) => server,
            None => self.connect()?,
        };
        if self
            .recipient
            .bytes()
            .any(|octet| octet.is_ascii_control() || b"<> ".contains(&octet))
        {
            return Err(Failure::Message("the recipient is no address".to_owned()));
        }
        let recipient = format!("RCPT TO:<{}>\r\n", self.recipient);
        let result = expect(&mut server, "MAIL FROM:<>\r\n", '2')
            .and_then(|()| expect(&mut server, &recipient, '2'))
            .and_then(|()| expect(&mut server, "DATA\r\n", '3'));
        if let Err(failure) = result {
            if expect(&mut server, "RSET\r\n", '2').is_ok() {
                self.server = Some(server);
            }
            return Err(failure);
        }
        let mut encoder = Encoder::retr();
        let mut wire = vec![0; 64 * 1024];
        self.spool.replay(|mut piece| {
            while !piece.is_empty() {
                let progress = encoder.encode(piece, &mut wire);
                piece = piece.get(progress.consumed..).unwrap_or_default();
                let produced = wire.get(..progress.produced).unwrap_or_default();
                server.get_mut().write_all(produced)?;
            }
            Ok(())
        })?;
        loop {
            let progress = encoder.finish(&mut wire);
            let produced = wire.get(..progress.produced).unwrap_or_default();
            server.get_mut().write_all(produced)?;
            if progress.done {
                break;
            }
        }
        let result = expect(&mut server, "", '2');
        if !matches!(result, Err(Failure::Place(_))) {
            self.server = Some(server);
        }
        result
    }
}

/// Says something, and wants a reply of that kind.
fn expect(
    server: &mut BufReader<Box<dyn Stream>>,
    command: &str,
    kind: char,
) -> Result<(), Failure> {
    server.get_mut().write_all(command.as_bytes())?;
    server.get_mut().flush()?;
    for _ in 0..MAX_REPLY_LINES {
        let mut line = String::new();
        Read::by_ref(server)
            .take(MAX_REPLY_LINE)
            .read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Err(Failure::Place(io::ErrorKind::UnexpectedEof.into()));
        }
        if line.as_bytes().get(3) == Some(&b'-') {
            continue;
        }
        let text = line.trim_end().escape_debug().to_string();
        return match line.chars().next() {
            Some(first) if first == kind => Ok(()),
            // Not this message's fault, and not now: the rest would fare the same.
            Some('4') if line.starts_with("421") => Err(Failure::Place(io::Error::other(text))),
            _ => Err(Failure::Message(text)),
        };
    }
    Err(Failure::Place(io::ErrorKind::InvalidData.into()))
}

fn place(failure: Failure) -> io::Error {
    match failure {
        Failure::Place(error) => error,
        Failure::Message(text) => io::Error::other(text),
    }
}

impl Write for Lmtp {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.spool.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Delivery for Lmtp {
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
        self.current = Some(message.key.clone());
        Ok(())
    }

    fn abandon(&mut self) {
        self.current = None;
        self.spool = Spool::default();
    }

    fn finish(&mut self, record: &mut Record) -> Result<(), Failure> {
        let Some(key) = self.current.take() else {
            return Ok(());
        };
        record.intend([key.as_str()], None)?;
        let result = self.send();
        self.spool = Spool::default();
        match result {
            Ok(()) => {
                self.done.push(key);
                Ok(())
            }
            Err(failure) => {
                // An answer that did not come leaves it open what became of the message.
                if matches!(failure, Failure::Message(_)) {
                    record.refrain()?;
                }
                Err(failure)
            }
        }
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
