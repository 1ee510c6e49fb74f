//! The process that speaks with one LMTP client: nobody, without files but the one a message is kept in.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use confine::channel::{Channel, Received};
use confine::identity::Identity;
use confine::sandbox::{Limits, Sandbox};
use confine::seccomp::{Allow, BASE, MESSAGES, PANIC, Policy};

use super::session::{Backend, Outcome, Session};
use super::{Answer, Begin, Request};

/// Octets gathered before a write.
const PIECE_OCTETS: usize = 64 * 1024;

/// Descriptors: client, channel, log and a message.
const MAX_OPEN_FILES: u64 = 16;

/// The message is written from the beginning again and again.
const KEEP: &[Allow] = &[
    Allow::any(libc::SYS_lseek, "the beginning of the file"),
    Allow::any(libc::SYS_ftruncate, "the next message"),
];

/// Is such a process: the client is standard input, the channel standard output. `ids` are user and group to become.
pub fn run(ids: &[u32]) -> ExitCode {
    match serve(ids) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("popa3ctl: LMTP session: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn serve(ids: &[u32]) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let duplicate =
        |fd: &dyn Fn() -> io::Result<std::os::fd::OwnedFd>| fd().map_err(|it| text(&it));
    let client = duplicate(&|| io::stdin().as_fd().try_clone_to_owned())?;
    let channel = duplicate(&|| io::stdout().as_fd().try_clone_to_owned())?;
    let channel = Channel::from_fd(channel).map_err(|error| text(&error))?;
    let program = Policy::new("lmtp", &[BASE, MESSAGES, PANIC, KEEP])
        .compile()
        .map_err(|error| text(&error))?;
    let identity = match ids {
        [uid, gid] => {
            let not_root = |_| "must not be root".to_owned();
            let gid = (*gid).try_into().map_err(not_root)?;
            Some(Identity {
                uid: (*uid).try_into().map_err(not_root)?,
                gid,
                groups: vec![gid],
            })
        }
        _ => None,
    };
    let (begin, kept) = match channel.receive::<Begin>() {
        Ok(Received::Message(begin, descriptors)) => {
            let [file] = descriptors.into_array().ok_or("no file")?;
            (begin, File::from(file))
        }
        Ok(Received::Closed) => return Ok(()),
        Err(error) => return Err(text(&error)),
    };
    let mut sandbox = Sandbox::new(&program).limits(Limits {
        open_files: Some(MAX_OPEN_FILES),
        processes: Some(0),
        ..Limits::default()
    });
    if let Some(identity) = &identity {
        sandbox = sandbox.identity(identity);
    }
    // Entered before the first octet of the client's is looked at.
    let (_confined, _) = sandbox.enter().map_err(|error| text(&error))?;
    let mut asking = Asking {
        channel,
        kept: io::BufWriter::with_capacity(PIECE_OCTETS, kept),
    };
    let client = File::from(client);
    let input = io::BufReader::with_capacity(PIECE_OCTETS, &client);
    match Session::new(&mut asking, begin.max_octets).serve(input, &client) {
        // The client's business.
        Err(error) if is_clients(&error) => Ok(()),
        other => other.map_err(|error| text(&error)),
    }
}

fn is_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::WouldBlock
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
    )
}

/// Asks the process that started this one.
struct Asking {
    channel: Channel,
    kept: io::BufWriter<File>,
}

impl Asking {
    fn ask(&self, request: &Request) -> io::Result<Outcome> {
        self.channel.send(request, &[]).map_err(io::Error::other)?;
        match self.channel.receive::<Answer>().map_err(io::Error::other)? {
            Received::Message(Answer(outcome), _) => Ok(outcome),
            Received::Closed => Err(io::Error::other("the server has ended")),
        }
    }
}

impl Backend for Asking {
    fn check(&mut self, recipient: &str) -> io::Result<Outcome> {
        let recipient = recipient.to_owned();
        self.ask(&Request::Check { recipient })
    }

    fn begin(&mut self) -> io::Result<()> {
        // What an earlier message has left is not to be written now.
        self.kept.flush()?;
        let file = self.kept.get_mut();
        file.set_len(0)?;
        file.rewind()
    }

    fn keep(&mut self, piece: &[u8]) -> io::Result<()> {
        self.kept.write_all(piece)
    }

    fn deliver(&mut self, sender: &str, recipient: &str) -> io::Result<Outcome> {
        if self.kept.flush().is_err() {
            return Ok(Outcome::Temporary);
        }
        self.ask(&Request::Deliver {
            sender: sender.to_owned(),
            recipient: recipient.to_owned(),
        })
    }
}
