//! The same with the whole server, as inetd starts it: either one process is killed, and another of the server's finishes
//! the work at once, or all are.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use system_tests::site::Site;
use system_tests::users::{ALICE, User};
use tracer::faults::{self, Fault, Run};

use crate::Count;
use crate::shapes::{Shape, message};
use system_tests::random::Random;

/// Whose mailbox it is.
const OWNER: User = ALICE;

/// Where the server keeps its state.
const STATE: &str = "/var/lib/popa3d";

/// A site whose server is interrupted.
pub struct Target<'a> {
    site: &'a Site<'a>,
}

/// One session.
struct Session {
    run: Run,
    /// QUIT was answered `+OK`.
    done: bool,
}

impl<'a> Target<'a> {
    /// At this site.
    pub fn new(site: &'a Site<'a>) -> Self {
        Self { site }
    }

    /// How many calls there are in an update that is not interrupted, or why it does not work.
    ///
    /// # Errors
    /// The server cannot be run.
    pub fn calls(&self, shape: &Shape) -> io::Result<Result<usize, String>> {
        self.reset(shape)?;
        let session = self.session(&shape.deleted, None, false)?;
        let found = fs::read(self.site.mailbox(OWNER))?;
        Ok(match session.done && found == shape.after() {
            true => Ok(session.run.calls.len()),
            false => Err(format!("done: {}, {} octets", session.done, found.len())),
        })
    }

    /// Interrupts an update at a call, delivers, opens twice more, the first time with an interruption, and judges.
    ///
    /// `alone`: one process is killed, and not all.
    ///
    /// # Errors
    /// The server cannot be run.
    pub fn try_at(
        &self,
        shape: &Shape,
        call: usize,
        fault: Fault,
        alone: bool,
    ) -> io::Result<(Count, Option<String>)> {
        let mut random = Random::new(call as u64);
        self.reset(shape)?;
        let first = self.session(&shape.deleted, Some((call, fault)), alone)?;
        let late = message("late", 400);
        let mut mailbox = fs::File::options()
            .append(true)
            .open(self.site.mailbox(OWNER))?;
        mailbox.write_all(&late)?;
        drop(mailbox);
        let again = 1 + random.below(12);
        let second = self.session(&[], Some((again, Fault::Torn)), alone)?;
        let last = self.session(&[], None, false)?;
        let found = fs::read(self.site.mailbox(OWNER))?;
        let deleted = found == [shape.after(), late.clone()].concat();
        let complaint = if !last.done {
            Some("it does not open".to_owned())
        } else if first.done && !deleted {
            Some("reported done, and is not".to_owned())
        } else if !deleted && found != [shape.before(), late].concat() {
            Some(format!("{} octets that it should not be", found.len()))
        } else {
            None
        };
        let count = Count {
            points: 1,
            hit: first.run.hit.into(),
            reported: first.done.into(),
            deleted: deleted.into(),
            twice: second.run.hit.into(),
            bad: complaint.is_some().into(),
        };
        Ok((count, complaint))
    }

    fn reset(&self, shape: &Shape) -> io::Result<()> {
        for directory in ["journal", "index", "locks"] {
            match fs::remove_dir_all(Path::new(STATE).join(directory)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.site.deliver(OWNER, &shape.messages.concat());
        Ok(())
    }

    /// Logs in, deletes and quits, all sent at once.
    fn session(
        &self,
        deleted: &[usize],
        fault: Option<(usize, Fault)>,
        alone: bool,
    ) -> io::Result<Session> {
        // The original waits for a mailbox to be a second old.
        system_tests::site::age(&self.site.mailbox(OWNER));
        let (mut client, server) = UnixStream::pair()?;
        write!(client, "USER {}\r\nPASS {}\r\n", OWNER.name, OWNER.password)?;
        for index in deleted {
            write!(client, "DELE {}\r\n", index + 1)?;
        }
        write!(client, "QUIT\r\n")?;
        let mut command = self.site.command();
        command.stdout(OwnedFd::from(server.try_clone()?));
        command.stdin(OwnedFd::from(server));
        command.stderr(std::process::Stdio::null());
        let mail = self.site.mailbox(OWNER);
        let mail = mail.parent().unwrap_or(&mail);
        let watched = [mail, Path::new(STATE)];
        let run = faults::run(&mut command, &watched, fault, alone)?;
        drop(command);
        let mut replies = String::new();
        // A server that was killed may have left what its client sent unread.
        let _ = client.read_to_string(&mut replies);
        let answered = replies.matches("+OK").count();
        Ok(Session {
            run,
            // Greeting, USER, PASS, each DELE, QUIT.
            done: answered == deleted.len() + 4,
        })
    }
}
