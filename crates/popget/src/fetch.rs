//! One run for one account: what is new is fetched, delivered, recorded; then deleted, if that is wanted.
//!
//! The order is what keeps mail safe: a message is on disk before it is in the record, and in the record before DELE is sent. Deletion
//! is reported when QUIT has been answered.
//!
//! A message at which the server breaks the connection is not to stop the others, this time and at every run to come: the run goes on in
//! another session, where that message comes last.

mod delete;
mod listing;

use std::collections::HashSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use net_pop3::blocking::{Builder, Session};
use net_pop3::{Credentials, Transaction};
use serde::Serialize;

use crate::account::Account;
use crate::deliver::{Delivery, Failure, Incoming};
use crate::failure::{Exit, Failed};
use crate::progress::Bar;
use crate::seen::Record;

use delete::delete;
use listing::{Known, compare, keys, list, plan, wanted};

/// What to do besides the account's own options.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mode {
    pub dry_run: bool,
    pub seen_now: bool,
}

/// What was done.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub account: String,
    /// Messages on the server.
    pub messages: usize,
    /// Not seen before.
    pub new: usize,
    /// Of these, not wanted by the filters.
    pub unwanted: usize,
    /// Delivered, and recorded as such.
    pub fetched: usize,
    /// Found delivered after an interrupted run.
    pub recovered: usize,
    pub octets: u64,
    /// Not delivered.
    pub failed: usize,
    /// Deleted, as the server has confirmed.
    pub deleted: usize,
    /// Lines for the user.
    pub warnings: Vec<String>,
    pub error: Option<String>,
    #[serde(skip)]
    pub exit: Exit,
    /// With `--dry-run`: number, octets, what would be done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<String>,
}

impl Report {
    fn fail(&mut self, failed: Failed) {
        self.exit = self.exit.max(failed.exit);
        self.error.get_or_insert(failed.reason);
    }

    fn message_failed(&mut self, key: &str, reason: &str) {
        self.failed += 1;
        self.exit = self.exit.max(Exit::Messages);
        self.warnings.push(format!("message {key}: {reason}"));
    }
}

/// Sessions of one run: so many messages may break the connection, less one, without keeping another from being fetched.
const MAX_SESSIONS: usize = 8;

/// How often, and after what pause, a new session is tried for: the server may not have noticed the end of the one before.
const LOGINS: usize = 5;
const LOGIN_PAUSE: Duration = Duration::from_secs(1);

/// Keys of messages that have made trouble in this run.
#[derive(Debug, Default)]
struct Troubles {
    /// The connection broke while they were fetched: they come last from now on.
    broke: HashSet<String>,
    /// No longer tried.
    given_up: HashSet<String>,
}

/// Why fetching ended before its time.
enum Stop {
    /// The session did, at the message with this key.
    Session(String, Failed),
    /// Whatever came next would fail as well.
    Run(Failed),
}

impl From<Failed> for Stop {
    fn from(failed: Failed) -> Stop {
        Stop::Run(failed)
    }
}

/// Fetches.
pub fn run(account: &Account, mode: Mode, state: &Path, bar: &Bar, verbose: bool) -> Report {
    let mut report = Report {
        account: account.name.clone(),
        ..Report::default()
    };
    if let Err(failed) = fetch(account, mode, state, bar, verbose, &mut report) {
        report.fail(failed);
    }
    bar.finish();
    report
}

fn fetch(
    account: &Account,
    mode: Mode,
    state: &Path,
    bar: &Bar,
    verbose: bool,
    report: &mut Report,
) -> Result<(), Failed> {
    // What can be wrong on this side is found out before anything is asked of the server.
    let mut delivery = match mode {
        Mode { seen_now: true, .. } | Mode { dry_run: true, .. } => None,
        _ => {
            let opened = account
                .place()?
                .open(&account.record_host(), account.record_user());
            Some(opened.map_err(Failed::local)?)
        }
    };
    let mut record = Record::open(state, &account.record_host(), account.record_user())
        .map_err(Failed::local)?;
    let mut builder = account.builder()?.lf_line_ends();
    if verbose {
        builder = builder.trace(|line| eprintln!("{line}"));
    }
    let hook = bar.clone();
    builder = builder.progress(move |progress| hook.message(progress.octets));
    let credentials = account.credentials()?;
    let mut session = enter(&builder, &credentials)?;
    let mut known = list(account, &mut session, report)?;
    if mode.seen_now {
        record.seen(keys(&known)).map_err(Failed::local)?;
        session.quit()?;
        return Ok(());
    }
    let Some(delivery) = &mut delivery else {
        plan(account, &mut session, &record, &known, report)?;
        session.quit()?;
        return Ok(());
    };
    let mut run = Run {
        account,
        delivery: delivery.as_mut(),
        record: &mut record,
        troubles: Troubles::default(),
        bar,
        report,
    };
    compare(run.record, &known, run.report)?;
    run.recover(&known)?;
    run.record.begin().map_err(Failed::local)?;
    let mut sessions = 1;
    loop {
        let fetched = run.fetch_wanted(&mut session, &known);
        // Without the last line of the record the next run looks what has been delivered after all.
        run.commit()?;
        match fetched {
            Ok(()) => break,
            Err(Stop::Session(key, failed)) if sessions < MAX_SESSIONS => {
                run.connection_broke(key, &failed);
            }
            Err(Stop::Session(_, failed) | Stop::Run(failed)) => return Err(failed),
        }
        drop(session);
        sessions += 1;
        // One by one from now on, so that it is known at which message a session ends.
        builder = builder.window(0);
        session = enter_again(&builder, &credentials)?;
        known = list(account, &mut session, run.report)?;
    }
    let deleted = delete(account, session, &mut record, &known, report);
    record.end().map_err(Failed::local)?;
    deleted
}

fn enter(builder: &Builder, credentials: &Credentials) -> Result<Session<Transaction>, Failed> {
    let session = builder.clone().connect()?.login(credentials);
    Ok(session.map_err(net_pop3::Error::from)?)
}

fn enter_again(
    builder: &Builder,
    credentials: &Credentials,
) -> Result<Session<Transaction>, Failed> {
    let mut logins = 1;
    loop {
        match enter(builder, credentials) {
            Err(failed) if failed.exit == Exit::TryAgain && logins < LOGINS => {
                logins += 1;
                thread::sleep(LOGIN_PAUSE);
            }
            entered => return entered,
        }
    }
}

/// The parts of a run.
struct Run<'a> {
    account: &'a Account,
    delivery: &'a mut dyn Delivery,
    record: &'a mut Record,
    troubles: Troubles,
    bar: &'a Bar,
    report: &'a mut Report,
}

impl Run<'_> {
    /// After a run that was killed: what had been delivered, though it was not yet in the record?
    fn recover(&mut self, known: &[Known]) -> Result<(), Failed> {
        let Run {
            delivery,
            record,
            report,
            ..
        } = self;
        if record.interrupted().is_none() {
            return Ok(());
        }
        let incoming = known.iter().map(|known| &known.incoming);
        let unseen: Vec<Incoming> = incoming
            .filter(|incoming| !record.has(&incoming.key))
            .cloned()
            .collect();
        let mut doubtful = Vec::new();
        let found = delivery
            .recover(record, &unseen, &mut doubtful)
            .map_err(Failed::local)?;
        record
            .seen(found.iter().map(String::as_str))
            .map_err(Failed::local)?;
        report.recovered = found.len();
        for key in doubtful.iter().filter(|key| !record.has(key)) {
            report.warnings.push(format!(
                "the last run was cut off while {key} was handed over: it may come twice"
            ));
        }
        Ok(())
    }

    fn fetch_wanted(
        &mut self,
        session: &mut Session<Transaction>,
        known: &[Known],
    ) -> Result<(), Stop> {
        let wanted = wanted(
            self.account,
            session,
            self.record,
            known,
            &self.troubles,
            self.report,
        )?;
        self.bar
            .begin(wanted.iter().map(|known| known.listing.octets).sum());
        let mut each = wanted.iter();
        let mut messages = session.retr_all(wanted.iter().map(|known| &known.listing));
        while let Some(message) = messages.next_message() {
            let Some(known) = each.next() else { break };
            let key = &known.incoming.key;
            let delivered = match message {
                Ok(message) => self.deliver(message, &known.incoming)?,
                Err(error) if error.ends_session() => {
                    return Err(Stop::Session(key.clone(), error.into()));
                }
                Err(error) => Err(error.to_string()),
            };
            match delivered {
                Ok(()) => self.report.octets += known.listing.octets,
                Err(reason) => {
                    self.report.message_failed(key, &reason);
                    self.troubles.given_up.insert(key.clone());
                }
            }
            self.bar.message_done(known.listing.octets);
            if self.delivery.is_full() {
                let passed_on = self.delivery.pass_on(self.record);
                self.committed(passed_on)?;
            }
        }
        Ok(())
    }

    /// Streams a message into the delivery. The inner error is this message's alone.
    fn deliver(
        &mut self,
        mut message: net_pop3::blocking::Message<'_>,
        incoming: &Incoming,
    ) -> Result<Result<(), String>, Stop> {
        if let Err(failure) = self.delivery.begin(incoming, self.record) {
            return of_message(failure);
        }
        let mut writer = &mut *self.delivery;
        if let Err(error) = message.copy_to(&mut writer) {
            self.delivery.abandon();
            return Err(match error.downcast::<net_pop3::Error>() {
                Ok(error) => Stop::Session(incoming.key.clone(), error.into()),
                Err(error) => Failed::local(error).into(),
            });
        }
        match self.delivery.finish(self.record) {
            Ok(()) => Ok(Ok(())),
            Err(failure) => of_message(failure),
        }
    }

    fn commit(&mut self) -> Result<(), Failed> {
        let committed = self.delivery.commit(self.record);
        self.committed(committed)
    }

    fn committed(&mut self, committed: Result<Vec<String>, Failure>) -> Result<(), Failed> {
        match committed {
            Ok(keys) => self.report.fetched += keys.len(),
            Err(Failure::Message(reason)) => return Err(Failed::local(reason)),
            Err(Failure::Place(error)) => return Err(Failed::local(error)),
        }
        Ok(())
    }

    fn connection_broke(&mut self, key: String, failed: &Failed) {
        if !self.troubles.broke.insert(key.clone()) {
            let reason = format!("the connection broke twice while it was fetched: {failed}");
            self.report.message_failed(&key, &reason);
            self.troubles.given_up.insert(key);
        }
    }
}

fn of_message(failure: Failure) -> Result<Result<(), String>, Stop> {
    match failure {
        Failure::Message(reason) => Ok(Err(reason)),
        Failure::Place(error) => Err(Failed::local(error).into()),
    }
}
