//! LANG (RFC 6856 section 3): in which language the texts of replies are.
//!
//! There is one, under two names: what it is, and the name by which a client asks for what everybody understands (RFC 2277
//! section 4.5). So nothing is remembered of a choice.

use crate::reply;

/// Tags, and the languages' names in themselves. The first is what `*` stands for.
const LANGUAGES: [(&str, &str); 2] = [("en", "English"), ("i-default", "Default language")];

/// Appends the list of languages, or chooses the first that the range matches. False: there is none, nothing is appended.
pub(super) fn answer(range: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
    match range {
        None => {
            reply::ok(out, "languages follow");
            for (tag, name) in LANGUAGES {
                out.extend_from_slice(format!("{tag} {name}\r\n").as_bytes());
            }
            out.extend_from_slice(reply::TERMINATOR);
        }
        Some(range) => {
            let Some((tag, name)) = LANGUAGES.iter().find(|(tag, _)| matches(range, tag)) else {
                return false;
            };
            reply::ok(out, &format!("{tag} {name}"));
        }
    }
    true
}

/// Basic filtering (RFC 4647 section 3.3.1): in any case, the whole tag or whole subtags from its beginning.
fn matches(range: &[u8], tag: &str) -> bool {
    let (beginning, rest) = match tag.as_bytes().split_at_checked(range.len()) {
        Some(cut) => cut,
        None => return false,
    };
    range == b"*"
        || (beginning.eq_ignore_ascii_case(range) && (rest.is_empty() || rest.starts_with(b"-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(range: Option<&str>) -> Option<String> {
        let mut out = Vec::new();
        answer(range.map(str::as_bytes), &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn rule_20_lang_lists_tags_with_their_names() {
        assert_eq!(
            answered(None).unwrap(),
            "+OK languages follow\r\nen English\r\ni-default Default language\r\n.\r\n"
        );
    }

    #[test]
    fn rule_20_lang_answers_with_the_tag_chosen() {
        for (range, tag) in [
            ("en", "en"),
            ("EN", "en"),
            ("*", "en"),
            ("i-default", "i-default"),
            ("I-Default", "i-default"),
            ("i", "i-default"),
        ] {
            let answer = answered(Some(range)).unwrap();
            assert!(
                answer.starts_with(&format!("+OK {tag} ")),
                "{range}: {answer}"
            );
        }
        for range in [
            "",
            "e",
            "en-GB",
            "eng",
            "de",
            "i-",
            "**",
            "i-default-x",
            "\u{e9}",
        ] {
            assert_eq!(answered(Some(range)), None, "{range}");
        }
    }
}
