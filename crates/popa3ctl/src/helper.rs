//! Processes of popa3ctl's own that hold less than it does: one that is the owner of a maildrop, who alone may open it,
//! and one that meets the network and is nobody.
//!
//! They are this program started anew, so that nothing of the caller's memory (passwords, other users) is in them. What is
//! no secret is in an argument; a secret, or a file of the state directory, comes as standard input; the answer is JSON on
//! standard output. It comes from a less trusted side, and is bounded and typed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use confine::identity::Identity;
use maildrop::Journal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::convert::as_owner::{self as conversion, Conversion};
use crate::uidl::local::{self, Listing};
use crate::uidl::remote;
use crate::undelete;

/// Octets of an answer: a few hundred for each message of the largest maildrop allowed.
const MAX_ANSWER_OCTETS: u64 = 1024 * 1024 * 1024;

/// What a process is started for.
#[derive(Debug, Serialize, Deserialize)]
pub enum Task {
    /// List a maildrop, as its owner.
    List(Listing),
    /// Convert a maildrop, as its owner.
    Convert(Conversion),
    /// List another server's maildrop, as nobody.
    Remote,
    /// Say whether a journal has an update that is yet to be finished, as the maildrop's owner, who wrote it.
    Unfinished,
    /// List what is hidden, or show it again, as the maildrop's owner, whose process wrote the list.
    Undelete(undelete::Order),
}

/// What comes as standard input.
pub enum Input {
    /// Nothing.
    None,
    /// A file for reading and writing.
    File(File),
    /// Octets that nobody else is to see.
    Secret(Zeroizing<Vec<u8>>),
}

/// Runs a task in a process that is `identity`, or the caller.
///
/// # Errors
/// One sentence: the task's, or why it could not be done at all.
pub fn run<T: DeserializeOwned>(
    identity: Option<&Identity>,
    task: &Task,
    input: Input,
) -> Result<T, String> {
    let failed = |error: io::Error| format!("helper process: {error}");
    let argument = serde_json::to_string(task).map_err(|error| error.to_string())?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("helper")
        .arg(argument)
        .current_dir("/")
        .stdout(Stdio::piped());
    // The environment of a process can be read by whose it is.
    command.env_clear();
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if let Some(identity) = identity {
        // This gives up all other groups too.
        command.uid(identity.uid.into()).gid(identity.gid.into());
    }
    let secret = match input {
        Input::None => {
            command.stdin(Stdio::null());
            None
        }
        Input::File(file) => {
            command.stdin(file);
            None
        }
        Input::Secret(secret) => {
            command.stdin(Stdio::piped());
            Some(secret)
        }
    };
    let mut child = command.spawn().map_err(failed)?;
    if let (Some(secret), Some(mut pipe)) = (secret, child.stdin.take()) {
        // A process that has ended says why by its answer.
        drop(pipe.write_all(&secret));
    }
    let mut answer = Vec::new();
    let read = match child.stdout.take() {
        Some(pipe) => pipe.take(MAX_ANSWER_OCTETS).read_to_end(&mut answer),
        None => Ok(0),
    };
    let status = child.wait().map_err(failed)?;
    read.map_err(failed)?;
    serde_json::from_slice::<Result<T, String>>(&answer)
        .map_err(|_| format!("helper process: {status}, no answer"))?
}

/// Is such a process.
pub fn serve(task: &str) -> ExitCode {
    let done = match serde_json::from_str(task) {
        Ok(Task::List(listing)) => answer(&local::list(&listing, given_file())),
        Ok(Task::Convert(conversion)) => answer(&conversion::convert(&conversion, given_file())),
        Ok(Task::Unfinished) => answer(&is_unfinished()),
        Ok(Task::Undelete(order)) => answer(&undelete::carry_out(&order, given_file())),
        Ok(Task::Remote) => answer(&remote::list_as_told(io::stdin().lock())),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("popa3ctl: helper process: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_unfinished() -> Result<bool, String> {
    let journal = given_file().ok_or("no journal")?;
    let place = Journal::unfinished(&journal).map_err(|error| format!("journal: {error}"))?;
    Ok(place.is_some())
}

/// Standard input, if that is a file that was given to this process.
fn given_file() -> Option<File> {
    let file = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    file.metadata()
        .is_ok_and(|metadata| metadata.is_file())
        .then_some(file)
}

fn answer<T: Serialize>(result: &Result<T, String>) -> io::Result<()> {
    let mut output = io::BufWriter::new(io::stdout().lock());
    serde_json::to_writer(&mut output, result)?;
    output.flush()
}
