//! Which message there is which here. What is not certain is said to be so, and nothing is guessed.
//!
//! Messages of equal headers are told apart by size. Servers count it with line ends of one octet or of two, and with or
//! without the header fields they add themselves; whatever way makes both sides equal will do. Messages that are equal by
//! all that are as many on both sides, and in the same order.

use std::collections::{BTreeMap, HashMap};

use super::head::Head;

/// Octets that sizes may differ by in the second attempt: an empty line at the end that belongs to a message on one server
/// and to the mbox on the other.
const TOLERANCE: u64 = 2;

/// So many messages of one header are compared each with each.
const MAX_COMPARED: usize = 500;

/// A message there, or here.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Its header.
    pub head: &'a Head,
    /// Octets: as the other server says, or as ours does.
    pub octets: u64,
    /// Line ends of a message here; of one there they are not known.
    pub lines: u64,
}

/// What a message there is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// This one, counted from 0.
    Is(usize),
    /// One of several.
    Ambiguous,
    /// None.
    Missing,
}

/// Says for each message there which it is here. No two are the same.
pub fn compare(there: &[Known<'_>], here: &[Known<'_>]) -> Vec<Match> {
    let mut groups: HashMap<[u8; 16], (Vec<usize>, Vec<usize>)> = HashMap::new();
    for (at, message) in there.iter().enumerate() {
        groups.entry(message.head.digest).or_default().0.push(at);
    }
    for (at, message) in here.iter().enumerate() {
        if let Some(group) = groups.get_mut(&message.head.digest) {
            group.1.push(at);
        }
    }
    let mut matches = vec![Match::Missing; there.len()];
    for (theirs, ours) in groups.into_values() {
        let mut group = Group {
            there,
            here,
            theirs,
            ours,
        };
        for tolerance in [0, TOLERANCE] {
            group.settle(tolerance, &mut matches);
        }
    }
    matches
}

/// Messages of one header.
struct Group<'a> {
    there: &'a [Known<'a>],
    here: &'a [Known<'a>],
    theirs: Vec<usize>,
    ours: Vec<usize>,
}

impl Group<'_> {
    /// Matches what can be, and takes it out of the group.
    fn settle(&mut self, tolerance: u64, matches: &mut [Match]) {
        let agree = |&there: &usize, &here: &usize| {
            let pair = self.there.get(there).zip(self.here.get(here));
            pair.is_some_and(|(there, here)| sizes_agree(there, here, tolerance))
        };
        let mut found = Vec::new();
        if self.theirs.len().max(self.ours.len()) > MAX_COMPARED {
            let pairs = || self.theirs.iter().zip(&self.ours);
            let same = self.theirs.len() == self.ours.len()
                && pairs().all(|(there, here)| agree(there, here));
            match same {
                true => found.extend(pairs().map(|(&there, &here)| (there, here))),
                false => self.theirs.iter().for_each(|&there| {
                    if let Some(place) = matches.get_mut(there) {
                        *place = Match::Ambiguous;
                    }
                }),
            }
        } else {
            // Messages there by all those here that they could be.
            let mut alike: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
            for &there in &self.theirs {
                let could_be = self.ours.iter().filter(|here| agree(&there, here));
                alike
                    .entry(could_be.copied().collect())
                    .or_default()
                    .push(there);
            }
            for (ours, theirs) in &alike {
                let is_apart = |(others, _): (&Vec<usize>, _)| {
                    others == ours || others.iter().all(|here| !ours.contains(here))
                };
                if ours.len() == theirs.len() && alike.iter().all(is_apart) {
                    found.extend(theirs.iter().copied().zip(ours.iter().copied()));
                } else if !ours.is_empty() {
                    for &there in theirs {
                        if let Some(place) = matches.get_mut(there) {
                            *place = Match::Ambiguous;
                        }
                    }
                }
            }
        }
        for &(there, here) in &found {
            if let Some(place) = matches.get_mut(there) {
                *place = Match::Is(here);
            }
        }
        // What more than one could be at the first attempt stays so.
        let is_open = |there: &usize| matches.get(*there) == Some(&Match::Missing);
        self.theirs.retain(is_open);
        self.ours
            .retain(|here| found.iter().all(|(_, taken)| taken != here));
    }
}

fn sizes_agree(there: &Known<'_>, here: &Known<'_>, tolerance: u64) -> bool {
    let lf = here.octets.saturating_sub(here.lines);
    let near = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (Some(one), Some(other)) => one.abs_diff(other) <= tolerance,
        _ => false,
    };
    let (theirs, ours) = (there.head, here.head);
    let body = here.octets.checked_sub(ours.octets);
    let body_lf = lf.checked_sub(ours.octets.saturating_sub(ours.lines));
    let header_lf = theirs.octets.saturating_sub(theirs.lines);
    let own = theirs.octets.saturating_sub(theirs.ignored_octets);
    let own_lf =
        header_lf.saturating_sub(theirs.ignored_octets.saturating_sub(theirs.ignored_lines));
    // The whole message; its body, behind the header as it was sent; its body, where what the server adds is not counted.
    near(Some(there.octets), Some(here.octets))
        || near(Some(there.octets), Some(lf))
        || near(there.octets.checked_sub(theirs.octets), body)
        || near(there.octets.checked_sub(header_lf), body_lf)
        || near(there.octets.checked_sub(own), body)
        || near(there.octets.checked_sub(own_lf), body_lf)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message: its header as sent there, as here, and the octets and lines of its body.
    fn matches(there: &[(&str, u64)], here: &[(&str, u64, u64)]) -> Vec<Match> {
        let heads = |texts: &[&str]| -> Vec<Head> {
            texts.iter().map(|text| Head::of(text.as_bytes())).collect()
        };
        let their_heads = heads(&there.iter().map(|&(text, _)| text).collect::<Vec<_>>());
        let our_heads = heads(&here.iter().map(|&(text, ..)| text).collect::<Vec<_>>());
        let theirs: Vec<Known<'_>> = there
            .iter()
            .zip(&their_heads)
            .map(|(&(_, octets), head)| Known {
                head,
                octets,
                lines: 0,
            })
            .collect();
        let ours: Vec<Known<'_>> = here
            .iter()
            .zip(&our_heads)
            .map(|(&(_, octets, lines), head)| Known {
                head,
                octets: head.octets + octets,
                lines: head.lines + lines,
            })
            .collect();
        compare(&theirs, &ours)
    }

    const A: &str = "Subject: a\n\n"; // 14 octets with two each line
    const B: &str = "Subject: b\n\n";

    #[test]
    fn a_size_is_the_same_however_it_is_counted() {
        let here = [(A, 100, 10)];
        for (header, octets) in [
            (A, 114),
            (A, 114 - 12),
            (A, 115),
            ("Status: RO\nSubject: a\n\n", 114),
            ("Status: RO\nSubject: a\n\n", 126),
            ("Status: RO\nSubject: a\n\n", 126 - 13),
        ] {
            assert_eq!(
                matches(&[(header, octets)], &here),
                [Match::Is(0)],
                "{octets}"
            );
        }
        for octets in [0, 1, 90, 130, u64::MAX] {
            assert_eq!(matches(&[(A, octets)], &here), [Match::Missing]);
        }
    }

    #[test]
    fn what_a_mail_reader_has_written_here_does_not_matter() {
        let here = [("Subject: a\nX-Status: F\nX-UID: 17\n\n", 100, 10)];
        assert_eq!(matches(&[(A, 114)], &here), [Match::Is(0)]);
        assert_eq!(matches(&[(A, 102)], &here), [Match::Is(0)]);
    }

    #[test]
    fn equal_messages_are_matched_in_order_and_only_if_they_are_as_many() {
        let there = [(A, 114), (B, 20), (A, 114), (A, 300)];
        let here = [(B, 6, 1), (A, 286, 2), (A, 100, 10), (A, 100, 10)];
        let is = |numbers: [usize; 4]| numbers.map(Match::Is);
        assert_eq!(matches(&there, &here), is([2, 0, 3, 1]));
        let more = [&here[..], &[(A, 100, 10)]].concat();
        assert_eq!(
            matches(&there, &more),
            [
                Match::Ambiguous,
                Match::Is(0),
                Match::Ambiguous,
                Match::Is(1)
            ]
        );
        assert_eq!(
            matches(&there, &here[..3]),
            [
                Match::Ambiguous,
                Match::Is(0),
                Match::Ambiguous,
                Match::Is(1)
            ]
        );
        assert_eq!(matches(&there, &here[..2])[0], Match::Missing);
    }

    #[test]
    fn a_great_many_messages_of_one_header_are_matched_in_order_or_not_at_all() {
        let there = vec![(A, 114); MAX_COMPARED + 1];
        let mut here = vec![(A, 100, 10); MAX_COMPARED + 1];
        let found = matches(&there, &here);
        assert!((0..=MAX_COMPARED).all(|at| found[at] == Match::Is(at)));
        here.pop();
        let found = matches(&there, &here);
        assert!(found.iter().all(|one| *one == Match::Ambiguous));
    }
}
