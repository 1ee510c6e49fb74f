//! Delivery to an mbox: at its end, under all its locks.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{OFlags, fstat, fsync};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::Letter;
use crate::location::Expanded;
use crate::lock::{FileLock, Held, LockError, Locks};
use crate::mbox::FROM;
use crate::open::{Files, make_below, open_below, open_files};
use crate::{OpenOptions, Problem};

pub(super) fn deliver(
    base: &OwnedFd,
    location: &Expanded,
    options: &OpenOptions,
    wait: Duration,
    file_lock: Box<dyn FileLock>,
    letter: &mut dyn Letter,
) -> Result<(), Problem> {
    let mut files = open_files(base, location, options)?;
    if let Files::Missing = files {
        make(base, &location.below)?;
        files = open_files(base, location, options)?;
    }
    let Files::Mbox { file, dotlock } = files else {
        // Removed as soon as it was made.
        return Err(Problem::Changed);
    };
    let locks = Locks {
        file_lock,
        dotlock,
        wait,
    };
    let held = locks.acquire(file.as_fd()).map_err(|error| match error {
        LockError::Busy => Problem::Busy,
        LockError::Io(error) => Problem::Io("lock it", error),
    })?;
    append(&held, &file, letter)
}

/// Makes an empty mailbox, unless another program is faster.
fn make(base: &OwnedFd, below: &Path) -> Result<(), Problem> {
    match make_below(base, below) {
        Ok(_) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(Errno::ACCESS | Errno::PERM) => return Err(Problem::Denied),
        Err(error) => return Err(Problem::Io("make it", error.into())),
    }
    let parent = below.parent().filter(|parent| *parent != Path::new(""));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    match open_below(base, parent.unwrap_or(Path::new(".")), flags) {
        Ok(Some(directory)) => {
            fsync(directory).map_err(|error| Problem::Io("sync its directory", error.into()))
        }
        // One that may be written and not read: the mailbox's own sync has to do.
        Ok(None) | Err(Problem::Denied) => Ok(()),
        Err(problem) => Err(problem),
    }
}

/// Writes the message behind what is there; if that does not succeed, nothing of it stays.
fn append(held: &Held<'_>, file: &File, letter: &mut dyn Letter) -> Result<(), Problem> {
    let stat = fstat(file).map_err(|error| Problem::Io("examine it", error.into()))?;
    if stat.st_nlink == 0 {
        // Removed while its lock was waited for: the message would go with it.
        return Err(Problem::Changed);
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let gap = gap(file, size)?;
    let length = letter.octets().saturating_add(gap.len() as u64);
    if exceeds_limit(size.saturating_add(length)) {
        return Err(Problem::Io(
            "write to it",
            io::ErrorKind::FileTooLarge.into(),
        ));
    }
    let mut end = size;
    let mut write = |octets: &[u8]| {
        held.refresh();
        file.write_all_at(octets, end)?;
        end = end.saturating_add(octets.len() as u64);
        Ok(())
    };
    let written = write(gap)
        .and_then(|()| letter.replay(&mut write))
        .and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Under the same lock: nobody has added anything behind it.
        let undone = file.set_len(size).and_then(|()| file.sync_all());
        Problem::Io(
            match undone {
                Ok(()) => "write to it",
                Err(_) => "write to it, nor take back what was written",
            },
            error,
        )
    })
}

/// What has to come between the mailbox and the message: a message begins behind an empty line (`mbox/scan.rs`), and a program that
/// was killed may have left half a line.
fn gap(file: &File, size: u64) -> Result<&'static [u8], Problem> {
    let read = |buffer: &mut [u8], offset| {
        file.read_exact_at(buffer, offset)
            .map_err(|error| Problem::Io("read it", error))
    };
    if size == 0 {
        return Ok(b"");
    }
    let mut first = [0];
    read(&mut first, 0)?;
    // NUL: an update that moved mail to the beginning was interrupted, and is finished by the server.
    if FROM.first() != first.first() && first != [0] {
        return Err(Problem::NotMbox);
    }
    let Some(offset) = size.checked_sub(2) else {
        return Ok(b"\n\n");
    };
    let mut last = [0; 2];
    read(&mut last, offset)?;
    Ok(match last {
        [b'\n', b'\n'] => b"",
        [_, b'\n'] => b"\n",
        _ => b"\n\n",
    })
}

/// Whether a file of so many octets may not be made: the kernel would end the process in the midst of it.
fn exceeds_limit(octets: u64) -> bool {
    getrlimit(Resource::Fsize)
        .current
        .is_some_and(|limit| octets > limit)
}
