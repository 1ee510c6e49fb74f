//! What tells whether a mailbox is as it was: identity, size and times of the file.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::{AtFlags, Stat, StatxFlags, fstat, statx};
use rustix::time::{ClockId, clock_gettime};

use crate::lock::pause;

/// Longest wait for the clock to leave the instant of the last change: file systems that keep whole seconds need it.
const MAX_SETTLING: Duration = Duration::from_secs(1);

/// One look of [`Stamp::settle`] at the clock after another; the coarse clock ticks every 1 to 10 ms.
const SETTLING_STEP: Duration = Duration::from_millis(1);

/// A file's identity, size and times at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    links: u64,
    size: u64,
    modified: Instant,
    changed: Instant,
}

/// Seconds and nanoseconds of the real-time clock.
type Instant = (i64, u64);

impl Stamp {
    pub(crate) fn of(file: impl AsFd) -> io::Result<Self> {
        Ok(Self::from_stat(&fstat(file)?))
    }

    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)] // The fields' types differ between architectures.
    fn from_stat(stat: &Stat) -> Self {
        Stamp {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            links: stat.st_nlink as u64,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u64),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Device and inode.
    pub(crate) fn file(&self) -> [u64; 2] {
        [self.device, self.inode]
    }

    /// Times of the last change of content and of anything: seconds and nanoseconds of each.
    pub(crate) fn times(&self) -> [u64; 4] {
        let (modified, changed) = (self.modified, self.changed);
        [
            modified.0.cast_unsigned(),
            modified.1,
            changed.0.cast_unsigned(),
            changed.1,
        ]
    }

    /// A file that lost its only name has been replaced: nobody will see what is done to it.
    pub(crate) fn is_linked(&self) -> bool {
        self.links > 0
    }

    /// Waits, while the caller holds the lock, until a later change must give the file another time; `false` if it did
    /// not come to that.
    ///
    /// A change within the clock tick of this stamp would otherwise go unseen. On kernels with multigrain timestamps
    /// (6.13) this is needless and costs nothing unless the file was changed within the last few milliseconds.
    pub(crate) fn settle(&self) -> bool {
        let mut waited = Duration::ZERO;
        while self.is_of_this_tick() {
            if waited >= MAX_SETTLING {
                return false;
            }
            pause(SETTLING_STEP);
            waited = waited.saturating_add(SETTLING_STEP);
        }
        true
    }

    /// Whether the file may change once more without another time to show it.
    pub(crate) fn is_of_this_tick(&self) -> bool {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let (seconds, nanoseconds) = self.changed;
        // A time further ahead is another machine's clock, and waiting would not help.
        let near = seconds <= now.tv_sec.saturating_add(1);
        near && match nanoseconds {
            // A file system of whole seconds (or, harmlessly, one time in a thousand million).
            0 => seconds >= now.tv_sec,
            _ => (seconds, nanoseconds) >= (now.tv_sec, u64::try_from(now.tv_nsec).unwrap_or(0)),
        }
    }
}

/// When a file was made: seconds and nanoseconds, zeros where the file system does not say. It tells a file from an
/// earlier one of the same inode.
pub(crate) fn born(file: impl AsFd) -> [u64; 2] {
    let found = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BTIME);
    match found {
        Ok(found) if StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME) => [
            found.stx_btime.tv_sec.cast_unsigned(),
            u64::from(found.stx_btime.tv_nsec),
        ],
        _ => [0, 0],
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_change_after_settling_shows_even_if_the_size_does_not() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"a").unwrap();
        for _ in 0..20 {
            let stamp = Stamp::of(&file).unwrap();
            assert!(stamp.settle());
            assert_eq!(Stamp::of(&file).unwrap(), stamp);
            std::os::unix::fs::FileExt::write_all_at(&file, b"b", 0).unwrap();
            assert_ne!(Stamp::of(&file).unwrap(), stamp);
        }
    }

    #[test]
    fn a_file_is_born_when_it_is_made() {
        let file = tempfile::tempfile().unwrap();
        let [seconds, nanoseconds] = born(&file);
        let made = file.metadata().unwrap().created().unwrap();
        let made = made.duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(
            (seconds, nanoseconds),
            (made.as_secs(), u64::from(made.subsec_nanos()))
        );
    }

    #[test]
    fn a_removed_file_is_not_linked() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Stamp::of(&file).unwrap().is_linked());
        let file = file.into_file();
        assert!(!Stamp::of(&file).unwrap().is_linked());
    }
}
