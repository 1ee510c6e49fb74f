//! A POP3 client that forgives nothing: exact status words, CRLF ends, doubled dots, a deadline on every read.
//! It panics at the first departure from RFC 1939, because a test has nothing to do after one.

use crate::poll::PATIENCE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Octets of the first line of a reply, its CRLF among them (RFC 2449 section 4).
pub const MAX_REPLY_OCTETS: usize = 512;

/// Octets of a challenge, more than SCRAM's longest in base64.
const MAX_CHALLENGE_OCTETS: usize = 8 * 1024;

/// The first line of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// `+OK`, not `-ERR`.
    pub ok: bool,
    /// What follows the status and one space.
    pub text: String,
}

impl Reply {
    /// The response code, without its brackets (RFC 2449 section 8).
    pub fn code(&self) -> Option<&str> {
        Some(self.text.strip_prefix('[')?.split_once(']')?.0)
    }
}

/// One connection, from the client's side.
pub struct Pop {
    input: OwnedFd,
    output: Option<OwnedFd>,
    unread: Vec<u8>,
    taken: usize,
}

impl Pop {
    /// Connects and expects the greeting.
    pub fn connect(address: SocketAddr) -> Pop {
        let mut pop = Pop::dial(address);
        let greeting = pop.reply();
        assert!(greeting.ok, "greeted with -ERR {}", greeting.text);
        pop
    }

    /// Connects and reads nothing.
    pub fn dial(address: SocketAddr) -> Pop {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Pop::over(stream.into())
    }

    /// As [`Pop::dial`], from a chosen address.
    pub fn dial_from(source: IpAddr, address: SocketAddr) -> Pop {
        let family = if source.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let socket = rustix::net::socket(family, SocketType::STREAM, None).expect("a socket");
        rustix::net::bind(&socket, &SocketAddr::new(source, 0)).expect("the source address");
        rustix::net::connect(&socket, &address)
            .unwrap_or_else(|error| panic!("{address}: {error}"));
        Pop::over(socket)
    }

    /// Speaks over `socket`.
    pub fn over(socket: OwnedFd) -> Pop {
        let output = socket.try_clone().expect("a second descriptor");
        Pop::over_pair(socket, output)
    }

    /// Speaks over two descriptors, for example of pipes.
    pub fn over_pair(input: OwnedFd, output: OwnedFd) -> Pop {
        rustix::io::ioctl_fionbio(&input, true).expect("non-blocking input");
        rustix::io::ioctl_fionbio(&output, true).expect("non-blocking output");
        Pop {
            input,
            output: Some(output),
            unread: Vec::new(),
            taken: 0,
        }
    }

    /// Sends octets as they are; what arrives meanwhile is kept, so that neither side waits for ever.
    ///
    /// # Panics
    /// When the server has closed.
    pub fn send(&mut self, octets: &[u8]) {
        assert!(
            self.try_send(octets),
            "the server closed while it was written to"
        );
    }

    /// As [`Pop::send`]; false when the server has closed.
    pub fn try_send(&mut self, mut octets: &[u8]) -> bool {
        while !octets.is_empty() {
            let output = self.output.as_ref().expect("a connection not half closed");
            match rustix::io::write(output, octets) {
                Ok(written) => octets = &octets[written..],
                Err(Errno::AGAIN) => {
                    if self.wait(PollFlags::OUT) && !self.fill() {
                        return false;
                    }
                }
                Err(Errno::PIPE | Errno::CONNRESET) => return false,
                Err(error) => panic!("write: {error}"),
            }
        }
        true
    }

    /// Sends a command line.
    pub fn send_line(&mut self, line: &str) {
        self.send(format!("{line}\r\n").as_bytes());
    }

    /// Sends a command and reads the first line of the reply.
    pub fn ask(&mut self, command: &str) -> Reply {
        self.send_line(command);
        self.reply()
    }

    /// Sends a command that must be accepted; returns the text of the reply.
    pub fn ok(&mut self, command: &str) -> String {
        let reply = self.ask(command);
        assert!(reply.ok, "{command:?} was answered -ERR {}", reply.text);
        reply.text
    }

    /// Sends a command that must be refused; returns the text of the reply.
    pub fn err(&mut self, command: &str) -> String {
        let reply = self.ask(command);
        assert!(!reply.ok, "{command:?} was answered +OK {}", reply.text);
        reply.text
    }

    /// Sends a line that must be answered by a challenge (RFC 5034 section 4); returns its base64.
    ///
    /// # Panics
    /// When the answer is something else.
    pub fn challenge(&mut self, line: &str) -> String {
        self.send_line(line);
        let answer = self.line(MAX_CHALLENGE_OCTETS).expect("a challenge");
        let answer = String::from_utf8(answer).expect("a challenge in ASCII");
        let challenge = answer.strip_prefix("+ ");
        challenge
            .unwrap_or_else(|| panic!("{line:?} was answered {answer:?}"))
            .to_owned()
    }

    /// Sends a command with a multi-line reply; returns the reply's lines, CRLF ended, dots undone.
    pub fn listing(&mut self, command: &str) -> Vec<u8> {
        self.ok(command);
        self.lines()
    }

    /// As [`Pop::listing`], as text, a line each.
    pub fn list(&mut self, command: &str) -> Vec<String> {
        let listing = String::from_utf8(self.listing(command)).expect("a listing in ASCII");
        listing
            .split_terminator("\r\n")
            .map(str::to_owned)
            .collect()
    }

    /// USER and PASS, both accepted.
    pub fn login(&mut self, name: &str, password: &str) {
        self.ok(&format!("USER {name}"));
        self.ok(&format!("PASS {password}"));
    }

    /// The first line of a reply.
    ///
    /// # Panics
    /// When the connection ends, or the line is not a status.
    pub fn reply(&mut self) -> Reply {
        self.try_reply()
            .expect("a reply before the connection ended")
    }

    /// The first line of a reply, or `None` if the connection ends cleanly before it.
    ///
    /// # Panics
    /// When the line is not a status, too long, cut off, or ends otherwise than by CRLF.
    pub fn try_reply(&mut self) -> Option<Reply> {
        let line = self.line(MAX_REPLY_OCTETS)?;
        let text = line.escape_ascii().to_string();
        assert!(line.is_ascii() && !line.contains(&b'\r'), "reply {text}");
        let (ok, rest) = match (line.strip_prefix(b"+OK"), line.strip_prefix(b"-ERR")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => panic!("reply {text}"),
        };
        assert!(rest.is_empty() || rest.starts_with(b" "), "reply {text}");
        let text = String::from_utf8_lossy(rest.strip_prefix(b" ").unwrap_or(rest)).into_owned();
        Some(Reply { ok, text })
    }

    /// The lines of a multi-line reply up to the final dot, CRLF ended, dots undone (RFC 1939 section 3).
    pub fn lines(&mut self) -> Vec<u8> {
        self.try_lines()
            .expect("the final dot before the connection ended")
    }

    /// As [`Pop::lines`]; `None` when the connection ends before the final dot.
    pub fn try_lines(&mut self) -> Option<Vec<u8>> {
        let mut lines = Vec::new();
        loop {
            let line = self.line(usize::MAX)?;
            if line == b"." {
                return Some(lines);
            }
            assert!(
                !line.starts_with(b".") || line.starts_with(b".."),
                "a dot not doubled: {}",
                line[..line.len().min(80)].escape_ascii()
            );
            lines.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            lines.extend_from_slice(b"\r\n");
        }
    }

    /// Ends the sending half of the connection.
    pub fn half_close(&mut self) {
        if let Some(output) = self.output.take() {
            let _pipe = rustix::net::shutdown(&output, rustix::net::Shutdown::Write);
        }
    }

    /// Expects the server to close without another octet.
    ///
    /// # Panics
    /// When it sends something, or does not close.
    pub fn expect_closed(&mut self) {
        while self.wait(PollFlags::empty()) && self.fill() {}
        let rest = &self.unread[self.taken..];
        assert!(rest.is_empty(), "before the close: {}", rest.escape_ascii());
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.wait(PollFlags::empty()) && self.fill() {}
        self.unread
            .drain(..)
            .skip(std::mem::take(&mut self.taken))
            .collect()
    }

    /// Octets that have arrived within `patience`, without waiting for more than the first.
    pub fn arrived(&mut self, patience: Duration) -> usize {
        let mut fds = [PollFd::new(&self.input, PollFlags::IN)];
        let patience = Timespec::try_from(patience).expect("a short time");
        if poll(&mut fds, Some(&patience)).expect("poll") > 0 {
            self.fill();
        }
        self.unread.len() - self.taken
    }

    /// A line without its CRLF, or `None` at a clean end.
    fn line(&mut self, longest: usize) -> Option<Vec<u8>> {
        let mut looked = self.taken;
        loop {
            if let Some(end) = self.unread[looked..]
                .iter()
                .position(|octet| *octet == b'\n')
            {
                let end = looked + end;
                let line = &self.unread[self.taken..=end];
                let shown = line[..line.len().min(200)].escape_ascii();
                assert!(
                    line.len() <= longest,
                    "a line of {} octets: {shown}",
                    line.len()
                );
                let line = line
                    .strip_suffix(b"\r\n")
                    .unwrap_or_else(|| panic!("bare LF: {shown}"));
                let line = line.to_vec();
                self.taken = end + 1;
                return Some(line);
            }
            looked = self.unread.len();
            self.wait(PollFlags::empty());
            if !self.fill() {
                let cut = &self.unread[self.taken..];
                let shown = cut[..cut.len().min(200)].escape_ascii();
                assert!(
                    cut.is_empty() || longest == usize::MAX,
                    "a reply cut off: {shown}"
                );
                return None;
            }
            if self.taken > 0 && looked == self.unread.len() {
                continue;
            }
            // Keep the buffer from growing with the session.
            if self.taken > 1 << 20 {
                self.unread.drain(..self.taken);
                looked -= self.taken;
                self.taken = 0;
            }
        }
    }

    /// Waits until there is input, or what else is `wanted`; true if there is input.
    fn wait(&self, wanted: PollFlags) -> bool {
        let mut fds = vec![PollFd::new(&self.input, PollFlags::IN)];
        if let Some(output) = self.output.as_ref().filter(|_| !wanted.is_empty()) {
            fds.push(PollFd::new(output, wanted));
        }
        let patience = Timespec::try_from(PATIENCE).expect("a short time");
        let ready = poll(&mut fds, Some(&patience)).expect("poll");
        assert!(ready > 0, "the server was silent for {PATIENCE:?}");
        !fds[0].revents().is_empty()
    }

    /// Takes what has arrived; false at the end of the connection.
    fn fill(&mut self) -> bool {
        let mut block = vec![0_u8; 64 * 1024];
        match rustix::io::read(self.input.as_fd(), &mut block[..]) {
            Ok(0) => false,
            Ok(octets) => {
                self.unread.extend_from_slice(&block[..octets]);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => true,
            // The server closed with input of ours unread; everything it sent before has been taken.
            Err(Errno::CONNRESET) => false,
            Err(error) => panic!("read: {error}"),
        }
    }
}
