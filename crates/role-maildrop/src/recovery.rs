//! Finishing updates that a process has left unfinished: right after its death, while the spawner keeps the mailbox locked,
//! and at start-up, when a journal says so.
//!
//! Two kinds of process. One *searches*: it reads what users' processes wrote, so it has none of the spawner's
//! capabilities. One *recovers*: it is the user whose journal it is, so that a forged one can do to that user's mail what
//! the user can, and nothing else.

use std::os::fd::{BorrowedFd, OwnedFd};

use confine::channel::{Channel, ChannelError};
use confine::identity::{self, Identity};
use confine::process;
use confine::sandbox::{Landlock, Limits, Sandbox};
use confine::seccomp::Program;
use maildrop::{Expanded, Journal, OpenOptions};
use messages::Rights;
use messages::log::{Logger, Record};
use messages::spawner::SpawnerConfig;

use crate::broker::DotlockBy;
use crate::confinement::confine;
use crate::file_lock::file_lock;
use crate::guard::{Found, Guard};
use crate::journal_file::{self, JournalName};
use crate::state_file::PathHash;

/// Descriptors of a process that searches.
const MAX_OPEN_FILES: u64 = 64;

/// Octets of a file's name (NAME_MAX). A longer one in a journal is no mailbox's, and would not fit into the message.
const MAX_FILE_NAME: usize = 255;

/// A mailbox that a dead process was changing.
#[derive(Debug)]
pub struct Orphan {
    /// Where it is.
    pub place: Expanded,
    /// Its descriptor, locked.
    pub mailbox: OwnedFd,
    /// The process.
    pub dead: i32,
}

/// What a recovering process is told and given.
pub struct Recovery<'a> {
    /// Whose journal, of which mailbox.
    pub name: JournalName,
    /// The mailbox, if a process has just died; otherwise the journal says which it is.
    pub orphan: Option<&'a Orphan>,
    /// The directory of journals. It is closed when the journal has been opened.
    pub journals: BorrowedFd<'a>,
    /// Who makes the mailbox's dotlock.
    pub dotlock: &'a DotlockBy,
    /// How mailboxes are locked.
    pub configuration: &'a SpawnerConfig,
    /// To the spawner.
    pub guard: Guard,
    /// Where to log.
    pub logger: &'a Logger,
    /// A maildrop process's allow list.
    pub program: &'a Program,
    /// Missing protections end the process.
    pub required: bool,
}

/// Recovers; what it returns is the process's exit status.
pub fn run(recovery: Recovery<'_>) -> i32 {
    let (logger, name) = (recovery.logger, recovery.name);
    match recovery.recover() {
        Ok(()) => 0,
        Err(reason) => {
            logger.log(
                &Record::error("update not finished")
                    .with("uid", name.uid)
                    .with("journal", name)
                    .with("reason", reason),
            );
            1
        }
    }
}

impl Recovery<'_> {
    fn recover(self) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let journal = self
            .name
            .open(self.journals)
            .map_err(|error| text(&error))?;
        // By it, all other maildrops could be listed.
        process::close_these(&[self.journals]).map_err(|error| text(&error))?;
        identity::drop_to(&Identity {
            uid: self.name.uid,
            gid: self.name.gid,
            groups: vec![self.name.gid],
        })
        .map_err(|error| text(&error))?;
        let place = match self.orphan {
            Some(orphan) => orphan.place.clone(),
            None => match Journal::unfinished(&journal).map_err(|error| text(&error))? {
                Some(place) => place,
                None => return Ok(()),
            },
        };
        if PathHash::of(&place.path()) != self.name.path {
            return Err("the journal names another mailbox".to_owned());
        }
        let options = OpenOptions {
            owner: self.name.uid.as_raw(),
            dotlock: self.configuration.dotlock,
        };
        let mut opened = maildrop::open(&place, &options).map_err(|error| text(&error))?;
        if let Some(broker) = self.dotlock.broker().map_err(|error| text(&error))? {
            opened = opened.with_broker(broker);
        }
        if let Some(orphan) = self.orphan {
            let mailbox = orphan.mailbox.try_clone().map_err(|error| text(&error))?;
            opened = opened
                .with_locked(mailbox.into(), orphan.dead)
                .map_err(|error| text(&error))?;
        }
        confine(self.program, Some(&opened), Rights::Full, self.required)
            .map_err(|error| text(&error))?;
        let limits = maildrop::Limits {
            lock_wait: self.configuration.lock_timeout,
            ..maildrop::Limits::default()
        };
        opened
            .with_journal(Journal::new(journal, &place, Box::new(self.guard)))
            .recover(&limits, file_lock(self.configuration.lock))
            .map_err(|error| text(&error))
    }
}

/// Searches the journals and names the unfinished ones to the spawner, waiting where that has many to look after; what it returns is the process's exit status.
pub fn search(
    journals: BorrowedFd<'_>,
    channel: &Channel,
    logger: &Logger,
    program: &Program,
    required: bool,
) -> i32 {
    match confine_search(journals, program, required) {
        Ok(()) => {}
        Err(reason) => {
            logger.log(&Record::error("journals not searched").with("reason", reason));
            return 1;
        }
    }
    let names = journal_file::list(journals).unwrap_or_else(|error| {
        logger.log(&Record::error("journals not searched").with("reason", error));
        Vec::new()
    });
    for name in names {
        let unfinished = name
            .open_to_read(journals)
            .and_then(|file| Journal::unfinished(&file));
        match unfinished {
            Ok(None) => {}
            Ok(Some(place)) => {
                let path = place.path();
                let mailbox = path.file_name().and_then(|name| name.to_str());
                let found = Found {
                    name: name.to_string(),
                    mailbox: mailbox
                        .filter(|mailbox| mailbox.len() <= MAX_FILE_NAME)
                        .map(str::to_owned),
                };
                match channel.send(&found, &[]) {
                    Ok(()) => {}
                    Err(ChannelError::Closed) => return 1,
                    // One journal, whatever is in it, is not to hide the others.
                    Err(error) => logger.log(
                        &Record::error("update not finished")
                            .with("journal", name)
                            .with("reason", error),
                    ),
                }
            }
            Err(error) => logger.log(
                &Record::error("journal not read")
                    .with("journal", name)
                    .with("reason", error),
            ),
        }
    }
    0
}

fn confine_search(
    journals: BorrowedFd<'_>,
    program: &Program,
    required: bool,
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    // It keeps the name and loses the capabilities.
    if let Some(own) = Identity::own() {
        identity::drop_to(&own).map_err(|error| text(&error))?;
    }
    Sandbox::new(program)
        .landlock(Landlock::nothing().read(journals))
        .limits(Limits {
            open_files: Some(MAX_OPEN_FILES),
            processes: Some(0),
            ..Limits::default()
        })
        .required(required)
        .enter()
        .map(drop)
        .map_err(|error| text(&error))
}
