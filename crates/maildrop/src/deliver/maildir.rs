//! Delivery to a Maildir: written in `tmp`, synced, moved to `new`.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Mode, OFlags, fsync, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::Letter;
use crate::location::Expanded;
use crate::open::{check_directory, open_below};
use crate::{OpenOptions, Problem};

/// Names tried, should one be taken: another program makes them like ours, at the same time and under the same number.
const MAX_NAMES: u32 = 16;

/// Octets of the host's name that are part of a file's: a name of a host has no more (hostname(7)).
const MAX_HOST_OCTETS: usize = 64;

/// The directories of a Maildir.
struct Maildir {
    tmp: OwnedFd,
    new: OwnedFd,
}

pub(super) fn deliver(
    base: &OwnedFd,
    location: &Expanded,
    options: &OpenOptions,
    letter: &mut dyn Letter,
) -> Result<(), Problem> {
    let maildir = Maildir::open(base, &location.below, options)?;
    let (name, file) = maildir.create(letter.octets())?;
    let delivered = write(file, letter).and_then(|()| maildir.deliver(&name));
    delivered.map_err(|error| {
        // What stays in `tmp` is removed by whoever tidies it, after 36 hours.
        let _ = unlinkat(&maildir.tmp, &name, AtFlags::empty());
        Problem::Io("write to it", error)
    })
}

fn write(mut file: File, letter: &mut dyn Letter) -> io::Result<()> {
    letter.replay(&mut |octets| file.write_all(octets))?;
    file.sync_all()
}

impl Maildir {
    /// Opens the directories, making what is missing below the base.
    fn open(base: &OwnedFd, below: &Path, options: &OpenOptions) -> Result<Self, Problem> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut root = open_below(base, Path::new("."), flags)?.ok_or(Problem::Changed)?;
        for component in below.components() {
            if let Component::Normal(name) = component {
                root = enter(&root, Path::new(name))?;
            }
        }
        check_directory(&root, options)?;
        let [tmp, new, cur] = ["tmp", "new", "cur"].map(|name| {
            let directory = enter(&root, Path::new(name))?;
            check_directory(&directory, options)?;
            Ok::<_, Problem>(directory)
        });
        // Readers want it; nothing is put there.
        cur?;
        Ok(Maildir {
            tmp: tmp?,
            new: new?,
        })
    }

    /// A new file in `tmp`, and its name. The octets in it are those that the name tells (`S=`).
    fn create(&self, octets: u64) -> Result<(String, File), Problem> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut number = 1;
        loop {
            let name = unique_name(number, octets);
            match openat(&self.tmp, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => return Ok((name, file.into())),
                Err(Errno::EXIST) if number < MAX_NAMES => number = number.saturating_add(1),
                Err(error) => return Err(Problem::Io("write to it", error.into())),
            }
        }
    }

    /// Moves a file from `tmp` to `new`, durably.
    fn deliver(&self, name: &str) -> io::Result<()> {
        renameat(&self.tmp, name, &self.new, name)?;
        fsync(&self.new).map_err(|error| {
            // It may be there after a crash, or not: whoever sent it is told that it is not.
            let _ = unlinkat(&self.new, name, AtFlags::empty());
            error.into()
        })
    }
}

/// Opens a directory, making it if it is missing.
fn enter(parent: &OwnedFd, name: &Path) -> Result<OwnedFd, Problem> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    if let Some(directory) = open_below(parent, name, flags)? {
        return Ok(directory);
    }
    match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) => fsync(parent).map_err(|error| Problem::Io("sync a directory", error.into()))?,
        Err(Errno::EXIST) => {}
        Err(Errno::ACCESS | Errno::PERM) => return Err(Problem::Denied),
        Err(error) => return Err(Problem::Io("make a directory", error.into())),
    }
    open_below(parent, name, flags)?.ok_or(Problem::Changed)
}

/// A name that nobody else gives: time, process, number of the file and host, as Maildir's rules have it.
fn unique_name(number: u32, octets: u64) -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // What has a meaning in names of files, or of Maildirs' files, has none here.
    let host: String = host
        .trim()
        .chars()
        .map(|it| {
            if it.is_ascii_alphanumeric() || it == '.' {
                it
            } else {
                '-'
            }
        })
        .take(MAX_HOST_OCTETS)
        .collect();
    format!(
        "{}.M{}P{}Q{number}.{host},S={octets}",
        since.as_secs(),
        since.subsec_micros(),
        std::process::id(),
    )
}
