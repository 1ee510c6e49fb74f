//! The unique-ids of qmail's POP3 server: the names of a Maildir's files, up to the flags.
//!
//! Our own are the same where a name can be a unique-id. Longer ones, and such with spaces or octets beyond ASCII, qmail
//! sends all the same, against RFC 1939; clients that took them see those messages anew.

use super::{IdMap, IdMapError};
use crate::UniqueId;
use crate::maildir::{base, own_id};

/// The ids of messages in files of these names, where they are not our own.
///
/// # Errors
/// Two messages would be shown by the same id.
pub fn of_names<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> Result<IdMap, IdMapError> {
    let pair = |name| {
        let base = base(name);
        let (own, shown) = (own_id(base)?, UniqueId::new(base)?);
        (own != shown).then_some((own, shown))
    };
    let mut pairs: Vec<_> = names.into_iter().filter_map(pair).collect();
    pairs.sort_unstable();
    pairs.dedup();
    IdMap::from_pairs(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_can_be_ids_are_the_ids() {
        let long = "x".repeat(71);
        let names = ["1.a:2,S", "~1.b", "~1.b:2,", "with space", &long];
        let map = of_names(names.map(str::as_bytes)).unwrap();
        let shown = |name: &str| {
            let own = own_id(name.as_bytes()).unwrap();
            map.shown_for(own).to_string()
        };
        assert_eq!(shown("1.a"), "1.a");
        assert_eq!(shown("~1.b"), "~1.b");
        assert!(shown("with space").starts_with('~'));
        assert_eq!(map.pairs().count(), 1);
    }
}
