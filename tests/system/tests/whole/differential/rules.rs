//! The differences we mean to have, each a rule with its reason: given what the original showed, a rule says exactly
//! what ours must show instead.

use super::view::{Message, View};
use std::collections::HashSet;

/// Why an answer differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// RFC 1939 section 11: the octets counted are those sent. The original counts the last line of a mailbox that
    /// does not end in LF one octet short, although it sends CRLF there.
    LastLineEndIsCounted,
    /// RFC 5322 section 2.1 lets a bodyless message end with its header, but clients (Outlook Express) want the empty
    /// line that RFC 1939 section 7 has TOP send. The original leaves it out where the mailbox does.
    HeaderIsEndedByEmptyLine,
    /// RFC 1939 section 7: "The server should never reuse an unique-id in a given maildrop." The original gives equal
    /// messages equal ids; ours keeps the first and makes the later ones distinct.
    EqualMessagesAreDistinct,
}

/// All of them: each must be needed by some mailbox, or it is no rule.
pub const ALL: [Rule; 3] = [
    Rule::LastLineEndIsCounted,
    Rule::HeaderIsEndedByEmptyLine,
    Rule::EqualMessagesAreDistinct,
];

/// A unique-id that ours may choose, as long as it is one and distinct.
const ANY_DISTINCT: &str = "";

/// What ours must show of `mailbox`, of which the original showed `theirs`; and the rules that made a difference.
pub fn expected(mailbox: &[u8], theirs: View) -> (View, Vec<Rule>) {
    let mut used = Vec::new();
    let Some(mut messages) = theirs else {
        return (None, used);
    };
    if let Some(last) = messages.last_mut() {
        if !mailbox.ends_with(b"\n") {
            last.octets += 1;
            used.push(Rule::LastLineEndIsCounted);
        }
        if !has_empty_line(&last.content) {
            last.octets += 2;
            for shown in std::iter::once(&mut last.content).chain(&mut last.tops) {
                shown.extend_from_slice(b"\r\n");
            }
            used.push(Rule::HeaderIsEndedByEmptyLine);
        }
    }
    let mut known = HashSet::new();
    for message in &mut messages {
        if !known.insert(message.unique_id.clone()) {
            message.unique_id = ANY_DISTINCT.to_owned();
            used.push(Rule::EqualMessagesAreDistinct);
        }
    }
    (Some(messages), used)
}

/// Holds what ours showed against what it must show.
pub fn same(wanted: &View, ours: &View) -> Result<(), String> {
    let (wanted, ours) = match (wanted, ours) {
        (None, None) => return Ok(()),
        (Some(wanted), Some(ours)) => (wanted, ours),
        (None, Some(_)) => return Err("the original refused it, ours did not".to_owned()),
        (Some(_), None) => return Err("ours refused it, the original did not".to_owned()),
    };
    if wanted.len() != ours.len() {
        return Err(format!("{} messages, not {}", ours.len(), wanted.len()));
    }
    let mut known = HashSet::new();
    for (number, (wanted, ours)) in (1..).zip(wanted.iter().zip(ours)) {
        same_message(wanted, ours)
            .map_err(|difference| format!("message {number}: {difference}"))?;
        if !known.insert(&ours.unique_id) {
            return Err(format!(
                "message {number}: unique-id {} a second time",
                ours.unique_id
            ));
        }
    }
    Ok(())
}

fn same_message(wanted: &Message, ours: &Message) -> Result<(), String> {
    let length = ours.unique_id.len();
    if !(1..=70).contains(&length) || !ours.unique_id.bytes().all(|octet| octet.is_ascii_graphic())
    {
        return Err(format!("{:?} is no unique-id", ours.unique_id));
    }
    if wanted.unique_id != ANY_DISTINCT && wanted.unique_id != ours.unique_id {
        return Err(format!(
            "unique-id {}, not {}",
            ours.unique_id, wanted.unique_id
        ));
    }
    if wanted.content != ours.content {
        return Err(differ("RETR", &wanted.content, &ours.content));
    }
    if wanted.octets != ours.octets || ours.octets != ours.content.len() {
        return Err(format!(
            "{} octets listed, not {}",
            ours.octets, wanted.octets
        ));
    }
    for (wanted, ours) in wanted.tops.iter().zip(&ours.tops) {
        if wanted != ours {
            return Err(differ("TOP", wanted, ours));
        }
    }
    Ok(())
}

fn differ(command: &str, wanted: &[u8], ours: &[u8]) -> String {
    let at = wanted.iter().zip(ours).take_while(|(a, b)| a == b).count();
    let around = |octets: &[u8]| {
        octets[at.saturating_sub(60)..(at + 60).min(octets.len())]
            .escape_ascii()
            .to_string()
    };
    format!(
        "{command} differs at octet {at}\n  wanted {}\n  got    {}",
        around(wanted),
        around(ours)
    )
}

/// Judged as the original judges: a line with nothing before its LF, which in what is sent has nothing before CRLF.
fn has_empty_line(content: &[u8]) -> bool {
    content.starts_with(b"\r\n") || content.windows(4).any(|octets| octets == b"\r\n\r\n")
}
