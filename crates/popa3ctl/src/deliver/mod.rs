//! `popa3ctl deliver`: a message into a user's maildrop, for a mail transfer agent or a script.
//!
//! Started by root it finds the user's maildrop as the server would, becomes the user for good, and only then reads the message.
//! Started by anybody else it delivers to that user. What it has to say it says by its exit status, which is that of
//! sysexits.h; the mail transfer agent decides by it whether to try again.

mod exit;
mod lmtp;
mod message;
mod recipient;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use confine::identity::{self, Identity, NonRootGid};
use maildrop::{Class, OpenOptions};
use role_maildrop::file_lock::file_lock;
use rustix::fs::Mode;

use exit::Failure;
use recipient::Recipient;

/// Delivers a message, read from standard input, to a user's maildrop; or serves LMTP clients that do.
#[derive(Debug, Args)]
pub struct Deliver {
    /// The user, as the server would be told at login.
    #[arg(required_unless_present_any = ["lmtp", "lmtp_listen"])]
    user: Option<String>,
    /// The server's configuration; what the server looks for by default.
    #[arg(short, long, value_name = "FILE")]
    configuration: Option<PathBuf>,
    /// The envelope's sender; empty for a bounce.
    #[arg(short = 'f', long, value_name = "ADDRESS")]
    sender: Option<String>,
    /// How long to wait for other programs' locks, in seconds; what the server would wait by default.
    #[arg(long, value_name = "SECONDS")]
    lock_timeout: Option<u64>,
    /// Delivers nothing: only says whether there is such a user.
    #[arg(long)]
    check: bool,
    /// Serves LMTP on a socket that it makes there.
    #[arg(long, value_name = "SOCKET", conflicts_with_all = ["user", "sender", "lock_timeout", "check"])]
    lmtp: Option<PathBuf>,
    /// Serves LMTP on an address and port. Whoever reaches it can deliver.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["user", "sender", "lock_timeout", "check", "lmtp"])]
    lmtp_listen: Option<SocketAddr>,
    /// Octets of a message that LMTP clients may deliver.
    #[arg(long, value_name = "OCTETS", default_value_t = DEFAULT_MAX_OCTETS)]
    max_octets: u64,
}

/// 100 MiB: more than mail transfer agents let through unless told to.
const DEFAULT_MAX_OCTETS: u64 = 100 * 1024 * 1024;

/// Is a process that speaks with one LMTP client.
#[derive(Debug, Args)]
pub struct LmtpSession {
    /// User and group to become.
    ids: Vec<u32>,
}

/// Speaks with an LMTP client.
pub fn run_lmtp_session(session: &LmtpSession) -> ExitCode {
    lmtp::run_session(&session.ids)
}

/// Delivers.
pub fn run(command: &Deliver) -> ExitCode {
    match command.deliver() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

impl Deliver {
    fn deliver(&self) -> Result<(), Failure> {
        let server = lmtp::Server {
            configuration: self.configuration.clone(),
            max_octets: self.max_octets,
        };
        match (&self.lmtp, self.lmtp_listen, &self.user) {
            (Some(path), ..) => server.listen_at(path),
            (None, Some(address), _) => server.listen_on(address),
            (None, None, Some(user)) => self.deliver_to(user),
            (None, None, None) => Err(Failure::no_user("no user is named")),
        }
    }

    fn deliver_to(&self, user: &str) -> Result<(), Failure> {
        let recipient = Recipient::find(user, self.configuration.as_deref())?;
        if self.check {
            return Ok(());
        }
        become_user(&recipient)?;
        // What is made is the user's alone, whatever the caller's habits.
        rustix::process::umask(Mode::RWXG | Mode::RWXO);
        let sender = self.sender.as_deref();
        let mut letter = message::read(io::stdin().lock(), sender, recipient.location.is_mbox())
            .map_err(|error| Failure::temporary(format_args!("read the message: {error}")))?;
        let configuration = &recipient.spawner;
        let options = OpenOptions {
            owner: recipient.uid.as_raw(),
            dotlock: configuration.dotlock,
        };
        let wait = self.lock_timeout.map(Duration::from_secs);
        maildrop::deliver::deliver(
            &recipient.location,
            &options,
            wait.unwrap_or(configuration.lock_timeout),
            file_lock(configuration.lock),
            &mut letter,
        )
        .map_err(|error| match error.class() {
            Class::InUse | Class::Temporary => Failure::temporary(error),
            Class::Permanent => Failure::cannot_create(error),
        })
    }
}

/// Becomes the recipient, in the group of the spool besides where the mailbox is in one: it takes that to make a mailbox there, and a
/// dotlock. Nothing of the recipient's is run.
fn become_user(recipient: &Recipient) -> Result<(), Failure> {
    let own = rustix::process::geteuid();
    if !own.is_root() {
        return match recipient.uid.as_raw() == own.as_raw() {
            true => Ok(()),
            false => Err(Failure::no_permission(
                "only root delivers to somebody else than itself",
            )),
        };
    }
    let mut groups = vec![recipient.gid];
    groups.extend(spool_group(recipient).filter(|&group| group != recipient.gid));
    let identity = Identity {
        uid: recipient.uid,
        gid: recipient.gid,
        groups,
    };
    identity::drop_to(&identity).map_err(Failure::temporary)
}

/// The group that may write to the spool; `None` where it is root's.
fn spool_group(recipient: &Recipient) -> Option<NonRootGid> {
    let spool = std::fs::metadata(recipient.spool.as_ref()?).ok()?;
    NonRootGid::try_from(spool.gid()).ok()
}
