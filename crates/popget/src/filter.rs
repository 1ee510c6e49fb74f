//! Which messages are wanted, by size and by what their header says.

use std::fmt;
use std::str::FromStr;

/// A condition: `size<1M`, `size>10k`, `from:*@example.org`, with `!` before it the opposite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    is_negated: bool,
    condition: Condition,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Smaller(u64),
    Larger(u64),
    /// Name of the field in lower case, pattern in lower case, where `*` stands for anything.
    Header(String, String),
}

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAFilter;

impl fmt::Display for NotAFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a filter is size<OCTETS, size>OCTETS or FIELD:PATTERN, with ! before it for the opposite")
    }
}

impl std::error::Error for NotAFilter {}

impl FromStr for Filter {
    type Err = NotAFilter;

    fn from_str(text: &str) -> Result<Filter, NotAFilter> {
        let (is_negated, text) = match text.strip_prefix('!') {
            Some(text) => (true, text),
            None => (false, text),
        };
        let condition = if let Some(size) = text.strip_prefix("size<") {
            Condition::Smaller(octets(size).ok_or(NotAFilter)?)
        } else if let Some(size) = text.strip_prefix("size>") {
            Condition::Larger(octets(size).ok_or(NotAFilter)?)
        } else {
            let (name, pattern) = text.split_once(':').ok_or(NotAFilter)?;
            let is_name = |octet: u8| octet.is_ascii_graphic();
            if name.is_empty() || !name.bytes().all(is_name) {
                return Err(NotAFilter);
            }
            Condition::Header(name.to_lowercase(), pattern.trim().to_lowercase())
        };
        Ok(Filter {
            is_negated,
            condition,
        })
    }
}

impl<'de> serde::Deserialize<'de> for Filter {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Filter, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Filter {
    /// Whether the header is needed to say.
    pub fn needs_header(&self) -> bool {
        matches!(self.condition, Condition::Header(..))
    }

    /// Whether a message of that size, with that header, fulfils it. Fields may come several times: one is enough.
    pub fn matches(&self, size: u64, header: &[u8]) -> bool {
        let is_fulfilled = match &self.condition {
            Condition::Smaller(bound) => size < *bound,
            Condition::Larger(bound) => size > *bound,
            Condition::Header(name, pattern) => unfolded(header)
                .iter()
                .filter_map(|line| line.split_once(':'))
                .any(|(field, value)| {
                    field.trim_end().eq_ignore_ascii_case(name)
                        && glob(pattern.as_bytes(), value.trim().to_lowercase().as_bytes())
                }),
        };
        is_fulfilled != self.is_negated
    }
}

/// A number with `k`, `M` or `G` behind it, or without.
fn octets(text: &str) -> Option<u64> {
    let (digits, factor) = match text.as_bytes().last()? {
        b'k' | b'K' => (text.get(..text.len() - 1)?, 1024),
        b'M' => (text.get(..text.len() - 1)?, 1024 * 1024),
        b'G' => (text.get(..text.len() - 1)?, 1024 * 1024 * 1024),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// Lines of the header, continuation lines joined (RFC 5322 section 2.2.3).
fn unfolded(header: &[u8]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in String::from_utf8_lossy(header).lines() {
        if line.is_empty() {
            break;
        }
        match lines.last_mut().filter(|_| line.starts_with([' ', '\t'])) {
            Some(last) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            None => lines.push(line.to_owned()),
        }
    }
    lines
}

/// Whether `pattern` describes all of `text`. Needs no more than their lengths multiplied.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    // The last star, and where in the text what it stands for ends.
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(octet) if Some(octet) == text.get(seen) => {
                at += 1;
                seen += 1;
            }
            _ => match star {
                Some((after, end)) => {
                    star = Some((after, end + 1));
                    (at, seen) = (after + 1, end + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|octet| *octet == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"From: News <news@Example.org>\nSubject: a\n long\n\tsubject\nReceived: x\nReceived: y\n\nSubject: body\n";

    fn matches(filter: &str) -> bool {
        filter.parse::<Filter>().unwrap().matches(2048, HEADER)
    }

    #[test]
    fn size_and_header_are_looked_at() {
        for filter in [
            "size<3k",
            "size>1k",
            "!size<2k",
            "from:*@example.org*",
            "FROM:*news*",
            "subject:a long subject",
            "received:y",
            "!subject:body",
            "!x-spam:yes",
            "subject:*",
        ] {
            assert!(matches(filter), "{filter}");
        }
        for filter in [
            "size<2048",
            "size>2048",
            "!from:*",
            "from:news",
            "to:*",
            "subject:body",
        ] {
            assert!(!matches(filter), "{filter}");
        }
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, is_match) in [
            ("", "", true),
            ("*", "", true),
            ("a*b*c", "axxbxxc", true),
            ("a*b*c", "abcbc", true),
            ("*b", "abab", true),
            ("a", "ab", false),
            ("*a", "b", false),
            ("a*", "ba", false),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), text.as_bytes()),
                is_match,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for text in [
            "",
            "size",
            "size<",
            "size<x",
            "size<99999999999999999999G",
            ":x",
            "a b:x",
            "!",
        ] {
            assert_eq!(text.parse::<Filter>(), Err(NotAFilter), "{text}");
        }
    }
}
