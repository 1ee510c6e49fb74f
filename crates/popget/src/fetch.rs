//! One run for one account: what is new is fetched, delivered, recorded; then deleted, if that is wanted.
//!
//! The order is what keeps mail safe: a message is on disk before it is in the record, and in the record before DELE is sent. Deletion
//! is reported when QUIT has been answered.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use net_pop3::blocking::Session;
use net_pop3::{Listing, Transaction};
use serde::Serialize;

use crate::account::Account;
use crate::deliver::{Delivery, Failure, Incoming};
use crate::failure::{Exit, Failed};
use crate::progress::Bar;
use crate::seen::{Record, now};

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
}

/// A message of the listing, as the record knows it.
#[derive(Clone, Debug)]
struct Known {
    listing: Listing,
    incoming: Incoming,
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
    let mut session = builder
        .connect()?
        .login(&credentials)
        .map_err(net_pop3::Error::from)?;

    let listing = session.listing()?;
    report.messages = listing.len();
    let known = known(account, listing)?;
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
    compare(&mut record, &known, report)?;
    recover(delivery.as_mut(), &mut record, &known, report)?;
    record.begin().map_err(Failed::local)?;

    let wanted = wanted(account, &mut session, &record, &known, report)?;
    bar.begin(wanted.iter().map(|known| known.listing.octets).sum());
    let fetched = fetch_wanted(
        &mut session,
        &wanted,
        delivery.as_mut(),
        &mut record,
        bar,
        report,
    );
    let committed = commit(delivery.as_mut(), &mut record, report);
    // Without the last line of the record the next run looks what has been delivered after all.
    committed?;
    fetched?;
    let deleted = delete(account, session, &mut record, &known, report);
    record.end().map_err(Failed::local)?;
    deleted
}

/// Keys by unique-id. Several messages may share one (a server may make it from their content): they are told apart by counting.
fn known(account: &Account, listing: Vec<Listing>) -> Result<Vec<Known>, Failed> {
    let host = account.record_host();
    let mut times: HashMap<String, u32> = HashMap::new();
    let mut known = Vec::with_capacity(listing.len());
    for listing in listing {
        let Some(id) = &listing.unique_id else {
            let reason = format!(
                "{}: message {} has no unique-id, so what has been fetched cannot be remembered",
                account.name,
                listing.number.value()
            );
            return Err(Failed::local(reason));
        };
        let count = times.entry(id.as_str().to_owned()).or_insert(0);
        *count += 1;
        let key = match *count {
            1 => id.as_str().to_owned(),
            count => format!("{id} {count}"),
        };
        known.push(Known {
            incoming: Incoming::new(&host, account.record_user(), &key),
            listing,
        });
    }
    Ok(known)
}

fn keys(known: &[Known]) -> impl Iterator<Item = &str> {
    known.iter().map(|known| known.incoming.key.as_str())
}

/// Notices when a server gives its messages new ids: they would all be fetched again.
fn compare(record: &mut Record, known: &[Known], report: &mut Report) -> Result<(), Failed> {
    const FEW: usize = 10;
    let (were, still) = record.compare(keys(known)).map_err(Failed::local)?;
    let new = keys(known).filter(|key| !record.has(key)).count();
    if were >= FEW && still * 2 < were && new * 2 >= were {
        report.warnings.push(format!(
            "of {were} messages known, {} are gone and {new} are new: the server may have changed its unique-ids; \
             --seen-now takes all that is there as fetched",
            were - still
        ));
    }
    Ok(())
}

/// After a run that was killed: what had been delivered, though it was not yet in the record?
fn recover(
    delivery: &mut dyn Delivery,
    record: &mut Record,
    known: &[Known],
    report: &mut Report,
) -> Result<(), Failed> {
    if record.interrupted().is_none() {
        return Ok(());
    }
    let unseen: Vec<Incoming> = known
        .iter()
        .map(|known| &known.incoming)
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

/// What is new, and fulfils the filters.
fn wanted(
    account: &Account,
    session: &mut Session<Transaction>,
    record: &Record,
    known: &[Known],
    report: &mut Report,
) -> Result<Vec<Known>, Failed> {
    let filters = &account.options.filter;
    let is_new = |known: &&Known| !record.has(&known.incoming.key);
    let new: Vec<Known> = known.iter().filter(is_new).cloned().collect();
    report.new = new.len();
    let by_size = |known: &Known| {
        let mut sizes = filters.iter().filter(|filter| !filter.needs_header());
        sizes.all(|filter| filter.matches(known.listing.octets, b""))
    };
    let mut wanted: Vec<Known> = new.into_iter().filter(by_size).collect();
    if filters.iter().any(|filter| filter.needs_header()) {
        let mut fulfil = Vec::with_capacity(wanted.len());
        let numbers: Vec<_> = wanted.iter().map(|known| known.listing.number).collect();
        let mut headers = session.top_all(numbers, 0);
        while let Some(header) = headers.next_message() {
            let header = match header {
                Ok(header) => header.to_vec()?,
                Err(error) if error.ends_session() => return Err(error.into()),
                // Without TOP nothing can be said against it.
                Err(_) => {
                    fulfil.push(true);
                    continue;
                }
            };
            let octets = wanted
                .get(fulfil.len())
                .map_or(0, |known| known.listing.octets);
            fulfil.push(filters.iter().all(|filter| filter.matches(octets, &header)));
        }
        let mut fulfil = fulfil.into_iter();
        wanted.retain(|_| fulfil.next().unwrap_or(true));
    }
    report.unwanted = report.new - wanted.len();
    Ok(wanted)
}

fn fetch_wanted(
    session: &mut Session<Transaction>,
    wanted: &[Known],
    delivery: &mut dyn Delivery,
    record: &mut Record,
    bar: &Bar,
    report: &mut Report,
) -> Result<(), Failed> {
    let mut each = wanted.iter();
    let mut messages = session.retr_all(wanted.iter().map(|known| &known.listing));
    while let Some(message) = messages.next_message() {
        let Some(known) = each.next() else { break };
        let mut delivered = match message {
            Ok(message) => deliver(message, known, delivery, record)?,
            Err(error) if error.ends_session() => return Err(error.into()),
            Err(error) => Err(error.to_string()),
        };
        if delivered.is_ok() {
            delivered = finish(delivery, record)?;
        }
        match delivered {
            Ok(()) => report.octets += known.listing.octets,
            Err(reason) => {
                report.failed += 1;
                report.exit = report.exit.max(Exit::Messages);
                let number = known.listing.number.value();
                report.warnings.push(format!(
                    "message {number} ({}): {reason}",
                    known.incoming.key
                ));
            }
        }
        bar.message_done(known.listing.octets);
        if delivery.is_full() {
            commit(delivery, record, report)?;
        }
    }
    Ok(())
}

/// Streams a message into the delivery. The inner error is this message's alone.
fn deliver(
    mut message: net_pop3::blocking::Message<'_>,
    known: &Known,
    delivery: &mut dyn Delivery,
    record: &mut Record,
) -> Result<Result<(), String>, Failed> {
    match delivery.begin(&known.incoming, record) {
        Ok(()) => (),
        Err(Failure::Message(reason)) => return Ok(Err(reason)),
        Err(Failure::Place(error)) => return Err(Failed::local(error)),
    }
    let mut writer = &mut *delivery;
    if let Err(error) = message.copy_to(&mut writer) {
        delivery.abandon();
        return Err(match error.downcast::<net_pop3::Error>() {
            Ok(error) => error.into(),
            Err(error) => Failed::local(error),
        });
    }
    Ok(Ok(()))
}

fn finish(delivery: &mut dyn Delivery, record: &mut Record) -> Result<Result<(), String>, Failed> {
    match delivery.finish(record) {
        Ok(()) => Ok(Ok(())),
        Err(Failure::Message(reason)) => Ok(Err(reason)),
        Err(Failure::Place(error)) => Err(Failed::local(error)),
    }
}

fn commit(
    delivery: &mut dyn Delivery,
    record: &mut Record,
    report: &mut Report,
) -> Result<(), Failed> {
    match delivery.commit(record) {
        Ok(keys) => report.fetched += keys.len(),
        Err(Failure::Message(reason)) => return Err(Failed::local(reason)),
        Err(Failure::Place(error)) => return Err(Failed::local(error)),
    }
    Ok(())
}

/// Which messages go: only such as are recorded as delivered.
fn to_be_deleted<'a>(account: &Account, record: &Record, known: &'a [Known]) -> Vec<&'a Known> {
    let options = &account.options;
    let is_wanted =
        options.delete || options.delete_after.is_some() || options.keep_newest.is_some();
    if !is_wanted {
        return Vec::new();
    }
    let now = Duration::from_secs(now());
    let age = options.delete_after.unwrap_or_default();
    let old = known.len().saturating_sub(options.keep_newest.unwrap_or(0));
    known
        .iter()
        .take(old)
        .filter(|known| {
            let delivered = record
                .delivered(&known.incoming.key)
                .map(Duration::from_secs);
            delivered.is_some_and(|delivered| now.saturating_sub(delivered) >= age)
        })
        .collect()
}

fn delete(
    account: &Account,
    mut session: Session<Transaction>,
    record: &mut Record,
    known: &[Known],
    report: &mut Report,
) -> Result<(), Failed> {
    let candidates = to_be_deleted(account, record, known);
    let outcomes = session.dele_all(candidates.iter().map(|known| &known.listing))?;
    let mut marked = Vec::new();
    for (known, (number, outcome)) in candidates.iter().zip(outcomes) {
        match outcome {
            Ok(()) => marked.push(known.incoming.key.as_str()),
            Err(error) => {
                report.exit = report.exit.max(Exit::Messages);
                report
                    .warnings
                    .push(format!("message {}: {error}", number.value()));
            }
        }
    }
    match session.quit() {
        Ok(()) => {
            report.deleted = marked.len();
            record.deleted(marked).map_err(Failed::local)
        }
        Err(error) => {
            if !marked.is_empty() {
                report.warnings.push(format!(
                    "QUIT was not answered: whether {} messages are deleted the next run will see",
                    marked.len()
                ));
            }
            Err(error.into())
        }
    }
}

/// What a run would do.
fn plan(
    account: &Account,
    session: &mut Session<Transaction>,
    record: &Record,
    known: &[Known],
    report: &mut Report,
) -> Result<(), Failed> {
    let wanted = wanted(account, session, record, known, report)?;
    for known in &wanted {
        let Listing { number, octets, .. } = &known.listing;
        let line = format!(
            "fetch {} ({octets} octets, {})",
            number.value(),
            known.incoming.key
        );
        report.plan.push(line);
    }
    for known in to_be_deleted(account, record, known) {
        let number = known.listing.number.value();
        report
            .plan
            .push(format!("delete {number} ({})", known.incoming.key));
    }
    if account.options.delete && account.options.delete_after.is_none() && !wanted.is_empty() {
        report.plan.push(format!(
            "delete what is fetched ({} messages)",
            wanted.len()
        ));
    }
    Ok(())
}
