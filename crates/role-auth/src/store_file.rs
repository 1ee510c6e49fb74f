//! Files of one record a line (`name:…`) that an administrator keeps: opened with their owner and mode checked, and read
//! line by line without keeping them in memory.
//!
//! A look-up reads the whole file, whether and wherever the name is found, so that its time says nothing. With 100,000
//! users that is some 10 MB from the page cache: milliseconds, below the hash that follows; a table in memory would cost
//! every worker as much again and would have to be kept fresh.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use memchr::memchr;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::name::UserName;

/// Octets of a line: a name, a hash and three paths.
pub const MAX_LINE_OCTETS: usize = 8 * 1024;

/// Octets of a file: a million users.
const MAX_FILE_OCTETS: u64 = 256 * 1024 * 1024;

/// Read at a time.
const BUFFER_OCTETS: usize = 64 * 1024;

/// Who besides the owner may read the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// The group at most: hashes invite guessing, and APOP's secrets are passwords.
    Group,
    /// Anybody, where an older program's layout is taken over as it is.
    Anybody,
}

/// A file that cannot be used, or a line in it; for the log.
#[derive(Debug)]
pub struct StoreError {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1, if it is one line's fault.
    pub line: Option<u64>,
    /// What is wrong.
    pub reason: String,
    /// How far we got.
    pub stage: Stage,
}

/// How far an unusable file was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// There is no such file.
    Missing,
    /// It could not be opened: it may not even be there.
    Unopened,
    /// It is there.
    Opened,
}

/// An open store.
pub struct StoreFile {
    file: File,
    path: PathBuf,
}

/// A line with the name that was looked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number, counted from 1.
    pub number: u64,
    /// The line without its end, or what is wrong with it. Not an error of the whole file: the others can still log in, and
    /// nobody is to learn from the reply that the name has a line.
    pub text: Result<Zeroizing<String>, &'static str>,
}

impl StoreFile {
    /// Opens the file if it can be trusted: a regular file of root's or of the user we run as, that nobody else can write.
    ///
    /// # Errors
    /// [`StoreError`] with the reason.
    pub fn open(path: &Path, readers: Readers) -> Result<Self, StoreError> {
        let fail = |reason: String, stage| StoreError {
            path: path.to_owned(),
            line: None,
            reason,
            stage,
        };
        // NONBLOCK: opening a fifo must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = openat(CWD, path, flags, Mode::empty()).map_err(|error| {
            let stage = match error {
                Errno::NOENT => Stage::Missing,
                _ => Stage::Unopened,
            };
            fail(io::Error::from(error).to_string(), stage)
        })?;
        let file = File::from(file);
        let found = file
            .metadata()
            .map_err(|error| fail(error.to_string(), Stage::Opened))?;
        let forbidden = match readers {
            Readers::Group => 0o026,
            Readers::Anybody => 0o022,
        };
        let objection = if !found.file_type().is_file() {
            "is not a regular file".to_owned()
        } else if found.uid() != 0 && found.uid() != rustix::process::geteuid().as_raw() {
            format!(
                "is owned by uid {}, neither root nor ourselves",
                found.uid()
            )
        } else if found.mode() & forbidden != 0 {
            format!(
                "has mode {:04o}; at most {:04o} is safe",
                found.mode() & 0o7777,
                0o666 & !forbidden
            )
        } else if found.len() > MAX_FILE_OCTETS {
            format!("is larger than {MAX_FILE_OCTETS} octets")
        } else {
            return Ok(Self {
                file,
                path: path.to_owned(),
            });
        };
        Err(fail(objection, Stage::Opened))
    }

    /// How long it is, at most [`MAX_FILE_OCTETS`].
    pub fn octets(&self) -> usize {
        let metadata = self.file.metadata();
        let octets = metadata.map_or(0, |metadata| metadata.len().min(MAX_FILE_OCTETS));
        usize::try_from(octets).unwrap_or(0)
    }

    /// Calls `each` with every line, its number and its octets without the line end, from the beginning of the file.
    ///
    /// # Errors
    /// The file cannot be read, or a line is longer than [`MAX_LINE_OCTETS`].
    pub fn for_each_line(self, mut each: impl FnMut(u64, &[u8])) -> Result<(), StoreError> {
        let mut buffer = Zeroizing::new(vec![0; BUFFER_OCTETS]);
        let (mut filled, mut number) = (0_usize, 0_u64);
        loop {
            let free = buffer.get_mut(filled..).unwrap_or_default();
            let read = match (&self.file).read(free) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.error(None, error.to_string())),
            };
            filled = filled.saturating_add(read);
            let mut rest = buffer.get(..filled).unwrap_or_default();
            while !rest.is_empty() {
                let end = memchr(b'\n', rest);
                let line = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                if line.len() > MAX_LINE_OCTETS {
                    return Err(self.error(
                        Some(number.saturating_add(1)),
                        format!("is longer than {MAX_LINE_OCTETS} octets"),
                    ));
                }
                // An unfinished line waits for its end, unless the file has none.
                if end.is_none() && read != 0 {
                    break;
                }
                number = number.saturating_add(1);
                each(number, line);
                rest = end
                    .and_then(|end| rest.get(end.saturating_add(1)..))
                    .unwrap_or_default();
            }
            if read == 0 {
                return Ok(());
            }
            let left = rest.len();
            buffer.copy_within(filled.saturating_sub(left)..filled, 0);
            filled = left;
        }
    }

    /// The line of `user`.
    ///
    /// # Errors
    /// As [`for_each_line`](Self::for_each_line).
    pub fn find(self, user: &UserName) -> Result<Option<Found>, StoreError> {
        let length = user.as_str().len();
        let mut found: Option<Found> = None;
        self.for_each_line(|number, line| {
            if line.get(length) != Some(&b':') || !user.is(line.get(..length).unwrap_or_default()) {
                return;
            }
            let text = if found.is_some() {
                // Which of the two is meant nobody can tell.
                Err("names a user who has a line already")
            } else {
                std::str::from_utf8(line)
                    .map(|text| Zeroizing::new(text.to_owned()))
                    .map_err(|_| "is not UTF-8")
            };
            found = Some(Found { number, text });
        })?;
        Ok(found)
    }

    fn error(&self, line: Option<u64>, reason: String) -> StoreError {
        StoreError {
            path: self.path.clone(),
            line,
            reason,
            stage: Stage::Opened,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl std::error::Error for StoreError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(contents: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), contents).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    fn lines(contents: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let file = file(contents, 0o600);
        let mut lines = Vec::new();
        StoreFile::open(file.path(), Readers::Group)
            .unwrap()
            .for_each_line(|number, line| lines.push((number, line.to_vec())))
            .unwrap();
        lines
    }

    fn find(contents: &[u8], user: &str) -> Result<Option<Found>, StoreError> {
        let file = file(contents, 0o600);
        let user = UserName::parse(user.as_bytes()).unwrap();
        StoreFile::open(file.path(), Readers::Group)?.find(&user)
    }

    #[test]
    fn lines_are_what_split_makes_of_them_across_buffers() {
        let mut contents = Vec::new();
        for length in 0..700_usize {
            contents.extend(std::iter::repeat_n(b'a', length * 7 % 1000));
            contents.push(b'\n');
        }
        contents.extend(b"no end");
        assert!(contents.len() > 3 * BUFFER_OCTETS);
        let expected: Vec<_> = (1..)
            .zip(contents.split(|&octet| octet == b'\n').map(<[u8]>::to_vec))
            .collect();
        assert_eq!(lines(&contents), expected);
        assert_eq!(lines(b""), []);
        assert_eq!(
            lines(b"a\r\n\nb\n"),
            [(1, b"a".to_vec()), (2, vec![]), (3, b"b".to_vec())]
        );
    }

    #[test]
    fn a_line_too_long_is_named() {
        let mut contents = b"a:b\n".to_vec();
        contents.extend(vec![b'x'; 200_000]);
        let error = find(&contents, "a").unwrap_err();
        assert_eq!(error.line, Some(2));
    }

    #[test]
    fn only_a_whole_name_is_found() {
        let contents = b"joe2:x\n#joe:x\njoe\njo:x\njoe:right\n";
        let found = find(contents, "joe").unwrap().unwrap();
        assert_eq!(found.number, 5);
        assert_eq!(found.text.unwrap().as_str(), "joe:right");
        assert_eq!(find(contents, "nobody").unwrap(), None);
    }

    #[test]
    fn a_user_with_two_lines_has_none_that_counts() {
        let found = find(b"joe:a\nann:b\njoe:c\n", "joe").unwrap().unwrap();
        assert_eq!(found.number, 3);
        assert!(found.text.is_err());
        assert!(
            find(b"joe:a\nann:\xff\n", "ann")
                .unwrap()
                .unwrap()
                .text
                .is_err()
        );
    }

    #[test]
    fn unsafe_files_are_refused_with_a_reason() {
        for (mode, readers, refused) in [
            (0o600, Readers::Group, false),
            (0o640, Readers::Group, false),
            (0o644, Readers::Group, true),
            (0o644, Readers::Anybody, false),
            (0o660, Readers::Anybody, true),
            (0o602, Readers::Anybody, true),
        ] {
            let file = file(b"", mode);
            let opened = StoreFile::open(file.path(), readers);
            assert_eq!(opened.is_err(), refused, "{mode:o} {readers:?}");
        }
        let directory = tempfile::tempdir().unwrap();
        let error = StoreFile::open(directory.path(), Readers::Group)
            .err()
            .unwrap();
        assert!(
            error.to_string().ends_with("is not a regular file"),
            "{error}"
        );
        let error = StoreFile::open(&directory.path().join("none"), Readers::Group)
            .err()
            .unwrap();
        assert_eq!(error.stage, Stage::Missing);
    }
}
