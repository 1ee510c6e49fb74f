//! Unique-ids of a Maildir: the base of the file name where it can be one, else a hash of it; all distinct.
//!
//! Hashed ones begin with `~` and no plain one does, so that neither can be taken for the other.

use std::collections::BTreeMap;

use md5::{Digest, Md5};

use super::name::{Arena, Name};
use crate::UniqueId;
use crate::unique_id::from_digest;

/// What hashed ids begin with.
const HASHED: &str = "~";

/// Says for each of `names`, equal bases being neighbours, how its unique-id is made: 0 from the base itself, else from a
/// hash of it, by number of those with that hash.
pub(super) fn number(arena: &Arena, names: impl Iterator<Item = Name>) -> Vec<u32> {
    let mut before = None;
    // Ordinary maildrops have nothing to hash, so this stays empty.
    let mut hashed: BTreeMap<[u8; 16], u32> = BTreeMap::new();
    names
        .map(|name| {
            let base = arena.base(name);
            let repeated = before.replace(base) == Some(base);
            if !repeated && plain(base).is_some() {
                return 0;
            }
            let count = hashed.entry(digest(base)).or_default();
            *count = count.saturating_add(1);
            *count
        })
        .collect()
}

/// The unique-id of a base numbered so.
pub(super) fn unique_id(base: &[u8], number: u32) -> Option<UniqueId> {
    match number {
        0 => plain(base),
        number => from_digest(HASHED, &digest(base), number),
    }
}

/// Our own id of a message whose file's name has this base, as long as no other has.
pub(crate) fn own_id(base: &[u8]) -> Option<UniqueId> {
    plain(base).or_else(|| from_digest(HASHED, &digest(base), 1))
}

fn plain(base: &[u8]) -> Option<UniqueId> {
    match base.starts_with(HASHED.as_bytes()) {
        true => None,
        false => UniqueId::new(base),
    }
}

fn digest(base: &[u8]) -> [u8; 16] {
    Md5::digest(base).into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::maildir::name::Folder;

    #[test]
    fn ids_are_distinct_whatever_the_files_are_called() {
        let long = "x".repeat(71);
        let empty = "~d41d8cd98f00b204e9800998ecf8427e";
        let names = [
            "1.a",
            "1.a:2,S",
            "1.a:2,T",
            "1.ä",
            "1.ä:2,",
            ":2,S",
            ":2,T",
            empty,
            &long,
            "with space",
        ];
        let mut arena = Arena::default();
        let names: Vec<Name> = names
            .iter()
            .map(|name| arena.store(Folder::Cur, name.as_bytes()).unwrap())
            .collect();
        let ids: Vec<String> = names
            .iter()
            .zip(number(&arena, names.iter().copied()))
            .map(|(&name, number)| unique_id(arena.base(name), number).unwrap().to_string())
            .collect();
        assert_eq!(
            ids.iter().collect::<HashSet<_>>().len(),
            ids.len(),
            "{ids:?}"
        );
        assert_eq!(ids[0], "1.a");
        assert!(ids[1].starts_with('~') && ids[2] == format!("{}-2", ids[1]));
        assert_eq!(ids[5], empty);
        assert!(ids.iter().all(|id| id.len() <= 70));
    }
}
