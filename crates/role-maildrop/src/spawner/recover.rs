//! What the spawner does about updates that were left unfinished: it forks a process for each, and one that searches for them.

use std::os::fd::AsFd;
use std::time::Instant;

use confine::channel::{Channel, Received};
use confine::process;
use messages::log::Record;

use super::Spawner;
use crate::children::{Child, Unfinished};
use crate::guard::{Found, Guard};
use crate::journal_file::JournalName;
use crate::recovery::{self, Recovery};
use crate::state_file::PathHash;

impl Spawner<'_> {
    /// Forks a process that finishes an update. If that is not possible now, the update waits, and its mailbox stays locked: it
    /// may be half moved.
    pub(super) fn recover(&mut self, unfinished: Unfinished) {
        let name = unfinished.name;
        match self.fork() {
            Ok((Some(pid), guard)) => {
                self.children
                    .insert(pid, Child::recovery(guard, unfinished));
            }
            Ok((None, guard)) => {
                let orphan = unfinished.orphan.as_ref();
                let mut kept = vec![
                    self.journals.as_fd(),
                    guard.as_fd(),
                    self.logger.channel().as_fd(),
                ];
                kept.extend(orphan.map(|orphan| orphan.mailbox.as_fd()));
                kept.extend(unfinished.dotlock.channel().map(AsFd::as_fd));
                if process::close_all_except(&kept).is_err() {
                    process::exit(1);
                }
                drop(process::set_name(c"popa3d: recover"));
                process::exit(recovery::run(Recovery {
                    name,
                    orphan,
                    journals: self.journals.as_fd(),
                    dotlock: &unfinished.dotlock,
                    configuration: &self.configuration,
                    guard: Guard::new(guard),
                    logger: &self.logger,
                    program: &self.program,
                    required: self.required,
                }))
            }
            Err(error) => {
                let record = match self.backlog.put_off(unfinished, Instant::now()) {
                    true => Record::warning("update put off"),
                    false => Record::error("update not finished"),
                };
                self.logger
                    .log(&record.with("journal", name).with("reason", error));
            }
        }
    }

    /// Tries again what has waited for its time.
    pub(super) fn work_off(&mut self) {
        let now = Instant::now();
        // What is put off again is not due yet.
        while let Some(unfinished) = self.backlog.take_due(now) {
            self.recover(unfinished);
        }
    }

    /// Forks a process that searches for unfinished updates.
    pub(super) fn search(&mut self) {
        if self.found.is_some() {
            // The one that is under way finds all there is.
            return;
        }
        match self.fork() {
            Ok((Some(pid), found)) => {
                self.children.insert(pid, Child::search());
                self.found = Some(found);
            }
            Ok((None, found)) => {
                let kept = [
                    self.journals.as_fd(),
                    found.as_fd(),
                    self.logger.channel().as_fd(),
                ];
                if process::close_all_except(&kept).is_err() {
                    process::exit(1);
                }
                drop(process::set_name(c"popa3d: search"));
                process::exit(recovery::search(
                    self.journals.as_fd(),
                    &found,
                    &self.logger,
                    &self.program,
                    self.required,
                ))
            }
            Err(error) => self
                .logger
                .log(&Record::error("journals not searched").with("reason", error)),
        }
    }

    /// Where the next unfinished update is to be had, if one more may be taken. The others wait in the channel, whose buffer bounds
    /// them, and behind that the search waits.
    pub(super) fn found(&self) -> Option<&Channel> {
        self.found
            .as_ref()
            .filter(|_| !self.children.recover_enough() && self.backlog.is_empty())
    }

    /// Takes one that was found.
    pub(super) fn take_found(&mut self) {
        let Some(found) = self.found() else {
            return;
        };
        let wrong = match found.try_receive::<Found>() {
            Ok(None) => return,
            Ok(Some(Received::Message(Found { name, mailbox }, _))) => {
                match JournalName::parse(&name) {
                    Some(name) => return self.recover_found(name, mailbox),
                    None => Some("no journal's name".to_owned()),
                }
            }
            Ok(Some(Received::Closed)) => None,
            Err(error) => Some(error.to_string()),
        };
        self.found = None;
        if let Some(reason) = wrong {
            self.logger
                .log(&Record::error("journals not searched").with("reason", reason));
        }
    }

    /// Recovers by a journal that was found. What mailbox it names is believed if the journal is that one's.
    fn recover_found(&mut self, name: JournalName, mailbox: Option<String>) {
        let spool = self.configuration.locker_directory.as_ref();
        let path = spool.zip(mailbox).map(|(spool, name)| spool.join(name));
        let path = path.filter(|path| PathHash::of(path) == name.path);
        let dotlock = self.dotlock(path.as_deref());
        self.recover(Unfinished::found(name, dotlock));
    }
}
