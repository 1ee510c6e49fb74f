//! The unique-ids of Courier's POP3 server, as its file `courierpop3dsizelist` in a Maildir has them.
//!
//! ```text
//! /3 NEXT VALIDITY          /2 NEXT VALIDITY          /1 NEXT            (no first line)
//! NAME SIZE ID:VALIDITY:U   NAME SIZE ID:VALIDITY     NAME SIZE ID       NAME SIZE
//! ```
//!
//! A message is shown as `UIDid-validity`, without a validity as `UIDid`, and without an id by its name, up to the flags,
//! octets that are not allowed written as `+` and two hexadecimal digits.

use super::{IdMap, IdMapError};
use crate::UniqueId;
use crate::maildir::{base, own_id};

/// The file's name in a Maildir.
pub const FILE: &str = "courierpop3dsizelist";

/// Reads the file's text. Lines that are not understood are skipped, as Courier does; of two for one message the first
/// counts.
///
/// # Errors
/// Two messages would be shown by the same id.
pub fn parse(text: &[u8]) -> Result<IdMap, IdMapError> {
    let lines = text.split(|&octet| octet == b'\n');
    let mut pairs: Vec<(UniqueId, UniqueId)> = lines
        .filter(|line| !line.starts_with(b"/"))
        .filter_map(message)
        .collect();
    pairs.sort_by_key(|&(own, _)| own);
    pairs.dedup_by_key(|&mut (own, _)| own);
    IdMap::from_pairs(pairs)
}

/// Our id and Courier's of the message that a line is about.
fn message(line: &[u8]) -> Option<(UniqueId, UniqueId)> {
    let mut words = line.split(|&octet| octet == b' ');
    let name = base(words.next().filter(|name| !name.is_empty())?);
    number(words.next()?)?;
    let mut numbers = words
        .next()
        .unwrap_or_default()
        .split(|&octet| octet == b':');
    let id = numbers.next().and_then(number).unwrap_or(0);
    let validity = numbers.next().and_then(number).unwrap_or(0);
    let shown = match (id, validity) {
        (0, _) => UniqueId::new(&escaped(name)),
        (id, 0) => UniqueId::new(format!("UID{id}").as_bytes()),
        (id, validity) => UniqueId::new(format!("UID{id}-{validity}").as_bytes()),
    };
    Some((own_id(name)?, shown?))
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn escaped(name: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::new();
    for &octet in name {
        match octet {
            b'\'' | b'"' | b'+' | ..=0x20 | 0x7f.. => {
                escaped.extend_from_slice(format!("+{octet:02X}").as_bytes());
            }
            _ => escaped.push(octet),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, name: &str) -> String {
        let map = parse(text.as_bytes()).unwrap();
        map.shown_for(own_id(name.as_bytes()).unwrap()).to_string()
    }

    #[test]
    fn each_version_is_read() {
        let name = "1275660208.M364837P9451.host,S=1355";
        for (first, rest, expected) in [
            (
                "/3 12 1275660200\n",
                " 1394 11:1275660200:0",
                "UID11-1275660200",
            ),
            (
                "/2 12 1275660200\n",
                " 1394 11:1275660200",
                "UID11-1275660200",
            ),
            ("/2 12 1275660200\n", " 1394 0:0", name),
            ("/1 12\n", " 1394 11", "UID11"),
            ("", " 1394", name),
        ] {
            for flags in ["", ":2,S"] {
                let text = format!("{first}0.other 1 1:1\n{name}{flags}{rest}\nbroken\n");
                assert_eq!(shown(&text, name), expected);
            }
        }
    }

    #[test]
    fn a_name_that_cannot_be_an_id_is_escaped() {
        assert_eq!(
            shown("1.a+b'\"\u{e4} 5 0:0\n", "1.a+b'\"\u{e4}"),
            "1.a+2Bb+27+22+C3+A4"
        );
    }

    #[test]
    fn a_message_that_is_not_in_the_file_has_its_own_id() {
        assert_eq!(shown("/2 1 1\n1.a 5 1:1\n", "2.b"), "2.b");
        assert_eq!(shown("", "2.b"), "2.b");
    }
}
