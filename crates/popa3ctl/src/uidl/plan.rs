//! From what messages are known by elsewhere to the list of ids that the server reads, and what there is to report of it.

use std::collections::{HashMap, HashSet};

use maildrop::{IdMap, UniqueId};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::head::Head;
use super::matching::{Known, Match, compare};
use super::{local, remote};

/// An id that did not come to a message here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// The id there.
    pub id: String,
    /// Octets of its message, where they are known.
    pub octets: Option<u64>,
    /// What is the matter.
    pub what: What,
}

/// What can be the matter with an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// No message here is that one.
    Missing,
    /// Several could be.
    Ambiguous,
    /// POP3 does not allow it (RFC 1939 section 7: 1 to 70 printing octets).
    Unusable,
    /// Its message is shown by another id here.
    Otherwise,
}

/// What became of one maildrop.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Messages there.
    pub there: usize,
    /// Messages here.
    pub here: usize,
    /// Messages that are shown by the ids that they have there.
    pub same: usize,
    /// Ids that more than one message has there, so that clients take them for one; counted without the first.
    pub repeated: usize,
    /// Ids that clients know and would miss.
    pub troubles: Vec<Trouble>,
}

/// An id there, and the message here that has to be shown by it.
#[derive(Clone, Debug)]
pub struct Wanted {
    id: String,
    octets: Option<u64>,
    found: Match,
}

/// What another server's messages are here.
///
/// # Errors
/// The helper process has left out what messages are known by.
pub fn wanted_of_server(
    there: &[remote::Message],
    here: &[local::Message],
) -> Result<Vec<Wanted>, String> {
    // One that could not be read there is like none here.
    let none = Head::unlike_any();
    let theirs: Vec<Known<'_>> = there
        .iter()
        .map(|message| Known {
            head: message.head.as_ref().unwrap_or(&none),
            octets: message.octets,
            lines: 0,
        })
        .collect();
    let ours: Option<Vec<Known<'_>>> = here
        .iter()
        .map(|message| {
            Some(Known {
                head: message.head.as_ref()?,
                octets: message.octets,
                lines: message.lines,
            })
        })
        .collect();
    let ours = ours.ok_or("helper process: a message without its header")?;
    let found = compare(&theirs, &ours);
    let wanted = there.iter().zip(found).map(|(message, found)| Wanted {
        id: message.id.clone(),
        octets: Some(message.octets),
        found,
    });
    Ok(wanted.collect())
}

/// What another server has left in the maildrop itself.
pub fn wanted_of_left(here: &[local::Message]) -> Vec<Wanted> {
    let left = here.iter().enumerate().filter_map(|(at, message)| {
        Some(Wanted {
            id: message.left.clone()?,
            octets: Some(message.octets),
            found: Match::Is(at),
        })
    });
    left.collect()
}

/// What a list says, as [`IdMap`] has it.
pub fn wanted_of_list(list: &IdMap, here: &[local::Message]) -> Vec<Wanted> {
    let places: HashMap<&str, usize> = (here.iter().enumerate())
        .map(|(at, message)| (message.own.as_str(), at))
        .collect();
    let wanted = list.pairs().map(|(own, shown)| Wanted {
        id: shown.to_string(),
        octets: None,
        found: match places.get(own.to_string().as_str()) {
            Some(&at) => Match::Is(at),
            None => Match::Missing,
        },
    });
    wanted.collect()
}

/// The list for these messages, each with its own id. Messages nobody wants by another id keep what `before` says.
///
/// # Errors
/// Ids of messages here are not distinct, which they are.
pub fn import(
    wanted: &[Wanted],
    own: &[UniqueId],
    before: &IdMap,
) -> Result<(IdMap, Report), String> {
    let mut report = Report {
        there: wanted.len(),
        here: own.len(),
        ..Report::default()
    };
    let mut shown: Vec<Option<UniqueId>> = vec![None; own.len()];
    let mut taken = HashSet::new();
    for wanted in wanted {
        let trouble = |what| Trouble {
            id: wanted.id.clone(),
            octets: wanted.octets,
            what,
        };
        let place = match wanted.found {
            Match::Is(at) => shown.get_mut(at),
            Match::Ambiguous | Match::Missing if taken.contains(wanted.id.as_bytes()) => {
                report.repeated = report.repeated.saturating_add(1);
                continue;
            }
            Match::Ambiguous => {
                report.troubles.push(trouble(What::Ambiguous));
                continue;
            }
            Match::Missing => None,
        };
        match (UniqueId::new(wanted.id.as_bytes()), place) {
            (None, _) => report.troubles.push(trouble(What::Unusable)),
            (Some(_), None) => report.troubles.push(trouble(What::Missing)),
            (Some(id), Some(place)) => match taken.insert(id.as_bytes().to_vec()) {
                true => *place = Some(id),
                false => report.repeated = report.repeated.saturating_add(1),
            },
        }
    }
    report.same = shown.iter().flatten().count();
    let mut pairs = Vec::new();
    for (&own, shown) in own.iter().zip(shown) {
        let shown = match shown {
            Some(shown) => shown,
            None => {
                let mut free = [before.shown_for(own), own]
                    .into_iter()
                    .chain((1..=taken.len().saturating_add(1)).filter_map(|n| substitute(own, n)));
                free.find(|id| taken.insert(id.as_bytes().to_vec()))
                    .ok_or("no unique-id is left")?
            }
        };
        if shown != own {
            pairs.push((own, shown));
        }
    }
    let map = IdMap::from_pairs(pairs).map_err(|error| error.to_string())?;
    Ok((map, report))
}

/// An id for a message whose own another has been given.
fn substitute(own: UniqueId, number: usize) -> Option<UniqueId> {
    use std::fmt::Write as _;
    let mut sum = Sha256::new();
    sum.update(own.as_bytes());
    sum.update(number.to_le_bytes());
    let mut text = "~".to_owned();
    for octet in &sum.finalize()[..16] {
        write!(text, "{octet:02x}").ok()?;
    }
    UniqueId::new(text.as_bytes())
}

/// What clients would find if they came here: every id there is to be here, for the same message.
pub fn verify(wanted: &[Wanted], own: &[UniqueId], map: &IdMap) -> Report {
    let mut report = Report {
        there: wanted.len(),
        here: own.len(),
        ..Report::default()
    };
    let served: Vec<String> = own
        .iter()
        .map(|&own| map.shown_for(own).to_string())
        .collect();
    let ids: HashSet<&str> = served.iter().map(String::as_str).collect();
    let mut seen = HashSet::new();
    for wanted in wanted {
        if !seen.insert(wanted.id.as_str()) {
            report.repeated = report.repeated.saturating_add(1);
            continue;
        }
        let is_there = ids.contains(wanted.id.as_str());
        let what = match wanted.found {
            Match::Is(at) if served.get(at) == Some(&wanted.id) => None,
            // One of several that are equal has it.
            Match::Ambiguous if is_there => None,
            Match::Is(_) => Some(What::Otherwise),
            Match::Ambiguous => Some(What::Ambiguous),
            Match::Missing => Some(What::Missing),
        };
        match what {
            None => report.same = report.same.saturating_add(1),
            Some(what) => report.troubles.push(Trouble {
                id: wanted.id.clone(),
                octets: wanted.octets,
                what,
            }),
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> UniqueId {
        UniqueId::new(text.as_bytes()).unwrap()
    }

    fn wanted(id: &str, found: Match) -> Wanted {
        Wanted {
            id: id.to_owned(),
            octets: None,
            found,
        }
    }

    fn whats(report: &Report) -> Vec<(&str, What)> {
        let troubles = report.troubles.iter();
        troubles.map(|one| (one.id.as_str(), one.what)).collect()
    }

    #[test]
    fn what_is_found_is_shown_by_its_id_and_what_is_not_is_reported() {
        let own = ["a", "b", "c"].map(id);
        let long = "x".repeat(71);
        let list = [
            wanted("1", Match::Is(1)),
            wanted("2", Match::Missing),
            wanted("3", Match::Ambiguous),
            wanted(&long, Match::Is(0)),
            wanted("1", Match::Is(0)),
        ];
        let (map, report) = import(&list, &own, &IdMap::default()).unwrap();
        assert_eq!(map.to_text(), b"popa3d-ids 1\nb 1\n");
        assert_eq!((report.there, report.here), (5, 3));
        assert_eq!((report.same, report.repeated), (1, 1));
        let expected = [
            ("2", What::Missing),
            ("3", What::Ambiguous),
            (long.as_str(), What::Unusable),
        ];
        assert_eq!(whats(&report), expected);
        let after = verify(&list, &own, &map);
        assert_eq!((after.same, after.repeated), (1, 1));
        assert_eq!(whats(&after).len(), 3);
    }

    #[test]
    fn what_was_carried_over_before_stays_unless_another_message_has_that_id_now() {
        let own = ["a", "b", "c"].map(id);
        let before =
            IdMap::from_pairs([("a", "1"), ("b", "2"), ("gone", "9")].map(|(a, b)| (id(a), id(b))));
        let list = [wanted("2", Match::Is(2))];
        let (map, _) = import(&list, &own, &before.unwrap()).unwrap();
        assert_eq!(map.to_text(), b"popa3d-ids 1\na 1\nc 2\n");
    }

    #[test]
    fn no_two_messages_are_shown_by_one_id() {
        let own = ["a", "b"].map(id);
        let (map, report) = import(&[wanted("b", Match::Is(0))], &own, &IdMap::default()).unwrap();
        let shown = own.map(|own| map.shown_for(own).to_string());
        assert_eq!(shown[0], "b");
        assert!(
            shown[1].starts_with('~') && shown[1].len() == 33,
            "{shown:?}"
        );
        assert!(report.troubles.is_empty());
    }

    #[test]
    fn clients_must_find_every_id_for_the_same_message() {
        let own = ["a", "b", "c"].map(id);
        let map = IdMap::from_pairs([(id("a"), id("1"))]).unwrap();
        let report = verify(
            &[
                wanted("1", Match::Is(0)),
                wanted("2", Match::Is(1)),
                wanted("b", Match::Ambiguous),
                wanted("1", Match::Is(2)),
                wanted("c", Match::Missing),
            ],
            &own,
            &map,
        );
        assert_eq!((report.same, report.repeated), (2, 1));
        assert_eq!(
            whats(&report),
            [("2", What::Otherwise), ("c", What::Missing)]
        );
    }
}
