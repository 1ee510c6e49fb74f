//! The spawner's children, and what it has to know of each: whether it is changing a mailbox, what to do when it dies.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use confine::Descriptors;
use confine::channel::{Channel, Received};
use confine::process::Pid;
use maildrop::Expanded;
use messages::log::Record;

use crate::broker::DotlockBy;
use crate::guard::{NewJournal, ToSpawner};
use crate::journal_file::JournalName;
use crate::recovery::Orphan;

/// Recovering processes at a time, while there are more journals to be looked after: they write as fast as the disk.
const MAX_RECOVERIES: usize = 8;

/// How often it is tried to finish one update while its mailbox is kept locked.
const MAX_ATTEMPTS: u32 = 3;

/// An update that is to be finished.
#[derive(Debug)]
pub struct Unfinished {
    /// Its journal.
    pub name: JournalName,
    /// What the process that was at it has left; without that, the journal was found.
    pub orphan: Option<Orphan>,
    /// Who makes the mailbox's dotlock, which lasts until this is dropped.
    pub dotlock: DotlockBy,
    user: Option<String>,
    /// The connection counts until its mailbox is in order; under inetd, the master waits for that long.
    _lease: Option<OwnedFd>,
    /// Processes that have tried.
    attempts: u32,
    /// Processes that there could not be.
    pub refusals: u32,
}

impl Unfinished {
    /// One that was found by its journal.
    pub fn found(name: JournalName, dotlock: DotlockBy) -> Self {
        Self {
            name,
            orphan: None,
            dotlock,
            user: None,
            _lease: None,
            attempts: 0,
            refusals: 0,
        }
    }
}

/// What a child said.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing that the spawner has to do something about.
    Nothing,
    /// It has finished an update.
    Finished,
    /// It wants its journal set aside, for this reason.
    SetAside(JournalName, String),
}

/// One child.
#[derive(Debug)]
pub struct Child {
    /// `None` when it has broken the rules, or has nothing to say.
    guard: Option<Channel>,
    /// It is to be heard while it lives.
    talks: bool,
    /// It has had its journal set aside.
    asked: bool,
    changing: Option<Changing>,
    work: Work,
}

/// What a child has handed over before it began to change a mailbox.
#[derive(Debug)]
struct Changing {
    /// That mailbox, locked.
    mailbox: OwnedFd,
    /// The lease of the connection, if there is one.
    lease: Option<OwnedFd>,
}

/// An mbox that a maildrop process is for.
#[derive(Debug)]
pub struct Mailbox {
    /// Its journal.
    pub name: JournalName,
    /// Where it is.
    pub place: Expanded,
    /// Who makes its dotlock.
    pub dotlock: DotlockBy,
}

#[derive(Debug)]
enum Work {
    Session { user: String, mbox: Option<Mailbox> },
    Recovery(Unfinished),
    Search,
}

impl Child {
    /// A maildrop process.
    pub fn session(guard: Option<Channel>, user: String, mbox: Option<Mailbox>) -> Self {
        Self::new(guard, Work::Session { user, mbox })
    }

    /// A process that finishes an update.
    pub fn recovery(guard: Channel, unfinished: Unfinished) -> Self {
        Self::new(Some(guard), Work::Recovery(unfinished))
    }

    /// A process that searches for unfinished updates. What it finds, it says elsewhere.
    pub fn search() -> Self {
        Self::new(None, Work::Search)
    }

    fn new(guard: Option<Channel>, work: Work) -> Self {
        Self {
            talks: guard.is_some(),
            guard,
            asked: false,
            changing: None,
            work,
        }
    }

    /// Takes one message, if there is one; `None` if there is none. A wrong one is the last.
    pub fn hear(&mut self) -> Option<Heard> {
        let received = self.guard.as_ref()?.try_receive::<ToSpawner>();
        let heard = match received {
            Ok(Some(Received::Message(message, descriptors))) => self.take(message, descriptors),
            Ok(None) => return None,
            Ok(Some(Received::Closed)) | Err(_) => None,
        };
        if heard.is_none() {
            self.end_talk();
        }
        heard
    }

    /// `None`: this child may not say this.
    fn take(&mut self, message: ToSpawner, mut descriptors: Descriptors) -> Option<Heard> {
        match message {
            ToSpawner::Opened => {
                self.talks = false;
                Some(Heard::Nothing)
            }
            ToSpawner::Updating { .. } => {
                self.changing = Some(Changing {
                    mailbox: descriptors.next()?,
                    lease: descriptors.next(),
                });
                Some(Heard::Nothing)
            }
            ToSpawner::Settled => {
                self.changing = None;
                Some(Heard::Nothing)
            }
            ToSpawner::Finished => Some(Heard::Finished),
            ToSpawner::SetAside { reason } => {
                let first = !std::mem::replace(&mut self.asked, true);
                let name = self.journal().filter(|_| first)?;
                Some(Heard::SetAside(name, reason))
            }
        }
    }

    fn journal(&self) -> Option<JournalName> {
        match &self.work {
            Work::Session { mbox, .. } => mbox.as_ref().map(|mbox| mbox.name),
            Work::Recovery(unfinished) => Some(unfinished.name),
            Work::Search => None,
        }
    }

    /// Hands a new journal over.
    pub fn answer(&mut self, journal: &File) {
        let answer = NewJournal { fresh: true };
        let sent = self
            .guard
            .as_ref()
            .map(|guard| guard.try_send(&answer, &[journal.as_fd()]));
        if !matches!(sent, Some(Ok(()))) {
            self.end_talk();
        }
    }

    /// It is not listened to any more.
    pub fn end_talk(&mut self) {
        self.guard = None;
        self.talks = false;
    }

    /// Adds what the log wants to know of it.
    pub fn about(&self, record: Record) -> Record {
        let user = match &self.work {
            Work::Session { user, .. } => Some(user),
            Work::Recovery(unfinished) => unfinished.user.as_ref(),
            Work::Search => None,
        };
        record
            .with_some("user", user)
            .with_some("journal", self.journal())
    }

    /// What it leaves, being dead and all it said heard: an update to be finished by another. `failed`: it said by its end
    /// that it could not do what it was for.
    pub fn leave(self, pid: Pid, failed: bool) -> Option<Unfinished> {
        let dead = pid.as_raw_pid();
        match (self.work, self.changing) {
            (
                Work::Session {
                    user,
                    mbox: Some(mbox),
                },
                Some(Changing { mailbox, lease }),
            ) => Some(Unfinished {
                name: mbox.name,
                orphan: Some(Orphan {
                    place: mbox.place,
                    mailbox,
                    dead,
                }),
                dotlock: mbox.dotlock,
                user: Some(user),
                _lease: lease,
                attempts: 0,
                refusals: 0,
            }),
            (Work::Recovery(unfinished), _) => {
                let attempts = unfinished.attempts.saturating_add(1);
                let again = failed && unfinished.orphan.is_some() && attempts < MAX_ATTEMPTS;
                again.then_some(Unfinished {
                    attempts,
                    ..unfinished
                })
            }
            _ => None,
        }
    }
}

/// All children.
#[derive(Debug, Default)]
pub struct Children {
    all: HashMap<Pid, Child>,
    /// Those that are to be heard: few, as most only say something when they are dead.
    talking: BTreeSet<i32>,
    recoveries: usize,
}

impl Children {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Adds one.
    pub fn insert(&mut self, pid: Pid, child: Child) {
        if matches!(child.work, Work::Recovery(_)) {
            self.recoveries = self.recoveries.saturating_add(1);
        }
        if child.talks {
            self.talking.insert(pid.as_raw_pid());
        }
        self.all.insert(pid, child);
    }

    /// Takes one out that has ended.
    pub fn remove(&mut self, pid: Pid) -> Option<Child> {
        let child = self.all.remove(&pid)?;
        self.talking.remove(&pid.as_raw_pid());
        if matches!(child.work, Work::Recovery(_)) {
            self.recoveries = self.recoveries.saturating_sub(1);
        }
        Some(child)
    }

    /// One that is alive.
    pub fn get_mut(&mut self, pid: Pid) -> Option<&mut Child> {
        self.all.get_mut(&pid)
    }

    /// Takes one message of this child; see [`Child::hear`].
    pub fn hear(&mut self, pid: Pid) -> Option<Heard> {
        let child = self.all.get_mut(&pid)?;
        let heard = child.hear();
        if !child.talks {
            self.talking.remove(&pid.as_raw_pid());
        }
        heard
    }

    /// The channels of those that are to be heard now.
    pub fn talking(&self) -> impl Iterator<Item = (Pid, &Channel)> {
        self.talking.iter().filter_map(move |&pid| {
            let pid = Pid::from_raw(pid)?;
            let guard = self.all.get(&pid)?.guard.as_ref()?;
            Some((pid, guard))
        })
    }

    /// Whether another update that was found has to wait.
    pub fn recover_enough(&self) -> bool {
        self.recoveries >= MAX_RECOVERIES
    }
}
