//! The mail that all servers serve: the same octets in every mailbox of the same name, made from a seed.

use crate::Outcome;
use crate::accounts::mail_group;
use std::fs::{self, File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use system_tests::random::Random;

/// How a mailbox is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `/var/mail/USER`.
    Mbox,
    /// `/home/USER/Maildir`.
    Maildir,
}

impl Format {
    /// As it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Format::Mbox => "mbox",
            Format::Maildir => "Maildir",
        }
    }
}

/// What a mailbox holds: message sizes in octets as stored, and a seed for their text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contents {
    /// Octets of each message, about.
    pub sizes: Vec<usize>,
    /// Different seeds give different messages.
    pub seed: u64,
}

impl Contents {
    /// `count` messages of the same size.
    pub fn uniform(count: usize, size: usize) -> Contents {
        let sizes = vec![size; count];
        Contents { sizes, seed: 1 }
    }

    /// 40 messages as people get them: short text, some documents, three large attachments and one of 5 MB.
    pub fn realistic() -> Contents {
        let mut random = Random::new(40);
        let mut sizes: Vec<_> = (0..28).map(|_| 1_500 + random.below(20_000)).collect();
        sizes.extend((0..8).map(|_| 50_000 + random.below(250_000)));
        sizes.extend([1_000_000, 1_200_000, 2_000_000, 5_000_000]);
        for last in (1..sizes.len()).rev() {
            sizes.swap(last, random.below(last + 1));
        }
        Contents { sizes, seed: 2 }
    }

    /// The messages as stored, lines ended by LF.
    pub fn messages(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.sizes.iter().enumerate().map(|(index, &size)| {
            let random = Random::new(self.seed << 32 | index as u64);
            message(random, index, size)
        })
    }
}

/// A message of about `size` octets: a header, then text (some lines with dots at the start or 8-bit octets) where it
/// is small, and base64 lines as of an attachment behind that.
fn message(mut random: Random, index: usize, size: usize) -> Vec<u8> {
    const MOST_TEXT: usize = 8 * 1024;
    const WORDS: [&str; 12] = [
        "mail", "and", "the", "server", "of", "Köln", "naïve", "message", "in", "maildrop", "a",
        "octets",
    ];
    let id = random.bits();
    let mut text = format!(
        "Return-Path: <sender{index}@example.org>\n\
         Received: from mx{index}.example.org (mx.example.org [192.0.2.7])\n\
         \tby mail.example.net (Postfix) with ESMTPS id {id:016X}\n\
         \tfor <user@example.net>; Mon, 1 Jan 2024 00:00:00 +0000 (UTC)\n\
         Date: Mon, 1 Jan 2024 00:00:00 +0000\n\
         From: Sender {index} <sender{index}@example.org>\n\
         To: user@example.net\n\
         Message-ID: <{id:016x}@example.org>\n\
         MIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\n\
         Content-Transfer-Encoding: 8bit\n\
         Subject: message {index}\n\n"
    )
    .into_bytes();
    while text.len() < size.min(MOST_TEXT) {
        if random.once_in(40) {
            text.push(b'.');
        }
        for _ in 0..6 + random.below(6) {
            text.extend_from_slice(random.of(&WORDS).as_bytes());
            text.push(b' ');
        }
        text.push(b'\n');
    }
    // One random block is enough: no server looks into it.
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut block = Vec::with_capacity(77 * 64);
    for _ in 0..64 {
        block.extend((0..76).map(|_| DIGITS[random.below(64)]));
        block.push(b'\n');
    }
    while text.len() < size {
        let whole_lines = (size - text.len()).div_ceil(77) * 77;
        text.extend_from_slice(&block[..whole_lines.min(block.len())]);
    }
    text
}

/// A message as RETR sends it behind the status line: CRLF, dots doubled, the final dot.
pub fn on_the_wire(stored: &[u8]) -> Vec<u8> {
    let mut sent = Vec::with_capacity(stored.len() + stored.len() / 32 + 8);
    for line in stored.split_inclusive(|octet| *octet == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if line.starts_with(b".") {
            sent.push(b'.');
        }
        sent.extend_from_slice(line);
        sent.extend_from_slice(b"\r\n");
    }
    sent.extend_from_slice(b".\r\n");
    sent
}

/// Who gets mail, and how it is kept.
#[derive(Clone, Debug)]
pub struct Mailbox {
    /// Login name.
    pub user: String,
    /// Owner of its files.
    pub owner: u32,
    /// mbox or Maildir.
    pub format: Format,
}

impl Mailbox {
    /// The file or directory.
    pub fn path(&self) -> PathBuf {
        match self.format {
            Format::Mbox => Path::new("/var/mail").join(&self.user),
            Format::Maildir => Path::new("/home").join(&self.user).join("Maildir"),
        }
    }

    /// Makes the mailbox anew with these contents, delivered a while ago.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn fill(&self, contents: &Contents) -> Outcome<()> {
        match self.format {
            Format::Mbox => {
                let file = File::create(self.path())?;
                chown(self.path(), Some(self.owner), Some(mail_group()?))?;
                fs::set_permissions(self.path(), Permissions::from_mode(0o660))?;
                write_mbox(&file, contents)?;
                Ok(file.set_modified(a_while_ago())?)
            }
            Format::Maildir => {
                for name in ["", "tmp", "new", "cur"] {
                    let directory = self.path().join(name);
                    fs::create_dir_all(&directory)?;
                    chown(&directory, Some(self.owner), Some(self.owner))?;
                    fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
                }
                self.write_files(contents, 1_700_000_000, "cur", ":2,S")
            }
        }
    }

    /// Delivers more mail.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn deliver(&self, contents: &Contents, when: u64) -> Outcome<()> {
        match self.format {
            Format::Mbox => {
                let file = File::options().append(true).open(self.path())?;
                write_mbox(&file, contents)?;
                Ok(file.set_modified(a_while_ago() + Duration::from_secs(when % 1000))?)
            }
            Format::Maildir => self.write_files(contents, when, "new", ""),
        }
    }

    fn write_files(
        &self,
        contents: &Contents,
        when: u64,
        folder: &str,
        flags: &str,
    ) -> Outcome<()> {
        let directory = self.path().join(folder);
        for (number, message) in contents.messages().enumerate() {
            let second = when + number as u64 / 64;
            let name = format!("{second}.M{number:06}P{}.mail{flags}", contents.seed);
            let path = directory.join(name);
            let mut file = File::create(&path)?;
            file.write_all(&message)?;
            chown(&path, Some(self.owner), Some(self.owner))?;
        }
        Ok(())
    }
}

fn write_mbox(file: &File, contents: &Contents) -> Outcome<()> {
    let mut out = BufWriter::with_capacity(1 << 20, file);
    for message in contents.messages() {
        out.write_all(b"From sender@example.org Mon Jan  1 00:00:00 2024\n")?;
        out.write_all(&message)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Servers wait where a mailbox has just been written to.
fn a_while_ago() -> SystemTime {
    SystemTime::now() - Duration::from_secs(3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_the_same_each_time_and_differ_from_each_other() {
        let contents = Contents::uniform(3, 4096);
        let first: Vec<_> = contents.messages().collect();
        assert_eq!(first, contents.messages().collect::<Vec<_>>());
        assert_ne!(first[0], first[1]);
    }

    #[test]
    fn the_realistic_mix_has_dots_and_eight_bit_octets_and_five_megabytes() {
        let messages: Vec<_> = Contents::realistic().messages().collect();
        assert_eq!(messages.len(), 40);
        assert!(messages.iter().any(|m| m.windows(2).any(|w| w == b"\n.")));
        assert!(messages.iter().any(|m| !m.is_ascii()));
        assert!(messages.iter().any(|m| m.len() >= 5_000_000));
    }

    #[test]
    fn dots_are_doubled_and_lines_end_with_crlf() {
        assert_eq!(on_the_wire(b"a\n.b\n"), b"a\r\n..b\r\n.\r\n");
    }
}
