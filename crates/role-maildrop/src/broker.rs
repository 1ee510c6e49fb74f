//! Dotlocks that the locker makes: who asks for it, and how.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use confine::channel::{Channel, Received};
use confine::socket::wait_readable;
use maildrop::LockBroker;
use messages::locker::{LockAnswer, LockOutcome, LockRequest, MailboxName, NewMailbox, Wanted};
use messages::spawner::SpawnerConfig;

/// The locker answers at once; one that does not has been stopped.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Who makes a mailbox's dotlock.
#[derive(Debug)]
pub enum DotlockBy {
    /// Whoever works on the mailbox, if dotlocks are configured at all.
    Oneself,
    /// The locker, over this channel. The lock lasts for as long as anybody holds it.
    Locker(Channel),
    /// The locker, which is not there. The mailbox cannot be locked, and so not be opened.
    Nobody(String),
}

impl DotlockBy {
    /// For the mailbox at `path`: the locker is told of it if it is in the spool.
    pub fn of(path: &Path, configuration: &SpawnerConfig, locker: Option<&Channel>) -> Self {
        let spool = configuration.locker_directory.as_deref();
        if !configuration.dotlock || spool.is_none() || path.parent() != spool {
            return DotlockBy::Oneself;
        }
        match announce(path, locker) {
            Ok(channel) => DotlockBy::Locker(channel),
            Err(error) => DotlockBy::Nobody(error.to_string()),
        }
    }

    /// The channel, if there is one.
    pub fn channel(&self) -> Option<&Channel> {
        match self {
            DotlockBy::Locker(channel) => Some(channel),
            DotlockBy::Oneself | DotlockBy::Nobody(_) => None,
        }
    }

    /// Who is to be asked by the process that works on the mailbox; `None`: nobody.
    ///
    /// # Errors
    /// There is no locker, or no descriptor.
    pub fn broker(&self) -> io::Result<Option<Box<dyn LockBroker>>> {
        match self {
            DotlockBy::Oneself => Ok(None),
            DotlockBy::Nobody(reason) => Err(io::Error::other(reason.clone())),
            DotlockBy::Locker(channel) => {
                let channel = channel.as_fd().try_clone_to_owned()?;
                Ok(Some(Box::new(Broker {
                    channel: Channel::from_fd(channel).map_err(io::Error::other)?,
                    next: Cell::new(u64::from(std::process::id()) << 32),
                })))
            }
        }
    }
}

/// A new channel by which the mailbox can be locked.
fn announce(path: &Path, locker: Option<&Channel>) -> io::Result<Channel> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    let name = MailboxName::try_from(name).map_err(io::Error::other)?;
    let (ours, theirs) = Channel::pair()?;
    locker
        .ok_or_else(|| io::Error::other("the locker is not there"))?
        // Never waited for: one that has been stopped would stop all logins.
        .try_send(&NewMailbox { name }, &[theirs.as_fd()])
        .map_err(io::Error::other)?;
    Ok(ours)
}

/// The locker, as the process that works on the mailbox sees it.
#[derive(Debug)]
struct Broker {
    channel: Channel,
    /// The number of the next request: other processes' requests on this channel have others.
    next: Cell<u64>,
}

impl Broker {
    fn ask(&self, wanted: Wanted) -> io::Result<LockOutcome> {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        self.channel
            .send(&LockRequest { number, wanted }, &[])
            .map_err(io::Error::other)?;
        let deadline = Instant::now()
            .checked_add(ANSWER_TIMEOUT)
            .ok_or(io::ErrorKind::TimedOut)?;
        loop {
            wait_readable(&self.channel, deadline)?;
            match self.channel.receive::<LockAnswer>() {
                Ok(Received::Message(answer, _)) if answer.number == number => {
                    return Ok(answer.outcome);
                }
                // To a process that died before it could read it.
                Ok(Received::Message(_, _)) => {}
                Ok(Received::Closed) => return Err(io::Error::other("the locker has ended")),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

impl LockBroker for Broker {
    fn try_lock(&self) -> io::Result<bool> {
        match self.ask(Wanted::Lock)? {
            LockOutcome::Locked => Ok(true),
            LockOutcome::Busy => Ok(false),
            LockOutcome::Failed(error) => Err(io::Error::from_raw_os_error(error)),
            LockOutcome::Unlocked => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        self.ask(Wanted::Unlock).map(drop)
    }
}
