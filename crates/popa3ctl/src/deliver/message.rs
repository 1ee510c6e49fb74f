//! The message: read to its end before anything is locked, in the form that it will have.

use std::io::{self, BufRead, Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use deliver::{Quoting, Spool, asctime};
use maildrop::deliver::Letter;

/// Octets read at a time.
const PIECE_OCTETS: usize = 64 * 1024;

/// Longest beginning of a first line that is looked at.
const FROM: &[u8] = b"From ";

/// Longest sender that is believed (RFC 5321 section 4.5.3.1.3: a path has at most 256 octets).
const MAX_SENDER_OCTETS: usize = 256;

/// Stands for whom there is no address.
const NOBODY: &str = "MAILER-DAEMON";

/// A message that is complete.
pub struct Complete(Spool);

impl Letter for Complete {
    fn octets(&self) -> u64 {
        self.0.octets()
    }

    fn replay(&mut self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.0.replay(take)
    }
}

/// Reads a message. A `From ` line before it, which some callers write, is left out; with a `sender` it gets `Return-Path`
/// (RFC 5321 section 4.4), unless it begins with one.
///
/// # Errors
/// It cannot be read, or not be kept.
pub fn read(input: impl Read, sender: Option<&str>, is_mbox: bool) -> io::Result<Complete> {
    let mut input = io::BufReader::with_capacity(PIECE_OCTETS, input);
    skip_from_line(&mut input)?;
    let mut spool = Spool::default();
    let sender = sender.map(printable);
    if is_mbox {
        let address = sender.as_deref().filter(|sender| !sender.is_empty());
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = asctime(since.unwrap_or_default().as_secs());
        writeln!(spool, "From {} {now}", address.unwrap_or(NOBODY))?;
    }
    if let Some(sender) = sender
        && !begins_with(&mut input, b"Return-Path:")?
    {
        writeln!(spool, "Return-Path: <{sender}>")?;
    }
    if is_mbox {
        let mut quoting = Quoting::default();
        each_piece(input, |piece| quoting.write(piece, &mut spool))?;
        quoting.finish(&mut spool)?;
    } else {
        each_piece(input, |piece| spool.write_all(piece))?;
    }
    Ok(Complete(spool))
}

fn each_piece(
    mut input: impl BufRead,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        let piece = match input.fill_buf() {
            Ok([]) => return Ok(()),
            Ok(piece) => piece,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        take(piece)?;
        let octets = piece.len();
        input.consume(octets);
    }
}

fn skip_from_line(input: &mut io::BufReader<impl Read>) -> io::Result<()> {
    if begins_with(input, FROM)? {
        input.skip_until(b'\n')?;
    }
    Ok(())
}

/// Whether what follows begins so; names of header fields have no case. Nothing is taken.
fn begins_with(input: &mut io::BufReader<impl Read>, wanted: &[u8]) -> io::Result<bool> {
    // A pipe may give less at first than there is: what little there is, is compared and no more is waited for.
    let found = input.fill_buf()?;
    Ok(found
        .get(..wanted.len())
        .is_some_and(|found| found.eq_ignore_ascii_case(wanted)))
}

/// An address as one word: the envelope comes from elsewhere, and must not make lines of its own.
fn printable(sender: &str) -> String {
    let sender = sender.trim_start_matches('<').trim_end_matches('>');
    let word = |character: char| match character {
        '<' | '>' => '-',
        it if it.is_control() || it.is_whitespace() => '-',
        it => it,
    };
    let mut octets = 0;
    sender
        .chars()
        .map(word)
        .take_while(|character| {
            octets += character.len_utf8();
            octets <= MAX_SENDER_OCTETS
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: &str, sender: Option<&str>, is_mbox: bool) -> String {
        let mut letter = read(message.as_bytes(), sender, is_mbox).unwrap();
        let mut octets = Vec::new();
        letter
            .replay(&mut |piece| {
                octets.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        assert_eq!(octets.len() as u64, letter.octets());
        String::from_utf8(octets).unwrap()
    }

    #[test]
    fn in_a_maildir_a_message_is_as_it_came() {
        let message = "Subject: a\n\nFrom b\r\n\0end";
        assert_eq!(text(message, None, false), message);
        assert_eq!(text("", None, false), "");
    }

    #[test]
    fn in_an_mbox_it_has_an_envelope_and_no_line_that_could_be_one() {
        let stored = text(
            "Subject: a\n\nFrom b\n>From c\nend",
            Some("joe@example.org"),
            true,
        );
        let (envelope, rest) = stored.split_once('\n').unwrap();
        assert!(envelope.starts_with("From joe@example.org "), "{envelope}");
        assert_eq!(
            rest,
            "Return-Path: <joe@example.org>\nSubject: a\n\n>From b\n>>From c\nend\n\n"
        );
        assert!(text("a: b\n\n", Some(""), true).starts_with("From MAILER-DAEMON "));
        assert!(text("a: b\n\n", None, true).starts_with("From MAILER-DAEMON "));
    }

    #[test]
    fn an_envelope_and_a_return_path_of_the_callers_are_not_doubled() {
        let message = "From x Thu Jan  1 00:00:00 1970\nreturn-path: <x>\na: b\n\n";
        let kept = "return-path: <x>\na: b\n\n";
        assert_eq!(text(message, Some("y"), false), kept);
        assert_eq!(
            text("a: b\n\n", Some("y"), false),
            "Return-Path: <y>\na: b\n\n"
        );
    }

    #[test]
    fn a_sender_makes_no_lines_and_no_words_of_its_own() {
        for (sender, shown) in [
            ("<joe@example.org>", "joe@example.org"),
            ("a b\r\nSubject: c", "a-b--Subject:-c"),
            ("a>\u{2028}b", "a--b"),
        ] {
            assert_eq!(printable(sender), shown);
        }
        assert_eq!(printable(&"é".repeat(1000)).len(), MAX_SENDER_OCTETS);
    }
}
