//! The maildrop process, from the fork to its last log line.
//!
//! In this order: what is kept of the maildrop in the state directory is opened as the spawner, the process becomes the
//! user, the maildrop's files are opened, everything else is given up; only then does it take over the client and look at
//! mail.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use confine::handover;
use confine::identity::{self, Identity};
use confine::process;
use confine::sandbox::Confined;
use confine::seccomp::Program;
use maildrop::{Class, Expanded, Journal, Location, LocationError, OpenOptions, Opened};
use messages::log::{Logger, Record};
use messages::session::{HandedOver, Protection};
use messages::spawner::{SpawnerConfig, StartMaildrop};
use messages::{Account, SaslMechanism};
use pop3_proto::server::transaction::Limits;
use pop3_proto::server::{Expire, Offer};
use pop3_proto::{MechanismName, ResponseCode, reply};

use crate::broker::DotlockBy;
use crate::client::Client;
use crate::confinement::confine;
use crate::file_lock::file_lock;
use crate::guard::Guard;
use crate::journal_file::JournalName;
use crate::memory_files::{MemoryDirectories, MemoryFiles};
use crate::session_lock::{LockFile, SessionLock};
use crate::state_file::PathHash;
use crate::transaction::{End, Session, Tally};

/// The session hands the client over at once.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the process is told and given by the spawner.
pub struct Job<'a> {
    /// Who logged in, from where.
    pub order: &'a StartMaildrop,
    /// How to serve.
    pub configuration: &'a SpawnerConfig,
    /// Where the account's maildrop is.
    pub location: &'a Result<Expanded, LocationError>,
    /// The directory of session locks. It is closed when the lock has been opened, and so are the other directories.
    pub locks: BorrowedFd<'a>,
    /// The directory of journals.
    pub journals: BorrowedFd<'a>,
    /// Who makes the mailbox's dotlock.
    pub dotlock: &'a DotlockBy,
    /// The directories of what is kept of maildrops.
    pub memory: &'a MemoryDirectories,
    /// Our end of the stream to the session.
    pub stream: BorrowedFd<'a>,
    /// To the spawner, where the maildrop is an mbox.
    pub guard: Option<Guard>,
    /// Where to log.
    pub logger: &'a Logger,
    /// The maildrop process's allow list.
    pub program: &'a Program,
    /// Missing protections end the process.
    pub required: bool,
}

/// Where a maildrop is, and what is kept of it in the state directory.
struct Place {
    location: Expanded,
    lock: LockFile,
    journal: Option<File>,
    memory: MemoryFiles,
}

/// Why there is no maildrop to serve: for the log, and for the client.
struct Failure {
    log: String,
    class: Class,
    client: &'static str,
}

impl Failure {
    fn temporary(log: impl ToString) -> Self {
        Self {
            log: log.to_string(),
            class: Class::Temporary,
            client: "The maildrop cannot be opened at present",
        }
    }

    fn permanent(log: impl ToString) -> Self {
        Self {
            log: log.to_string(),
            class: Class::Permanent,
            client: "The maildrop cannot be opened, please ask your postmaster",
        }
    }

    fn in_use() -> Self {
        Self {
            log: "another session has it".to_owned(),
            class: Class::InUse,
            client: "Another session has the maildrop",
        }
    }
}

impl From<maildrop::OpenError> for Failure {
    fn from(error: maildrop::OpenError) -> Self {
        Self {
            log: error.to_string(),
            class: error.class(),
            client: error.for_client(),
        }
    }
}

/// Where an account's maildrop is.
///
/// # Errors
/// The configured location or the account's own is wrong, or the account's name cannot be part of it.
pub fn location(
    account: &Account,
    configuration: &SpawnerConfig,
) -> Result<Expanded, LocationError> {
    let template = account.maildrop.as_ref();
    Location::parse(template.unwrap_or(&configuration.location))?.expand(&maildrop::Account {
        name: &account.name,
        home: &account.home,
    })
}

/// The journal of an account's mbox.
pub fn journal_name(account: &Account, location: &Expanded) -> JournalName {
    JournalName {
        uid: account.uid,
        gid: account.gid,
        path: PathHash::of(&location.path()),
    }
}

/// Runs the process; what it returns is its exit status.
pub fn run(job: Job<'_>) -> i32 {
    match hold(&job) {
        Ok(held) => job.serve(held),
        Err(reason) => job.fail(&reason),
    }
}

/// All that the process holds when it begins to serve.
struct Held {
    confined: Confined,
    maildrop: Result<(Opened, SessionLock), Failure>,
    client: Client,
    handed_over: Vec<u8>,
}

/// Becomes the user, opens the maildrop, gives everything else up, and takes over the client.
fn hold(job: &Job<'_>) -> Result<Held, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let account = &job.order.account;
    let place = job.place();
    // By them, all other maildrops could be listed.
    let [indexes, ids] = job.memory.descriptors();
    process::close_these(&[job.locks, job.journals, indexes, ids]).map_err(|error| text(&error))?;
    identity::drop_to(&Identity {
        uid: account.uid,
        gid: account.gid,
        groups: vec![account.gid],
    })
    .map_err(|error| text(&error))?;
    let maildrop = place.and_then(|place| job.open(place));
    let opened = maildrop.as_ref().ok().map(|(opened, _)| opened);
    let (confined, _) =
        confine(job.program, opened, account.rights, job.required).map_err(|error| text(&error))?;
    let deadline = Instant::now()
        .checked_add(HANDOVER_TIMEOUT)
        .ok_or("no deadline")?;
    let (handed_over, descriptors) =
        handover::receive(job.stream, deadline).map_err(|error| text(&error))?;
    let stream = job
        .stream
        .try_clone_to_owned()
        .map_err(|error| text(&error))?;
    Ok(Held {
        confined,
        maildrop,
        client: Client::new(stream, descriptors, job.configuration.idle_timeout),
        handed_over,
    })
}

impl Job<'_> {
    /// Where the account's maildrop is, and what is kept of it, which is the spawner's.
    fn place(&self) -> Result<Place, Failure> {
        let place = self.location.as_ref().map_err(Failure::permanent)?;
        let lock = LockFile::open(self.locks, &place.path())
            .map_err(|error| Failure::temporary(format_args!("session lock: {error}")))?;
        let rights = self.order.account.rights;
        let journal = place
            .is_mbox()
            .then(|| {
                let name = journal_name(&self.order.account, place);
                match rights.allow_change() {
                    true => name.open(self.journals).map(Some),
                    false => name.open_existing(self.journals),
                }
            })
            .transpose()
            .map_err(|error| Failure::temporary(format_args!("journal: {error}")))?;
        Ok(Place {
            location: place.clone(),
            lock,
            journal: journal.flatten(),
            memory: self
                .memory
                .files(&place.path(), place.is_mbox(), rights, self.configuration),
        })
    }

    /// Locks other sessions out and opens the maildrop's files.
    fn open(&self, place: Place) -> Result<(Opened, SessionLock), Failure> {
        let lock = place
            .lock
            .lock()
            .map_err(|error| Failure::temporary(format_args!("session lock: {error}")))?
            .ok_or_else(Failure::in_use)?;
        let options = OpenOptions {
            owner: self.order.account.uid.as_raw(),
            dotlock: self.configuration.dotlock,
        };
        let mut opened = maildrop::open(&place.location, &options)?;
        let broker = self.dotlock.broker();
        if let Some(broker) =
            broker.map_err(|error| Failure::temporary(format_args!("dotlock: {error}")))?
        {
            opened = opened.with_broker(broker);
        }
        if let Some((file, guard)) = place.journal.zip(self.guard.clone()) {
            let keeper = Box::new(guard);
            opened = opened.with_journal(Journal::new(file, &place.location, keeper));
        }
        let memory = place
            .memory
            .memory(|error| {
                let record = self.about(Record::warning("maildrop not remembered"));
                self.logger.log(&record.with("reason", error));
            })
            .map_err(|error| Failure::permanent(format_args!("list of unique-ids: {error}")))?;
        Ok((opened.with_memory(memory), lock))
    }

    fn fail(&self, reason: &str) -> i32 {
        self.logger.log(
            &self
                .about(Record::error("maildrop process failed"))
                .with("reason", reason),
        );
        1
    }

    /// Answers PASS and serves the client to the end of its session.
    fn serve(&self, mut held: Held) -> i32 {
        let Some(handed_over) = HandedOver::decode(&held.handed_over) else {
            return self.fail("the session handed over what no session does");
        };
        let session = held.maildrop.and_then(|(opened, lock)| {
            let offer = self.offer(held.client.is_relayed());
            let rights = self.order.account.rights;
            let maildrop = opened.lock_and_scan(
                &maildrop::Limits {
                    messages: self.configuration.messages,
                    octets: self.configuration.octets,
                    work_octets: self.configuration.work_octets,
                    lock_wait: self.configuration.lock_timeout,
                },
                file_lock(self.configuration.lock),
            )?;
            Session::new(
                held.confined,
                &mut held.client,
                maildrop,
                rights,
                lock,
                offer,
                Limits {
                    commands: u32::MAX,
                    errors: self.configuration.errors,
                    last: self.configuration.last,
                    deletion: rights.allow_deletion(),
                },
            )
            .map_err(Failure::permanent)
        });
        if let Some(guard) = &self.guard {
            guard.opened();
        }
        match session {
            Ok(session) => {
                let session = session.with_utf8_headers(self.configuration.utf8_headers);
                let ended = session.serve(handed_over);
                self.log_end(&ended.end, &ended.tally, held.client.sent());
                // Before the process ends, which closes descriptors in what order it likes: the client is not to wait for the rest.
                drop(held.client);
                drop(ended.remains);
            }
            Err(failure) => self.refuse(&mut held.client, &failure),
        }
        0
    }

    /// The same as the session's before login (RFC 2449 section 5).
    fn offer(&self, tls: bool) -> Offer {
        let advertised = &self.configuration.advertised;
        let protection = match tls {
            false => Protection::Clear,
            true if self.order.certificate_shown => Protection::TlsWithCertificate,
            true => Protection::Tls,
        };
        let logins = advertised.logins(self.order.peer, protection);
        let name = |mechanism: &SaslMechanism| MechanismName::new(mechanism.name().as_bytes());
        Offer {
            user: logins.user,
            apop: false,
            mechanisms: logins.mechanisms.iter().filter_map(name).collect(),
            stls: false,
            utf8: true,
            login_delay: advertised.login_delay,
            // The same whatever the login may do: what others retrieve or what is old is hidden from it too.
            expire: Some(advertised.expire.map_or(Expire::Never, Expire::Days)),
            implementation: advertised.implementation.clone(),
        }
    }

    fn refuse(&self, client: &mut Client, failure: &Failure) {
        self.logger.log(
            &self
                .about(Record::warning("maildrop not opened"))
                .with("reason", &failure.log),
        );
        let code = match failure.class {
            Class::InUse => ResponseCode::InUse,
            Class::Temporary => ResponseCode::SysTemp,
            Class::Permanent => ResponseCode::SysPerm,
        };
        let mut replies = Vec::new();
        reply::err(&mut replies, Some(code), failure.client);
        // A client that has gone does not miss it.
        let _ = client.queue(&mut replies).and_then(|()| client.flush());
    }

    fn log_end(&self, end: &End, tally: &Tally, sent: u64) {
        if tally.unremembered {
            let record = self.about(Record::warning("maildrop not remembered"));
            self.logger
                .log(&record.with("reason", "the list of retrieved messages was not written"));
        }
        let record = match end {
            End::Quit | End::Gone(_) => Record::info("session ended"),
            End::Errors | End::Maildrop(_) | End::NotUpdated(_) => Record::warning("session ended"),
        };
        self.logger.log(
            &self
                .about(record)
                .with("end", end)
                .with("retr", tally.retrieved)
                .with("retr_octets", tally.retrieved_octets)
                .with("top", tally.topped)
                .with("deleted", tally.deleted)
                .with("deleted_octets", tally.deleted_octets)
                .with_some("expired", (tally.expired > 0).then_some(tally.expired))
                .with_some("acknowledged", tally.acknowledged)
                .with("left", tally.left)
                .with_some("ids_gone", tally.drift.map(|drift| drift.gone))
                .with_some("ids_changed", tally.drift.map(|drift| drift.changed))
                .with("sent_octets", sent),
        );
    }

    /// Adds who it is about.
    fn about(&self, record: Record) -> Record {
        record
            .with("session", self.order.id)
            .with("user", &self.order.account.name)
            .with_some("peer", self.order.peer.map(|peer| peer.ip()))
    }
}
