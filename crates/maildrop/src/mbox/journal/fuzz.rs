//! What a fuzzer tries on the journal: one that is damaged, one made of anything, and one made up by who knows how to.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a broken promise is told"
)]

use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use sha2::{Digest, Sha256};

use super::*;
use crate::{Account, FileLock, Location};

/// So many octets are moved at once, for several batches with and without a copy in the journal.
const BATCH: u64 = 100;

/// Octets of the checksum that a slot begins with.
const SUM: usize = 32;

/// In the first octet of the input: the journal is what follows, and not a damaged one.
const ANYTHING: u8 = 0x40;

/// In the first octet of the input: the sums of both slots are made to fit.
const MADE_UP: u8 = 0x80;

const LATE: &[u8] = b"From late\n\nlate\n\n";

/// Updates interrupted at each of their batches, and right before the cut.
pub(crate) struct Bench {
    kept: Vec<u8>,
    crashes: Vec<Crash>,
}

struct Crash {
    mailbox: Vec<u8>,
    journal: Vec<u8>,
}

/// Remembers whether an update was finished; nobody else looks after the journal.
#[derive(Clone, Default)]
struct Witness(Rc<Cell<bool>>);

/// Nobody else has the mailbox.
struct NoLock;

impl Bench {
    pub(crate) fn new() -> Self {
        let messages: Vec<Vec<u8>> = [30, 180, 300, 520]
            .iter()
            .map(|&octets| format!("From x\n\n{}\n\n", "x".repeat(octets)).into_bytes())
            .collect();
        let [zero, one, two, three] = [0, 1, 2, 3].map(|at| messages[at].len() as u64);
        let extents = vec![zero..zero + one, zero + one + two..zero + one + two + three];
        let whole = messages.concat();
        let locks = locks();
        let mut crashes = Vec::new();
        for last in 0.. {
            let (mailbox, file) = (memory(&whole), memory(b""));
            let mut journal = journal(&file, Witness::default());
            let held = locks.acquire(mailbox.as_fd()).ok().unwrap();
            let size = whole.len() as u64;
            let (job, plan) = journal
                .begin(&held, &mailbox, 0, extents.clone(), size)
                .unwrap();
            let (mut stream, mut octets) = (plan.stream(), page_buffer::PageBuffer::new(0));
            let mut number = 0;
            while let Some(mut batch) = journal.next_batch(&job, &stream) {
                batch.sum = journal
                    .prepare(&held, &mailbox, &job, &batch, &mut stream, &mut octets)
                    .unwrap();
                let at = batch.position;
                journal.record(State::Move(job.clone(), batch)).unwrap();
                if number == last {
                    break;
                }
                mailbox.write_all_at(&octets, at).unwrap();
                number += 1;
            }
            let all_moved = stream.source().is_none() && number != last;
            if all_moved {
                journal.close(&mailbox, &job).unwrap();
            }
            drop(held);
            crashes.push(Crash {
                mailbox: content(&mailbox),
                journal: content(&file),
            });
            if all_moved {
                break;
            }
        }
        Bench {
            kept: [&*messages[1], &messages[3]].concat(),
            crashes,
        }
    }

    /// The first octet chooses the interruption and what is done to the journal, the second whether mail came since; what
    /// follows is the journal, or what it is damaged by: where, in two octets, and how.
    pub(crate) fn recovers(&self, data: &[u8]) {
        let &[choice, late, ref rest @ ..] = data else {
            return;
        };
        let crash = &self.crashes[usize::from(choice & !(ANYTHING | MADE_UP)) % self.crashes.len()];
        let octets = damaged(&crash.journal, choice, rest);
        let late = if late & 1 == 1 { LATE } else { b"" };
        let before = [&crash.mailbox, late].concat();
        let (mailbox, file, witness) = (memory(&before), memory(&octets), Witness::default());
        let locks = locks();
        let held = locks.acquire(mailbox.as_fd()).ok().unwrap();
        let mut journal = journal(&file, witness.clone());
        let recovered = journal.recover(&held, &mailbox, false);
        // What is made up may ask for anything of its owner's mailbox. It must come to an end all the same.
        if choice & MADE_UP == 0 {
            recovered.unwrap();
            let wanted = match witness.0.get() {
                true => [&self.kept, late].concat(),
                false => before,
            };
            assert!(content(&mailbox) == wanted, "another mailbox");
            let file = journal.file.try_clone().unwrap();
            assert_eq!(Journal::unfinished(&file).unwrap(), None);
        }
    }
}

fn damaged(journal: &[u8], choice: u8, rest: &[u8]) -> Vec<u8> {
    let mut octets = match choice & ANYTHING {
        0 => journal.to_vec(),
        _ => rest.to_vec(),
    };
    if choice & ANYTHING == 0 {
        for &[low, high, change] in rest.as_chunks::<3>().0 {
            let at = usize::from(u16::from_le_bytes([low, high])) % octets.len();
            octets[at] ^= change;
        }
    }
    if choice & MADE_UP != 0 {
        octets.resize(octets.len().max(2 * SLOT), 0);
        for slot in octets[..2 * SLOT].chunks_mut(SLOT) {
            let sum = Sha256::digest(&slot[SUM..]);
            slot[..SUM].copy_from_slice(&sum);
        }
    }
    octets
}

fn memory(octets: &[u8]) -> File {
    let file = File::from(memfd_create("journal", MemfdFlags::CLOEXEC).unwrap());
    file.write_all_at(octets, 0).unwrap();
    file
}

fn content(file: &File) -> Vec<u8> {
    let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
    let mut octets = vec![0; length];
    file.read_exact_at(&mut octets, 0).unwrap();
    octets
}

fn journal(file: &File, witness: Witness) -> Journal {
    let account = Account {
        name: "nobody",
        home: "/",
    };
    let location = Location::parse("mbox:/box").unwrap();
    let location = location.expand(&account).unwrap();
    Journal::new(file.try_clone().unwrap(), &location, Box::new(witness)).with_batch(BATCH)
}

fn locks() -> Locks {
    Locks {
        file_lock: Box::new(NoLock),
        dotlock: None,
        wait: Duration::ZERO,
    }
}

impl FileLock for NoLock {
    fn try_lock_exclusive(&self, _: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(true)
    }

    fn unlock(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }
}

impl Keeper for Witness {
    fn updating(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    fn settled(&self) {}

    fn finished(&self) {
        self.0.set(true);
    }

    fn set_aside(&self, _: &str) -> io::Result<File> {
        Ok(memory(b""))
    }
}
