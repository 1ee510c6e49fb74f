//! The same with a whole server, as inetd starts it: either one process is killed, and another of the server's finishes
//! the work at once, or all are. Or with another server, for comparison: the original, and Dovecot's `pop3`, which serves
//! whoever has logged in elsewhere.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::mount::{MountFlags, mount};
use system_tests::machine::mail_group;
use system_tests::program;
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

/// The same of Dovecot: its indexes, in the user's home.
const DOVECOT_STATE: &str = "/home/alice/mail";

/// Where Dovecot's configuration is.
const DOVECOT_CONFIGURATION: &str = "/etc/dovecot-under-test.conf";

/// Dovecot's process for one session.
const DOVECOT: &str = "usr/lib/dovecot/pop3";

/// Header lines that Dovecot adds and changes; no shape has them.
const ADDED: [&[u8]; 7] = [
    b"X-UID:",
    b"X-IMAP:",
    b"X-IMAPbase:",
    b"Status:",
    b"X-Status:",
    b"X-Keywords:",
    b"Content-Length:",
];

/// A site whose server is interrupted.
pub struct Target<'a> {
    site: &'a Site<'a>,
    is_dovecot: bool,
}

/// One session.
struct Session {
    run: Run,
    /// QUIT was answered `+OK`.
    done: bool,
}

impl<'a> Target<'a> {
    /// The site's own server.
    pub fn new(site: &'a Site<'a>) -> Self {
        Self {
            site,
            is_dovecot: false,
        }
    }

    /// Debian's Dovecot at this site.
    ///
    /// # Errors
    /// It is not there.
    pub fn dovecot(site: &'a Site<'a>) -> io::Result<Self> {
        let path = program::debian(DOVECOT).ok_or(io::ErrorKind::NotFound)?;
        // It looks for the rest of itself where it would be if it were installed.
        let apart = path.to_str().and_then(|path| path.strip_suffix(DOVECOT));
        if let Some(apart) = apart.filter(|&apart| apart != "/") {
            let options = format!("lowerdir={apart}usr:/usr\0");
            let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes())
                .map_err(io::Error::other)?;
            mount("overlay", "/usr", "overlay", MountFlags::empty(), options)?;
        }
        let text = format!(
            "protocols = pop3\nmail_location = mbox:{DOVECOT_STATE}:INBOX=/var/mail/%u\n\
             mbox_read_locks = fcntl\nmbox_write_locks = fcntl\nlog_path = /dev/null\n\
             stats_writer_socket_path =\n"
        );
        fs::write(DOVECOT_CONFIGURATION, text)?;
        Ok(Self {
            site,
            is_dovecot: true,
        })
    }

    /// How many calls there are in an update that is not interrupted, or why it does not work.
    ///
    /// # Errors
    /// The server cannot be run.
    pub fn calls(&self, shape: &Shape) -> io::Result<Result<usize, String>> {
        self.reset(shape)?;
        let session = self.session(&shape.deleted, None, false)?;
        let found = self.found()?;
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
        let found = self.found()?;
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

    /// The mailbox, but for what Dovecot adds to messages.
    fn found(&self) -> io::Result<Vec<u8>> {
        let found = fs::read(self.site.mailbox(OWNER))?;
        if !self.is_dovecot {
            return Ok(found);
        }
        let is_own = |line: &&[u8]| !ADDED.iter().any(|added| line.starts_with(added));
        let lines: Vec<&[u8]> = found
            .split_inclusive(|&octet| octet == b'\n')
            .filter(is_own)
            .collect();
        Ok(lines.concat())
    }

    fn reset(&self, shape: &Shape) -> io::Result<()> {
        if self.is_dovecot {
            match fs::remove_dir_all(DOVECOT_STATE) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
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
        let mut commands = String::new();
        if !self.is_dovecot {
            commands += &format!("USER {}\r\nPASS {}\r\n", OWNER.name, OWNER.password);
        }
        for index in deleted {
            commands += &format!("DELE {}\r\n", index + 1);
        }
        // At once: many small ones do not fit into the socket's buffer, and the server is not there yet.
        write!(client, "{commands}QUIT\r\n")?;
        let mut command = match self.is_dovecot {
            true => dovecot(),
            false => self.site.command(),
        };
        command.stdout(OwnedFd::from(server.try_clone()?));
        command.stdin(OwnedFd::from(server));
        command.stderr(std::process::Stdio::null());
        let mail = self.site.mailbox(OWNER);
        let mail = mail.parent().unwrap_or(&mail);
        let watched = [mail, Path::new(STATE), Path::new(DOVECOT_STATE)];
        let run = faults::run(&mut command, &watched, fault, alone)?;
        drop(command);
        let mut replies = String::new();
        // A server that was killed may have left what its client sent unread.
        let _ = client.read_to_string(&mut replies);
        let answered = replies.matches("+OK").count();
        Ok(Session {
            run,
            // Each DELE and QUIT; before them the greeting, USER and PASS, or what a login process would pass on.
            done: answered == deleted.len() + if self.is_dovecot { 1 } else { 4 },
        })
    }
}

/// Dovecot's process, as its master starts it for a user who has logged in.
fn dovecot() -> Command {
    let mut command = Command::new(Path::new("/").join(DOVECOT));
    command
        .arg("-c")
        .arg(DOVECOT_CONFIGURATION)
        .current_dir("/");
    command.env_clear().env("PATH", "/usr/bin:/bin");
    command.env("USER", OWNER.name).env("HOME", "/home/alice");
    command.uid(OWNER.id).gid(mail_group());
    command
}
