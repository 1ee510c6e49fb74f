//! The unique-ids of Dovecot's POP3 server, from its file `dovecot-uidlist` in a Maildir and its `pop3_uidl_format`.
//!
//! ```text
//! 3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1       1 1275660208 25022
//! 25006 W2484 S2445 Pid :1276528487.M364837P9451.host,S=1355   25006 1276528487.M364837P9451.host
//! ```
//!
//! A format may hold `%u` (uid), `%v` (validity), `%f` (the file's name) and `%g` (the same, unless `G` says otherwise),
//! each with a width filled up with zeros and `X` for hexadecimal, `L` and `U` for the case of letters: `%08Xu%08Xv`. Or,
//! as since 2.4, `%{uid | hex(8)}%{uidvalidity | hex(8)}`. `%m`, a sum over headers, is not known.

use super::{IdMap, IdMapError};
use crate::UniqueId;
use crate::maildir::{base, own_id};

/// The file's name in a Maildir.
pub const FILE: &str = "dovecot-uidlist";

/// How an id is made up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(u8),
    Value {
        variable: Variable,
        width: usize,
        hexadecimal: bool,
        case: Case,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable {
    Uid,
    Validity,
    Name,
    Guid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    AsIs,
    Lower,
    Upper,
}

/// Widest field: an id is not longer.
const MAX_WIDTH: usize = UniqueId::MAX_OCTETS;

impl Format {
    /// Parses a format; `None` if it is not one of those described at [`dovecot`](self), or the same for all messages.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(octet) = rest.bytes().next() {
            let (part, after) = match rest.strip_prefix('%') {
                None => (Part::Text(octet), rest.get(1..)?),
                Some(after) => match after.strip_prefix('{') {
                    Some(after) => {
                        let (inside, after) = after.split_once('}')?;
                        (long(inside)?, after)
                    }
                    None => short(after)?,
                },
            };
            if matches!(part, Part::Text(octet) if !octet.is_ascii_graphic()) {
                return None;
            }
            parts.push(part);
            rest = after;
        }
        let varies = |part: &Part| matches!(part, Part::Value { variable, .. } if *variable != Variable::Validity);
        parts.iter().any(varies).then_some(Format(parts))
    }

    fn id(&self, message: &Message<'_>, validity: u32) -> Option<UniqueId> {
        let mut id = Vec::new();
        for part in &self.0 {
            match *part {
                Part::Text(octet) => id.push(octet),
                Part::Value {
                    variable,
                    width,
                    hexadecimal,
                    case,
                } => {
                    let value = match variable {
                        Variable::Uid => number(message.uid, width, hexadecimal),
                        Variable::Validity => number(validity, width, hexadecimal),
                        Variable::Name => message.name.to_vec(),
                        Variable::Guid => message.guid.unwrap_or(message.name).to_vec(),
                    };
                    id.extend(match case {
                        Case::AsIs => value,
                        Case::Lower => value.to_ascii_lowercase(),
                        Case::Upper => value.to_ascii_uppercase(),
                    });
                }
            }
        }
        UniqueId::new(&id)
    }
}

fn number(value: u32, width: usize, hexadecimal: bool) -> Vec<u8> {
    match hexadecimal {
        true => format!("{value:0width$x}").into_bytes(),
        false => format!("{value:0width$}").into_bytes(),
    }
}

/// `08Xu`, and what is behind it.
fn short(text: &str) -> Option<(Part, &str)> {
    let (mut width, mut hexadecimal, mut case) = (0_usize, false, Case::AsIs);
    for (at, character) in text.char_indices() {
        let after = text.get(at..)?.get(character.len_utf8()..)?;
        let variable = match character {
            '0'..='9' => {
                let digit = usize::try_from(character.to_digit(10)?).ok()?;
                width = width.checked_mul(10)?.checked_add(digit)?;
                if width > MAX_WIDTH {
                    return None;
                }
                continue;
            }
            'X' => {
                hexadecimal = true;
                continue;
            }
            'L' => {
                case = Case::Lower;
                continue;
            }
            'U' => {
                case = Case::Upper;
                continue;
            }
            '%' => return (at == 0).then_some((Part::Text(b'%'), after)),
            'u' => Variable::Uid,
            'v' => Variable::Validity,
            'f' => Variable::Name,
            'g' => Variable::Guid,
            _ => return None,
        };
        let part = Part::Value {
            variable,
            width,
            hexadecimal,
            case,
        };
        return Some((part, after));
    }
    None
}

/// `uid | hex(8)`.
fn long(text: &str) -> Option<Part> {
    let mut words = text.split('|').map(str::trim);
    let variable = match words.next()? {
        "uid" => Variable::Uid,
        "uidvalidity" => Variable::Validity,
        "filename" => Variable::Name,
        "guid" => Variable::Guid,
        _ => return None,
    };
    let (mut width, mut hexadecimal, mut case) = (0, false, Case::AsIs);
    for word in words {
        match word {
            "lower" => case = Case::Lower,
            "upper" => case = Case::Upper,
            "hex" => hexadecimal = true,
            _ => {
                let digits = word.strip_prefix("hex(")?.strip_suffix(')')?;
                width = digits.parse().ok().filter(|&width| width <= MAX_WIDTH)?;
                hexadecimal = true;
            }
        }
    }
    Some(Part::Value {
        variable,
        width,
        hexadecimal,
        case,
    })
}

/// A message as the file has it.
struct Message<'a> {
    uid: u32,
    name: &'a [u8],
    guid: Option<&'a [u8]>,
    /// An id of its own.
    id: Option<&'a [u8]>,
}

/// Reads the file's text. Of two lines for one message the last counts, since Dovecot appends; ids that would be shown
/// twice get `-2`, as with `pop3_uidl_duplicates = rename`.
///
/// # Errors
/// It is no such file, or a line is broken.
pub fn parse(text: &[u8], format: &Format) -> Result<IdMap, IdMapError> {
    let mut lines = text
        .split(|&octet| octet == b'\n')
        .filter(|line| !line.is_empty());
    let (version, validity) = lines.next().and_then(header).ok_or(IdMapError::Head)?;
    let mut messages = Vec::new();
    for (number, line) in (2..).zip(lines) {
        messages.push(message(line, version).ok_or(IdMapError::Line(number))?);
    }
    // The last of each name, in the order of uids, in which duplicates are counted.
    messages.reverse();
    messages.sort_by(|one, other| one.name.cmp(other.name));
    messages.dedup_by(|one, other| one.name == other.name);
    messages.sort_by_key(|message| message.uid);
    let mut pairs: Vec<(UniqueId, UniqueId)> = messages
        .iter()
        .filter_map(|message| {
            let shown = match message.id {
                Some(id) => UniqueId::new(id)?,
                None => format.id(message, validity)?,
            };
            Some((own_id(message.name)?, shown))
        })
        .collect();
    pairs.sort_by_key(|&(_, shown)| shown);
    let mut before = None;
    let mut copy = 1_u32;
    for (_, shown) in &mut pairs {
        copy = match before == Some(*shown) {
            true => copy.saturating_add(1),
            false => 1,
        };
        before = Some(*shown);
        if copy > 1 {
            let renamed = [shown.as_bytes(), format!("-{copy}").as_bytes()].concat();
            *shown = UniqueId::new(&renamed).ok_or(IdMapError::Repeated(*shown))?;
        }
    }
    IdMap::from_pairs(pairs)
}

fn header(line: &[u8]) -> Option<(u8, u32)> {
    let mut words = line.split(|&octet| octet == b' ');
    match words.next()? {
        b"1" => Some((1, decimal(words.next()?)?)),
        b"3" => {
            let validity = words.find_map(|word| word.strip_prefix(b"V"))?;
            Some((3, decimal(validity)?))
        }
        _ => None,
    }
}

fn message(line: &[u8], version: u8) -> Option<Message<'_>> {
    let (uid, rest) = split(line, b' ')?;
    let uid = decimal(uid)?;
    let (mut guid, mut id) = (None, None);
    let name = match version {
        1 => rest,
        _ => {
            let mut rest = rest;
            loop {
                if let Some(name) = rest.strip_prefix(b":") {
                    break name;
                }
                let (word, after) = split(rest, b' ')?;
                match word.split_first()? {
                    (b'G', value) => guid = Some(value),
                    (b'P', value) => id = Some(value),
                    _ => {}
                }
                rest = after;
            }
        }
    };
    let name = base(name);
    (!name.is_empty()).then_some(Message {
        uid,
        name,
        guid,
        id,
    })
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = memchr::memchr(at, text)?;
    Some((text.get(..place)?, text.get(place.checked_add(1)?..)?))
}

fn decimal(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V3: &str = "3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1\n\
        25006 W2484 S2445 :1.a,S=2445:2,S\n\
        25007 Pmine :2.b\n\
        25008 G00ff :3.c:2,\n";

    fn shown(text: &str, format: &str, name: &str) -> String {
        let format = Format::parse(format).unwrap();
        let map = parse(text.as_bytes(), &format).unwrap();
        map.shown_for(own_id(name.as_bytes()).unwrap()).to_string()
    }

    #[test]
    fn formats_are_expanded_as_dovecot_does() {
        for (format, expected) in [
            ("%08Xu%08Xv", "000061ae4c0907b0"),
            ("%u.%v", "25006.1275660208"),
            ("%Xu-%%", "61ae-%"),
            ("%08u", "00025006"),
            ("%LXu%UXv", "61ae4C0907B0"),
            ("%f", "1.a,S=2445"),
            ("%g", "1.a,S=2445"),
            ("%Uf", "1.A,S=2445"),
            ("%{uid | hex(8)}%{uidvalidity | hex(8)}", "000061ae4c0907b0"),
            ("x%{ uid }", "x25006"),
        ] {
            assert_eq!(shown(V3, format, "1.a,S=2445"), expected, "{format}");
        }
        assert_eq!(shown(V3, "%g", "3.c"), "00ff");
    }

    #[test]
    fn an_id_of_its_own_comes_before_the_format() {
        assert_eq!(shown(V3, "%u", "2.b"), "mine");
        assert_eq!(shown(V3, "%u", "4.d"), "4.d");
    }

    #[test]
    fn the_first_version_is_read_too() {
        let text = "1 1275660208 3\n1 1.a:2,S\n2 2.b c\n";
        assert_eq!(shown(text, "%u-%v", "1.a"), "1-1275660208");
        assert_eq!(shown(text, "%u-%v", "2.b c"), "2-1275660208");
    }

    #[test]
    fn a_later_line_counts_and_equal_ids_are_numbered() {
        assert_eq!(shown("1 7 9\n1 1.a\n5 1.a:2,S\n", "%u", "1.a"), "5");
        let text = "3 V7 N9\n1 Psame :1.a\n2 Psame :2.b\n3 Psame :0.c\n";
        assert_eq!(shown(text, "%u", "1.a"), "same");
        assert_eq!(shown(text, "%u", "2.b"), "same-2");
        assert_eq!(shown(text, "%u", "0.c"), "same-3");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for format in [
            "", "x", "%", "%m", "%v", "%08", "%u\n", "%u ", "%{uid", "%{md5}", "%999u", "%{uid|x}",
        ] {
            assert_eq!(Format::parse(format), None, "{format}");
        }
        let format = Format::parse("%u").unwrap();
        for text in [
            "",
            "2 V7\n",
            "3 N9\n",
            "x\n",
            "3 V7\n1 :\n",
            "3 V7\nx :1.a\n",
            "3 V7\n1 1.a\n",
        ] {
            assert!(parse(text.as_bytes(), &format).is_err(), "{text}");
        }
    }
}
