//! What is deleted at the server: only such as is recorded as delivered, and reported only when QUIT has been answered.

use std::time::Duration;

use net_pop3::Transaction;
use net_pop3::blocking::Session;

use super::Report;
use super::listing::Known;
use crate::account::Account;
use crate::failure::{Exit, Failed};
use crate::seen::{Record, now};

/// Which messages go: only such as are recorded as delivered.
pub fn to_be_deleted<'a>(account: &Account, record: &Record, known: &'a [Known]) -> Vec<&'a Known> {
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

/// Marks messages as deleted, and ends the session.
pub fn delete(
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
