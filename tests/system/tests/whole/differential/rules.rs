//! The differences we mean to have, each a rule with its reason: given what the original showed, a rule says exactly
//! what ours must show instead.

use super::view::{Message, TOP_LINES, View};
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
    /// RFC 1939 section 3: a line ends CRLF. The original takes a CR that is stored before LF for data and sends CR CR LF;
    /// ours sends the line. Where the header ends changes with it, and so what TOP sends.
    StoredCrlfIsOneLineEnd,
    /// The original refuses a mailbox in which a `From ` line is directly followed by another, or by the end of the file.
    /// Such a line is no reason to keep all the other mail from its owner: ours shows it as the header line it is.
    LonelyFromLineIsServed,
    /// RFC 1939 section 7: "The server should never reuse an unique-id in a given maildrop." The original gives equal
    /// messages equal ids; ours keeps the first and makes the later ones distinct.
    EqualMessagesAreDistinct,
}

/// All of them: each must be needed by some mailbox, or it is no rule.
pub const ALL: [Rule; 5] = [
    Rule::LastLineEndIsCounted,
    Rule::HeaderIsEndedByEmptyLine,
    Rule::StoredCrlfIsOneLineEnd,
    Rule::LonelyFromLineIsServed,
    Rule::EqualMessagesAreDistinct,
];

/// A unique-id that ours may choose, as long as it is one and distinct.
const ANY_DISTINCT: &str = "";

/// What ours must show.
pub enum Wanted {
    /// Exactly these.
    Messages(Vec<Message>),
    /// Whatever is consistent in itself: the original has no opinion.
    Something,
    /// Nothing: the maildrop is refused.
    Refusal,
}

/// What ours must show of `mailbox`, of which the original showed `theirs`; and the rules that made a difference.
pub fn expected(mailbox: &[u8], theirs: View) -> (Wanted, Vec<Rule>) {
    let mut used = Vec::new();
    let mut messages = match theirs {
        Some(messages) => messages,
        None if mailbox.starts_with(b"From ") && has_lonely_from_line(mailbox) => {
            return (Wanted::Something, vec![Rule::LonelyFromLineIsServed]);
        }
        None => return (Wanted::Refusal, used),
    };
    let count = messages.len();
    for (number, message) in (1..).zip(&mut messages) {
        let is_cut = number == count && !mailbox.ends_with(b"\n");
        if is_cut {
            message.octets += 1;
            used.push(Rule::LastLineEndIsCounted);
        }
        let mut lines = without_stored_crs(&message.content, is_cut);
        let has_crlf = lines != message.content;
        if has_crlf {
            let all_header = header_octets(&message.content) == Some(message.content.len());
            if all_header && header_octets(&lines) != Some(lines.len()) {
                // The empty line that ended its header follows ours, and so is the one between two messages.
                lines.truncate(lines.len() - 2);
            }
            message.octets -= message.content.len() - lines.len();
            message.content = lines;
            used.push(Rule::StoredCrlfIsOneLineEnd);
        }
        if header_octets(&message.content).is_none() {
            message.octets += 2;
            for shown in std::iter::once(&mut message.content).chain(&mut message.tops) {
                shown.extend_from_slice(b"\r\n");
            }
            used.push(Rule::HeaderIsEndedByEmptyLine);
        }
        if has_crlf {
            message.tops = TOP_LINES.map(|lines| top(&message.content, lines)).to_vec();
        }
    }
    let mut known = HashSet::new();
    for message in &mut messages {
        if !known.insert(message.unique_id.clone()) {
            message.unique_id = ANY_DISTINCT.to_owned();
            used.push(Rule::EqualMessagesAreDistinct);
        }
    }
    (Wanted::Messages(messages), used)
}

/// Holds what ours showed against what it must show.
pub fn same(wanted: &Wanted, ours: &View) -> Result<(), String> {
    let (wanted, ours) = match (wanted, ours) {
        (Wanted::Refusal, None) => return Ok(()),
        (Wanted::Refusal, Some(_)) => {
            return Err("the original refused it, ours did not".to_owned());
        }
        (_, None) => return Err("ours refused it".to_owned()),
        (Wanted::Something, Some(ours)) => return consistent(ours),
        (Wanted::Messages(wanted), Some(ours)) => (wanted, ours),
    };
    if wanted.len() != ours.len() {
        return Err(format!("{} messages, not {}", ours.len(), wanted.len()));
    }
    for (number, (wanted, ours)) in (1..).zip(wanted.iter().zip(ours)) {
        same_message(wanted, ours)
            .map_err(|difference| format!("message {number}: {difference}"))?;
    }
    consistent(ours)
}

/// What must be true of every maildrop.
fn consistent(messages: &[Message]) -> Result<(), String> {
    let mut known = HashSet::new();
    for (number, message) in (1..).zip(messages) {
        let id = &message.unique_id;
        if !(1..=70).contains(&id.len()) || !id.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(format!("message {number}: {id:?} is no unique-id"));
        }
        if !known.insert(id) {
            return Err(format!("message {number}: unique-id {id} a second time"));
        }
        if message.octets != message.content.len() {
            let (listed, sent) = (message.octets, message.content.len());
            return Err(format!(
                "message {number}: {listed} octets listed, {sent} sent"
            ));
        }
        for (lines, shown) in TOP_LINES.into_iter().zip(&message.tops) {
            if *shown != top(&message.content, lines) {
                return Err(format!("message {number}: TOP {lines} is no part of RETR"));
            }
        }
    }
    Ok(())
}

fn same_message(wanted: &Message, ours: &Message) -> Result<(), String> {
    if wanted.unique_id != ANY_DISTINCT && wanted.unique_id != ours.unique_id {
        return Err(format!(
            "unique-id {}, not {}",
            ours.unique_id, wanted.unique_id
        ));
    }
    if wanted.content != ours.content {
        return Err(differ("RETR", &wanted.content, &ours.content));
    }
    if wanted.octets != ours.octets {
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

/// A `From ` line that begins a message and has nothing but another one, or nothing at all, behind it.
fn has_lonely_from_line(mailbox: &[u8]) -> bool {
    let mut after_empty_line = true;
    let mut after_from_line = false;
    for line in mailbox.split_inclusive(|octet| *octet == b'\n') {
        let is_from_line = line.starts_with(b"From ");
        if is_from_line && after_from_line {
            return true;
        }
        after_from_line = is_from_line && after_empty_line;
        after_empty_line = line == b"\n";
    }
    after_from_line
}

/// What the original sent, with CR CR LF made CRLF once; but for the last line if it `is_cut`, which has no LF stored.
fn without_stored_crs(content: &[u8], is_cut: bool) -> Vec<u8> {
    let lines: Vec<&[u8]> = content.split_inclusive(|octet| *octet == b'\n').collect();
    let ended = lines.len() - usize::from(is_cut);
    let mut shown = Vec::with_capacity(content.len());
    for (number, line) in lines.into_iter().enumerate() {
        match line.strip_suffix(b"\r\r\n").filter(|_| number < ended) {
            Some(line) => shown.extend_from_slice(&[line, b"\r\n"].concat()),
            None => shown.extend_from_slice(line),
        }
    }
    shown
}

/// Octets of the header with the empty line that ends it.
fn header_octets(content: &[u8]) -> Option<usize> {
    let mut octets = 0;
    content
        .split_inclusive(|octet| *octet == b'\n')
        .find_map(|line| {
            octets += line.len();
            (line == b"\r\n").then_some(octets)
        })
}

/// RFC 1939 section 7: the header, the empty line, and so many lines of the body.
fn top(content: &[u8], lines: usize) -> Vec<u8> {
    let (header, body) = content.split_at(header_octets(content).unwrap_or(content.len()));
    let body = body.split_inclusive(|octet| *octet == b'\n').take(lines);
    body.fold(header.to_vec(), |shown, line| [&shown, line].concat())
}
