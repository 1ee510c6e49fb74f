//! Logins to mailboxes that nothing is known of yet, from the page cache: `cargo bench -p maildrop`.

use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;

use divan::Bencher;
use divan::counter::BytesCount;
use maildrop::{Account, FileLock, Limits, Location, OpenOptions};

fn main() {
    divan::main();
}

/// Octets of the mailbox.
const OCTETS: usize = 64 * 1024 * 1024;

/// Nobody else is there.
#[derive(Debug)]
struct Alone;

impl FileLock for Alone {
    fn try_lock_exclusive(&self, _: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(true)
    }

    fn unlock(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// Opens an mbox with messages of so many octets, and looks through all of it.
#[divan::bench(args = [2_000, 50_000, 5_000_000], sample_count = 20)]
fn scan_mbox(bencher: Bencher<'_, '_>, message_octets: usize) {
    let directory = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create(directory.path().join("user")).unwrap();
    let line = [b"0123456789abcdef".repeat(4).as_slice(), b"\n"].concat();
    let mut octets = 0;
    let mut messages: u32 = 0;
    while octets < OCTETS {
        let mut message =
            b"From a@example Thu Jan  1 00:00:00 1970\nSubject: of a benchmark\n\n".to_vec();
        while message.len() < message_octets {
            message.extend(&line);
        }
        message.push(b'\n');
        file.write_all(&message).unwrap();
        octets += message.len();
        messages += 1;
    }
    let template = format!("mbox:{}/%u", directory.path().display());
    let account = Account {
        name: "user",
        home: "/nonexistent",
    };
    let location = Location::parse(&template)
        .unwrap()
        .expand(&account)
        .unwrap();
    // A maildrop is never root's.
    let owner = match rustix::process::geteuid().as_raw() {
        0 => 65_534,
        owner => owner,
    };
    std::os::unix::fs::fchown(&file, Some(owner), None).unwrap();
    let options = OpenOptions {
        owner,
        dotlock: false,
    };
    bencher.counter(BytesCount::new(octets)).bench_local(|| {
        let opened = maildrop::open(&location, &options).unwrap();
        let maildrop = opened.lock_and_scan(&Limits::default(), Box::new(Alone));
        assert_eq!(maildrop.unwrap().count(), messages);
    });
}
