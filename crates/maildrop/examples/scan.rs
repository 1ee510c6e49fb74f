//! Times the opening of a maildrop: `cargo run --release -p maildrop --example scan -- mbox:/path/to/file`.
//!
//! Opens it twice, so that the second figure is that of the page cache, and prints messages, octets, seconds, GB/s and
//! the most memory used. The maildrop's owner is taken for its user.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use maildrop::{Account, FileLock, Limits, Location, OpenOptions, open};
use rustix::fs::{FlockOperation, flock};

/// flock(2), so that the example needs no other crate; a server uses `F_OFD_SETLK`.
struct Flock;

impl FileLock for Flock {
    fn try_lock_exclusive(&self, file: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(flock(file, FlockOperation::NonBlockingLockExclusive).is_ok())
    }

    fn unlock(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        Ok(flock(file, FlockOperation::Unlock)?)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let template = std::env::args().nth(1).ok_or("usage: scan LOCATION")?;
    let nobody = Account {
        name: "nobody",
        home: "/nonexistent",
    };
    let location = Location::parse(&template)?.expand(&nobody)?;
    let options = OpenOptions {
        owner: std::fs::metadata(location.path())?.uid(),
        dotlock: false,
    };
    let limits = Limits {
        lock_wait: Duration::ZERO,
        ..Limits::default()
    };
    for _ in 0..2 {
        let begun = Instant::now();
        let maildrop = open(&location, &options)?.lock_and_scan(&limits, Box::new(Flock))?;
        let seconds = begun.elapsed().as_secs_f64();
        let octets: u64 = (0..maildrop.count())
            .filter_map(|index| maildrop.octets(index))
            .sum();
        let speed = octets as f64 / seconds / 1e9;
        let messages = maildrop.count();
        println!(
            "{messages} messages, {octets} octets on the wire, {seconds:.3} s, {speed:.2} GB/s"
        );
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!("{}", peak.unwrap_or("VmHWM unknown"));
    Ok(())
}
