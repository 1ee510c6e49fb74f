//! Who runs the program, on which host, and how a daemon leaves its terminal.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;

use confine::process::{self, Fork};
use confine::users;
use messages::account::{Account, Rights};

use crate::configuration::Runner;

/// Used where the host does not know its name.
const NAMELESS: &str = "localhost";

/// Who runs the server.
///
/// # Errors
/// The password database cannot be asked, or the user has root's group.
pub fn find() -> io::Result<Runner> {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return Ok(Runner::Root);
    }
    let uid = uid.as_raw();
    let gid = rustix::process::getegid().as_raw();
    // In a container the user may have a number only.
    let (name, home) = match users::by_uid(uid)? {
        Some(user) => (user.name, user.home),
        None => (uid.to_string(), "/nonexistent".to_owned()),
    };
    let not_root = |_| io::Error::other("neither the user nor its group may be root's");
    Ok(Runner::Ordinary(Account {
        name,
        uid: uid.try_into().map_err(not_root)?,
        gid: gid.try_into().map_err(not_root)?,
        home,
        maildrop: None,
        rights: Rights::Full,
    }))
}

/// The host's name, for APOP's timestamp.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name
        .trim()
        .chars()
        .filter(|character| character.is_ascii_alphanumeric() || ".-".contains(*character))
        .take(255)
        .collect();
    if name.is_empty() {
        NAMELESS.into()
    } else {
        name
    }
}

/// How a daemon tells the process it was started by that it is at work.
#[derive(Debug)]
pub struct Ready(PipeWriter);

impl Ready {
    const OCTET: u8 = b'+';

    /// The starter may go now; standard input, output and error are given up.
    pub fn tell(mut self) {
        // A starter that has gone, or a missing /dev/null, is no reason not to serve.
        let _ = self.0.write_all(&[Self::OCTET]);
        let _ = give_up_standard_descriptors();
    }
}

/// Runs `serve` in a process of its own session, and returns in the first process once that one is at work.
///
/// # Errors
/// What `serve` says, in the new process; that it did not start, in the first.
pub fn detach(serve: impl FnOnce(Ready) -> Result<(), String>) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let (reader, writer) = io::pipe().map_err(text)?;
    match process::fork().map_err(text)? {
        Fork::Parent(_) => {
            drop(writer);
            wait_for(reader)
        }
        Fork::Child => {
            drop(reader);
            process::lead_own_session().map_err(text)?;
            std::env::set_current_dir("/").map_err(text)?;
            serve(Ready(writer))
        }
    }
}

fn wait_for(mut reader: PipeReader) -> Result<(), String> {
    let mut octet = [0];
    match reader.read(&mut octet) {
        Ok(1) if octet == [Ready::OCTET] => Ok(()),
        _ => Err("not started".into()),
    }
}

/// Makes standard input, output and error /dev/null, unless they are.
pub fn give_up_standard_descriptors() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(null.as_fd())?;
    rustix::stdio::dup2_stdout(null.as_fd())?;
    rustix::stdio::dup2_stderr(null.as_fd())?;
    Ok(())
}
