//! The one loop: the master, the spawner, and those who lock a mailbox.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use confine::channel::{Channel, ChannelError, Received};
use dotlock::{Dotlock, HeldDotlock};
use messages::locker::{
    LockAnswer, LockOutcome, LockRequest, MailboxName, NewMailbox, ToLocker, Wanted,
};
use messages::log::{Logger, Record};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// Requests taken before the master and the spawner are looked at again; each is a few calls.
const MAX_REQUESTS_IN_A_ROW: usize = 64;

/// Mailboxes taken before other events are looked at again.
const MAX_NEW_MAILBOXES_IN_A_ROW: usize = 64;

/// Mailboxes known at a time. The listener bounds them; this is for a spawner gone wild.
const MAX_MAILBOXES_KNOWN: usize = 64 * 1024;

/// How often held locks are looked at, whether they are to be shown alive: often enough that none is more than this late.
const REFRESH_CHECK: Duration = Duration::from_secs(10);

/// Trouble with locks is logged once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What is on the epoll beside the mailboxes, which count from 0.
const CONTROL: u64 = u64::MAX;
const SPAWNER: u64 = u64::MAX - 1;

/// A mailbox that may be locked by who holds the other end of the channel.
struct Mailbox {
    name: MailboxName,
    channel: Channel,
    held: Option<HeldDotlock>,
}

/// All that the role holds.
pub struct EventLoop<'a> {
    control: &'a Channel,
    /// The master is there.
    governed: bool,
    logger: Logger,
    logged: Option<Instant>,
    spool: Rc<OwnedFd>,
    spawner: Option<Channel>,
    epoll: OwnedFd,
    mailboxes: HashMap<u64, Mailbox>,
    next_mailbox: u64,
    refresh_due: Instant,
}

impl<'a> EventLoop<'a> {
    /// With a control channel and nothing else yet.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn new(control: &'a Channel, logger: Logger, spool: Rc<OwnedFd>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        watch(&epoll, control, CONTROL)?;
        Ok(Self {
            control,
            governed: true,
            logger,
            logged: None,
            spool,
            spawner: None,
            epoll,
            mailboxes: HashMap::new(),
            next_mailbox: 0,
            refresh_due: Instant::now(),
        })
    }

    /// Serves until the master and the spawner have gone *and* nobody holds a channel any more.
    ///
    /// # Errors
    /// epoll fails, or the master says something that cannot be understood.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(MAX_REQUESTS_IN_A_ROW);
        while self.governed || self.spawner.is_some() || !self.mailboxes.is_empty() {
            events.clear();
            let timeout = self.refresh();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    CONTROL => self.obey()?,
                    SPAWNER => self.take_mailboxes(),
                    number => self.hear(number),
                }
            }
        }
        Ok(())
    }

    /// Shows held locks to be alive where that is due; how long it is until they are to be looked at again.
    fn refresh(&mut self) -> Option<Timespec> {
        let mut held = self.mailboxes.values().filter_map(|it| it.held.as_ref());
        let first = held.next()?;
        let now = Instant::now();
        if self.refresh_due <= now {
            first.refresh();
            held.for_each(HeldDotlock::refresh);
            self.refresh_due = now.checked_add(REFRESH_CHECK).unwrap_or(now);
        }
        Timespec::try_from(self.refresh_due.saturating_duration_since(now)).ok()
    }

    // The master.

    fn obey(&mut self) -> io::Result<()> {
        match self.control.try_receive::<ToLocker>() {
            Ok(None) => Ok(()),
            Ok(Some(Received::Message(ToLocker::Spawner, mut descriptors))) => {
                let channel = descriptors.next().ok_or(io::ErrorKind::InvalidData)?;
                let channel = Channel::from_fd(channel).map_err(io::Error::other)?;
                // The old one leaves the epoll as it is closed.
                self.spawner = None;
                watch(&self.epoll, &channel, SPAWNER)?;
                self.spawner = Some(channel);
                Ok(())
            }
            Ok(Some(Received::Closed)) => {
                self.governed = false;
                epoll::delete(&self.epoll, self.control).map_err(Into::into)
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }

    // The spawner.

    fn take_mailboxes(&mut self) {
        for _ in 0..MAX_NEW_MAILBOXES_IN_A_ROW {
            let Some(spawner) = &self.spawner else {
                return;
            };
            match spawner.try_receive::<NewMailbox>() {
                Ok(None) => return,
                Ok(Some(Received::Message(new, mut descriptors))) => {
                    if let Some(channel) = descriptors.next()
                        && let Err(error) = self.take_mailbox(new.name, channel)
                    {
                        self.complain(Record::error("mailbox not taken").with("reason", error));
                    }
                }
                Ok(Some(Received::Closed)) => self.spawner = None,
                Err(error) => {
                    self.logger.log(
                        &Record::error("bad message")
                            .with("from", "spawner")
                            .with("reason", error),
                    );
                    self.spawner = None;
                }
            }
        }
    }

    fn take_mailbox(&mut self, name: MailboxName, channel: OwnedFd) -> io::Result<()> {
        let channel = Channel::from_fd(channel).map_err(io::Error::other)?;
        if self.mailboxes.len() >= MAX_MAILBOXES_KNOWN {
            return Err(io::Error::other("too many mailboxes"));
        }
        let number = self.next_mailbox;
        watch(&self.epoll, &channel, number)?;
        self.next_mailbox = number.wrapping_add(1);
        let mailbox = Mailbox {
            name,
            channel,
            held: None,
        };
        self.mailboxes.insert(number, mailbox);
        Ok(())
    }

    // Those who lock.

    /// Takes one request. Whoever breaks the rules, or does not read, loses channel and lock.
    fn hear(&mut self, number: u64) {
        let Some(mailbox) = self.mailboxes.get_mut(&number) else {
            return;
        };
        let request = match mailbox.channel.try_receive::<LockRequest>() {
            Ok(None) => return,
            Ok(Some(Received::Message(request, _))) => request,
            Ok(Some(Received::Closed)) => {
                self.mailboxes.remove(&number);
                return;
            }
            Err(error) => return self.end(number, &error),
        };
        let outcome = mailbox.follow(request.wanted, &self.spool);
        let answer = LockAnswer {
            number: request.number,
            outcome,
        };
        let sent = mailbox.channel.try_send(&answer, &[]);
        if let LockOutcome::Failed(error) = outcome {
            let record = Record::error("no dotlock")
                .with("mailbox", mailbox.name.as_str())
                .with("reason", io::Error::from_raw_os_error(error));
            self.complain(record);
        }
        match sent {
            // The end of file comes next.
            Ok(()) | Err(ChannelError::Closed) => {}
            Err(error) => self.end(number, &error),
        }
    }

    fn end(&mut self, number: u64, reason: &ChannelError) {
        if let Some(mailbox) = self.mailboxes.remove(&number) {
            self.complain(
                Record::error("bad message")
                    .with("from", "maildrop process")
                    .with("mailbox", mailbox.name.as_str())
                    .with("reason", reason),
            );
        }
    }

    /// Logs what a user may be able to bring about again and again.
    fn complain(&mut self, record: Record) {
        let now = Instant::now();
        let quiet = self
            .logged
            .is_some_and(|last| now.duration_since(last) < LOG_INTERVAL);
        if !quiet {
            self.logged = Some(now);
            self.logger.log(&record);
        }
    }
}

impl Mailbox {
    fn follow(&mut self, wanted: Wanted, spool: &Rc<OwnedFd>) -> LockOutcome {
        match wanted {
            Wanted::Unlock => {
                self.held = None;
                LockOutcome::Unlocked
            }
            // Held by who has died, for who recovers.
            Wanted::Lock if self.held.is_some() => LockOutcome::Locked,
            Wanted::Lock => {
                let name = self.name.as_str().as_ref();
                let dotlock = Dotlock::for_mailbox(Rc::clone(spool), name).by_age();
                match dotlock.try_acquire() {
                    Ok(Some(held)) => {
                        self.held = Some(held);
                        LockOutcome::Locked
                    }
                    Ok(None) => LockOutcome::Busy,
                    Err(error) => LockOutcome::Failed(error.raw_os_error().unwrap_or(libc::EIO)),
                }
            }
        }
    }
}

fn watch(epoll: &OwnedFd, channel: &Channel, number: u64) -> io::Result<()> {
    let data = epoll::EventData::new_u64(number);
    Ok(epoll::add(epoll, channel, data, epoll::EventFlags::IN)?)
}
