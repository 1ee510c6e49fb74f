//! SASLprep (RFC 4013): different ways of typing the same characters become the same octets.
//!
//! Names that cannot be prepared are refused (RFC 5034 section 4). A password that cannot be prepared is used **as it is, octet for
//! octet**, when a verifier is made, when it is checked, and in the client: nobody is kept from a password by its characters
//! (emoji are younger than Unicode 3.2, where SASLprep stops; Latin-1 is no UTF-8).

use stringprep::tables;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::MAX_NAME_OCTETS;

/// Whether code points that Unicode 3.2 did not know may appear (RFC 3454 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unassigned {
    /// In queries: names.
    Allowed,
    /// In stored strings: what SCRAM hashes (RFC 5802 section 2.2).
    Prohibited,
}

/// The name as it is looked up and compared; `None` if it is not UTF-8, cannot be prepared, or is empty or longer than
/// [`MAX_NAME_OCTETS`] before or after. It contains no control characters.
pub fn prepare_name(octets: &[u8]) -> Option<String> {
    if octets.len() > MAX_NAME_OCTETS {
        return None;
    }
    let prepared = saslprep(std::str::from_utf8(octets).ok()?, Unassigned::Allowed)?;
    let sound = !prepared.is_empty() && prepared.len() <= MAX_NAME_OCTETS;
    sound.then(|| prepared.to_string())
}

/// The password as SCRAM hashes it: prepared, or the octets themselves where that fails or leaves nothing.
pub fn prepare_password(octets: &[u8]) -> Zeroizing<Vec<u8>> {
    let prepared = std::str::from_utf8(octets)
        .ok()
        .and_then(|text| saslprep(text, Unassigned::Prohibited))
        .filter(|prepared| !prepared.is_empty());
    let octets = prepared
        .as_ref()
        .map_or(octets, |prepared| prepared.as_bytes());
    Zeroizing::new(octets.to_vec())
}

/// The profile itself; `None` for prohibited characters.
pub fn saslprep(text: &str, unassigned: Unassigned) -> Option<Zeroizing<String>> {
    // Nearly all there is, and it need not go through the buffers of a normalizer.
    if text.is_ascii() {
        let refused = text.contains(is_prohibited);
        return (!refused).then(|| Zeroizing::new(text.to_owned()));
    }
    let normalized = || {
        text.chars()
            .map(|c| match tables::non_ascii_space_character(c) {
                true => ' ',
                false => c,
            })
            .filter(|&c| !tables::commonly_mapped_to_nothing(c))
            .nfkc()
    };
    // Room for all of it at once: a string that grows leaves copies of a password behind.
    let octets = normalized().map(char::len_utf8).sum();
    let mut prepared = Zeroizing::new(String::with_capacity(octets));
    prepared.extend(normalized());

    let unassigned_found =
        unassigned == Unassigned::Prohibited && prepared.contains(tables::unassigned_code_point);
    let refused =
        prepared.contains(is_prohibited) || unassigned_found || !is_sound_in_direction(&prepared);
    (!refused).then_some(prepared)
}

/// RFC 4013 section 2.3.
fn is_prohibited(c: char) -> bool {
    tables::non_ascii_space_character(c)
        || tables::ascii_control_character(c)
        || tables::non_ascii_control_character(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
        || tables::inappropriate_for_plain_text(c)
        || tables::inappropriate_for_canonical_representation(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::tagging_character(c)
}

/// RFC 3454 section 6: right-to-left text holds no left-to-right letter, and begins and ends with a right-to-left one.
fn is_sound_in_direction(text: &str) -> bool {
    if !text.contains(tables::bidi_r_or_al) {
        return true;
    }
    !text.contains(tables::bidi_l)
        && text.starts_with(tables::bidi_r_or_al)
        && text.ends_with(tables::bidi_r_or_al)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(text: &str) -> Option<String> {
        saslprep(text, Unassigned::Prohibited).map(|prepared| prepared.to_string())
    }

    #[test]
    fn the_examples_of_rfc_4013_section_3() {
        for (input, output) in [
            ("I\u{ad}X", Some("IX")),
            ("user", Some("user")),
            ("USER", Some("USER")),
            ("\u{aa}", Some("a")),
            ("\u{2168}", Some("IX")),
            ("\u{7}", None),
            ("\u{627}1", None),
        ] {
            assert_eq!(stored(input).as_deref(), output, "{input:?}");
        }
    }

    #[test]
    fn it_agrees_with_the_stringprep_crate_on_stored_strings() {
        for text in [
            "",
            "p\u{e4}ss w\u{f6}rd",
            "e\u{301}",
            "a\u{a0}b",
            "\u{200b}",
            "\u{fdfa}",
            "\u{5d0}\u{5d1}",
            "\u{5d0}a",
            "\u{1f600}",
            "\u{e000}",
            "tab\t",
            "\u{fffd}",
            "\u{2ff0}",
            "\u{340}",
            "\u{e0041}",
        ] {
            let theirs = stringprep::saslprep(text).ok().map(|t| t.into_owned());
            assert_eq!(stored(text), theirs, "{text:?}");
        }
    }

    #[test]
    fn names_may_hold_what_unicode_3_2_did_not_know() {
        // Latin capital letter sharp s, of Unicode 5.1.
        assert_eq!(stored("\u{1e9e}"), None);
        assert_eq!(
            prepare_name("\u{1e9e}".as_bytes()).as_deref(),
            Some("\u{1e9e}")
        );
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let too_long_prepared = "\u{fdfa}".repeat(50);
        assert!(too_long_prepared.len() <= MAX_NAME_OCTETS);
        for refused in [
            &b""[..],
            b"\xc2\xad",
            b"a\0b",
            b"a\nb",
            b"\xff",
            &[b'a'; MAX_NAME_OCTETS + 1],
            too_long_prepared.as_bytes(),
        ] {
            assert_eq!(prepare_name(refused), None, "{}", refused.escape_ascii());
        }
        assert!(prepare_name(&[b'a'; MAX_NAME_OCTETS]).is_some());
    }

    #[test]
    fn a_password_that_cannot_be_prepared_stays_as_it_is() {
        for same in ["\u{1f600}e\u{301}", "tab\t", "\u{ad}", ""] {
            assert_eq!(*prepare_password(same.as_bytes()), same.as_bytes());
        }
        assert_eq!(*prepare_password(b"\xe4"), b"\xe4");
        assert_eq!(
            prepare_password("e\u{301}".as_bytes()),
            prepare_password("\u{e9}".as_bytes())
        );
    }
}
