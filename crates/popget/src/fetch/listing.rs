//! What is on the server, and what of it is wanted.

use std::collections::HashMap;

use net_pop3::blocking::Session;
use net_pop3::{Listing, Transaction};

use super::delete::to_be_deleted;
use super::{Report, Stop, Troubles};
use crate::account::Account;
use crate::deliver::Incoming;
use crate::failure::Failed;
use crate::seen::Record;

/// A message of the listing, as the record knows it.
#[derive(Clone, Debug)]
pub struct Known {
    pub listing: Listing,
    pub incoming: Incoming,
}

/// What is there.
pub fn list(
    account: &Account,
    session: &mut Session<Transaction>,
    report: &mut Report,
) -> Result<Vec<Known>, Failed> {
    let listing = session.listing()?;
    report.messages = report.messages.max(listing.len());
    known(account, listing)
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

/// Their keys.
pub fn keys(known: &[Known]) -> impl Iterator<Item = &str> {
    known.iter().map(|known| known.incoming.key.as_str())
}

/// Notices when a server gives its messages new ids: they would all be fetched again.
pub fn compare(record: &mut Record, known: &[Known], report: &mut Report) -> Result<(), Failed> {
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

/// What is new, and fulfils the filters.
pub fn wanted(
    account: &Account,
    session: &mut Session<Transaction>,
    record: &Record,
    known: &[Known],
    troubles: &Troubles,
    report: &mut Report,
) -> Result<Vec<Known>, Stop> {
    let filters = &account.options.filter;
    let is_new = |known: &&Known| {
        let key = &known.incoming.key;
        !record.has(key) && !troubles.given_up.contains(key)
    };
    let mut new: Vec<Known> = known.iter().filter(is_new).cloned().collect();
    new.sort_by_key(|known| troubles.broke.contains(&known.incoming.key));
    // Of the first session, in which none was fetched before.
    report.new = report.new.max(new.len());
    let all = new.len();
    let by_size = |known: &Known| {
        let mut sizes = filters.iter().filter(|filter| !filter.needs_header());
        sizes.all(|filter| filter.matches(known.listing.octets, b""))
    };
    let mut wanted: Vec<Known> = new.into_iter().filter(by_size).collect();
    if filters.iter().any(|filter| filter.needs_header()) {
        let mut fulfil = Vec::with_capacity(wanted.len());
        let mut each = wanted.iter();
        let mut headers = session.top_all(wanted.iter().map(|known| known.listing.number), 0);
        while let Some(header) = headers.next_message() {
            let Some(known) = each.next() else { break };
            let stop =
                |error: net_pop3::Error| Stop::Session(known.incoming.key.clone(), error.into());
            let header = match header {
                Ok(header) => header.to_vec().map_err(stop)?,
                Err(error) if error.ends_session() => return Err(stop(error)),
                // Without TOP nothing can be said against it.
                Err(_) => {
                    fulfil.push(true);
                    continue;
                }
            };
            let octets = known.listing.octets;
            fulfil.push(filters.iter().all(|filter| filter.matches(octets, &header)));
        }
        let mut fulfil = fulfil.into_iter();
        wanted.retain(|_| fulfil.next().unwrap_or(true));
    }
    report.unwanted = all - wanted.len();
    Ok(wanted)
}

/// What a run would do.
pub fn plan(
    account: &Account,
    session: &mut Session<Transaction>,
    record: &Record,
    known: &[Known],
    report: &mut Report,
) -> Result<(), Failed> {
    let troubles = Troubles::default();
    let wanted = match wanted(account, session, record, known, &troubles, report) {
        Ok(wanted) => wanted,
        Err(Stop::Session(_, failed) | Stop::Run(failed)) => return Err(failed),
    };
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
