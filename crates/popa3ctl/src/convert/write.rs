//! Writing a new maildrop beside the place where it is to be.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::deliver::asctime;
use maildrop::{Expanded, Maildrop};

/// What stands behind the name of a maildrop that is not whole yet.
const SUFFIX: &str = ".popa3ctl-new";

/// Who sent a message, in the line that it begins with in an mbox: nobody knows any more.
const SENDER: &str = "MAILER-DAEMON";

/// Octets of the host in a file's name, so that the name is short enough for a unique-id.
const MAX_HOST_OCTETS: usize = 32;

/// Octets read at a time.
const BLOCK: usize = 256 * 1024;

/// A maildrop that is being written.
pub struct New {
    path: PathBuf,
    is_mbox: bool,
}

impl New {
    /// Of a maildrop that is to be at `place`.
    pub fn beside(place: &Expanded) -> Self {
        let mut path = place.path().into_os_string();
        path.push(SUFFIX);
        New {
            path: path.into(),
            is_mbox: place.is_mbox(),
        }
    }

    /// Where it is being written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is an mbox.
    pub fn is_mbox(&self) -> bool {
        self.is_mbox
    }

    /// Removes it, if it is there.
    pub fn remove(&self) {
        // What cannot be removed shows when it is to be made again.
        drop(match self.is_mbox {
            true => fs::remove_file(&self.path),
            false => fs::remove_dir_all(&self.path),
        });
    }
}

/// Writes all messages of `source`.
///
/// # Errors
/// What the system says.
pub fn write(source: &mut dyn Maildrop, new: &New) -> io::Result<()> {
    match new.is_mbox {
        true => write_mbox(source, &new.path),
        false => write_maildir(source, &new.path),
    }
}

fn write_mbox(source: &mut dyn Maildrop, path: &Path) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(BLOCK, create(path)?);
    for index in 0..source.count() {
        // A date of 1970 says that it is not known either.
        let date = asctime(source.delivered(index).unwrap_or(0));
        file.write_all(format!("From {SENDER} {date}\n").as_bytes())?;
        let last = copy(source, index, &mut file, |_| {})?;
        // The end of the last line, if it has none, and the empty line between messages.
        let end: &[u8] = if last == b'\n' { b"\n" } else { b"\n\n" };
        file.write_all(end)?;
    }
    file.flush()
}

fn write_maildir(source: &mut dyn Maildrop, path: &Path) -> io::Result<()> {
    let [new, cur, tmp] = ["new", "cur", "tmp"].map(|name| path.join(name));
    for directory in [path, &new, &cur, &tmp] {
        fs::DirBuilder::new().mode(0o700).create(directory)?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_err(io::Error::other)?.as_secs();
    let (process, host) = (std::process::id(), host());
    for index in 0..source.count() {
        // In the order of messages, all in one second.
        let name = format!("{seconds}.M{index:010}P{process}.{host}");
        let unsorted = tmp.join(&name);
        let mut beginning = Vec::new();
        let mut file = BufWriter::with_capacity(BLOCK, create(&unsorted)?);
        copy(source, index, &mut file, |octets| {
            if beginning.is_empty() {
                beginning = octets.to_vec();
            }
        })?;
        file.flush()?;
        if let Some(seconds) = source.delivered(index) {
            file.get_ref()
                .set_modified(UNIX_EPOCH + Duration::from_secs(seconds))?;
        }
        let place = match seen(&beginning) {
            Seen::Read => cur.join(name + ":2,S"),
            Seen::Old => cur.join(name + ":2,"),
            Seen::New => new.join(name),
        };
        fs::rename(unsorted, place)?;
    }
    Ok(())
}

/// Copies a message as it is stored; returns its last octet, a line end if it has none.
fn copy(
    source: &mut dyn Maildrop,
    index: u32,
    to: &mut impl Write,
    mut look: impl FnMut(&[u8]),
) -> io::Result<u8> {
    let (mut buffer, mut offset, mut last) = (vec![0; BLOCK], 0_u64, b'\n');
    loop {
        let read = source.read(index, offset, &mut buffer)?;
        let octets = buffer.get(..read).unwrap_or_default();
        let Some(&end) = octets.last() else {
            return Ok(last);
        };
        look(octets);
        to.write_all(octets)?;
        last = end;
        offset = offset.saturating_add(read as u64);
    }
}

/// Whether somebody has seen a message.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    New,
    Old,
    Read,
}

/// What the Status field of an mbox says.
fn seen(message: &[u8]) -> Seen {
    let lines = message.split(|&octet| octet == b'\n');
    let header = lines.take_while(|line| !line.trim_ascii().is_empty());
    let mut found = Seen::New;
    for line in header {
        if let Some((name, value)) = line.split_at_checked(7)
            && name.eq_ignore_ascii_case(b"status:")
        {
            found = match (value.contains(&b'R'), value.contains(&b'O')) {
                (true, _) => Seen::Read,
                (_, true) => Seen::Old,
                _ => Seen::New,
            };
        }
    }
    found
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim()
        .chars()
        .filter(|character| character.is_ascii_alphanumeric() || ".-".contains(*character))
        .take(MAX_HOST_OCTETS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_been_seen_as_its_header_says() {
        for (message, expected) in [
            (&b"A: b\nStatus: RO\n\n"[..], Seen::Read),
            (b"STATUS: O\n\n", Seen::Old),
            (b"Status: \n\n", Seen::New),
            (b"A: b\n\nStatus: RO\n", Seen::New),
            (b"", Seen::New),
        ] {
            assert_eq!(seen(message), expected);
        }
    }
}
