//! Updates and what a crash leaves of them. What a journal is not believed: [`distrust`].

mod distrust;

use std::fs;
use std::time::Duration;

use super::*;
use crate::testing::{Flock, Steward};

/// A mailbox and its journal, with four messages of which the first and the third are to be deleted.
struct Bench {
    directory: tempfile::TempDir,
    steward: Steward,
    mailbox: File,
    locks: Locks,
}

/// How many octets are moved at once, so that there are several batches, with and without a copy in the journal.
const BATCH: u64 = 100;

const LATE: &[u8] = b"From late\n\nlate\n\n";

fn message(number: usize, octets: usize) -> Vec<u8> {
    let line = format!("{number} {}\n", "x".repeat(octets));
    format!("From {number}\n\n{line}\n").into_bytes()
}

fn messages() -> [Vec<u8>; 4] {
    [
        message(0, 30),
        message(1, 180),
        message(2, 300),
        message(3, 520),
    ]
}

fn kept() -> Vec<u8> {
    let [_, one, _, three] = messages();
    [one, three].concat()
}

impl Bench {
    fn new() -> Self {
        Self::with(&messages().concat())
    }

    fn with(content: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("box");
        fs::write(&path, content).unwrap();
        Bench {
            steward: Steward::new(directory.path()),
            mailbox: File::options().read(true).write(true).open(path).unwrap(),
            locks: Locks {
                file_lock: Box::new(Flock),
                dotlock: None,
                wait: Duration::ZERO,
            },
            directory,
        }
    }

    fn content(&self) -> Vec<u8> {
        fs::read(self.directory.path().join("box")).unwrap()
    }

    fn journal_octets(&self) -> Vec<u8> {
        fs::read(self.directory.path().join("journal")).unwrap()
    }

    fn held(&self) -> Held<'_> {
        self.locks.acquire(self.mailbox.as_fd()).ok().unwrap()
    }

    fn append(&self, octets: &[u8]) {
        let size = self.mailbox.metadata().unwrap().len();
        self.mailbox.write_all_at(octets, size).unwrap();
    }

    fn journal(&self) -> Journal {
        self.steward.journal().with_batch(BATCH)
    }

    fn extents(&self) -> Vec<Range<u64>> {
        let [zero, one, two, three] = messages().map(|message| message.len() as u64);
        vec![zero..zero + one, zero + one + two..zero + one + two + three]
    }

    fn update(&self, journal: &mut Journal) -> Result<(), Failure> {
        let size = self.mailbox.metadata().unwrap().len();
        journal.carry_out(&self.held(), &self.mailbox, 0, self.extents(), size)
    }

    /// Does the steps of an update by hand up to the Move record of each batch, calls `crash` there with the batch's place
    /// in the mailbox and its octets, and leaves it at that where `crash` says so.
    fn update_until(&self, crash: &dyn Fn(usize, u64, &[u8]) -> bool) -> Journal {
        let mut journal = self.journal();
        let held = self.held();
        let size = self.mailbox.metadata().unwrap().len();
        let (job, plan) = journal
            .begin(&held, &self.mailbox, 0, self.extents(), size)
            .unwrap();
        let mut stream = plan.stream();
        let mut octets = page_buffer::PageBuffer::new(0);
        let mut number = 0;
        while let Some(mut batch) = journal.next_batch(&job, &stream) {
            batch.sum = journal
                .prepare(&held, &self.mailbox, &job, &batch, &mut stream, &mut octets)
                .unwrap();
            let at = batch.position;
            journal.record(State::Move(job.clone(), batch)).unwrap();
            if crash(number, at, &octets) {
                return journal;
            }
            self.mailbox.write_all_at(&octets, at).unwrap();
            number += 1;
        }
        journal.close(&self.mailbox, &job).unwrap();
        journal
    }

    /// Opens the journal anew and recovers.
    fn recover(&self) -> Vec<String> {
        self.steward.told.borrow_mut().clear();
        let mut journal = self.journal();
        journal.recover(&self.held(), &self.mailbox, false).unwrap();
        self.steward.told.borrow().clone()
    }

    fn assert_idle(&self) {
        assert!(self.recover().is_empty());
        let octets = self.journal_octets();
        assert!(octets.len() as u64 <= KEPT_OCTETS);
        assert!(octets.iter().skip(2 * SLOT).all(|&octet| octet == 0));
        let file = self.steward.file().unwrap();
        assert_eq!(Journal::unfinished(&file).unwrap(), None);
    }
}

const FINISHED: [&str; 3] = ["updating", "finished", "settled"];

#[test]
fn an_update_leaves_what_is_kept_and_an_idle_journal() {
    for batch in [1, 7, 100, 4096, MAX_AREA] {
        let bench = Bench::new();
        let mut journal = bench.steward.journal().with_batch(batch);
        bench.update(&mut journal).unwrap();
        assert!(bench.content() == kept(), "in batches of {batch}");
        assert_eq!(*bench.steward.told.borrow(), ["updating", "settled"]);
        bench.assert_idle();
    }
}

#[test]
fn no_octet_of_mail_stays_in_the_journal() {
    let bench = Bench::new();
    bench.update(&mut bench.journal()).unwrap();
    let octets = bench.journal_octets();
    assert!(octets.len() as u64 == KEPT_OCTETS);
    assert!(memchr::memmem::find(&octets, b"xx").is_none());
    // Nor where an update did not come to its first record.
    bench
        .steward
        .file()
        .unwrap()
        .write_all_at(b"xx", KEPT_OCTETS + 5)
        .unwrap();
    bench.recover();
    bench.assert_idle();
    assert!(memchr::memmem::find(&bench.journal_octets(), b"xx").is_none());
}

#[test]
fn a_batch_that_reached_the_mailbox_in_part_is_done_again() {
    for last in 0..8 {
        for keep in [0, 1, 50, BATCH as usize] {
            for late in [&b""[..], LATE] {
                let bench = Bench::new();
                bench.update_until(&|number, at, octets| {
                    if number == last {
                        let part = &octets[..keep.min(octets.len())];
                        bench.mailbox.write_all_at(part, at).unwrap();
                    }
                    number == last
                });
                let unfinished = Journal::unfinished(&bench.steward.file().unwrap()).unwrap();
                assert!(
                    unfinished.is_some_and(
                        |location| location.path() == bench.directory.path().join("box")
                    )
                );
                bench.append(late);
                assert_eq!(bench.recover(), FINISHED);
                assert!(
                    bench.content() == [kept(), late.to_vec()].concat(),
                    "batch {last}"
                );
                bench.assert_idle();
            }
        }
    }
}

#[test]
fn the_last_octets_of_a_batch_may_reach_the_mailbox_first() {
    let bench = Bench::new();
    bench.update_until(&|number, at, octets| {
        let half = octets.len() / 2;
        if number == 3 {
            let at = at + half as u64;
            bench.mailbox.write_all_at(&octets[half..], at).unwrap();
        }
        number == 3
    });
    assert_eq!(bench.recover(), FINISHED);
    assert!(bench.content() == kept());
}

#[test]
fn a_mailbox_that_was_not_cut_is_cut_and_keeps_mail_that_came_since() {
    for late in [&b""[..], LATE, &LATE.repeat(500)] {
        let bench = Bench::new();
        bench.update_until(&|_, _, _| false);
        bench.append(late);
        assert_eq!(bench.recover(), FINISHED);
        assert!(bench.content() == [kept(), late.to_vec()].concat());
        bench.assert_idle();
    }
}

#[test]
fn a_mailbox_that_was_cut_is_left_as_it_is() {
    for late in [&b""[..], LATE, &LATE.repeat(500)] {
        let bench = Bench::new();
        bench.update_until(&|_, _, _| false);
        bench.mailbox.set_len(kept().len() as u64).unwrap();
        bench.append(late);
        assert_eq!(bench.recover(), FINISHED);
        assert!(bench.content() == [kept(), late.to_vec()].concat());
        bench.assert_idle();
    }
}

/// The first of three mistakes of the model that this was made from: a checksum of nothing that is 0.
#[test]
fn an_empty_journal_and_one_of_nuls_say_nothing() {
    for nuls in [0, 1, 2 * SLOT, KEPT_OCTETS as usize] {
        let bench = Bench::new();
        fs::write(bench.directory.path().join("journal"), vec![0; nuls]).unwrap();
        assert!(bench.recover().is_empty());
        assert!(bench.content() == messages().concat());
    }
}

/// The second: mail that came while octets were still to be moved was taken for a change.
#[test]
fn mail_that_came_before_all_was_moved_stops_nothing() {
    for octets in [1, 400, 9_000, 90_000] {
        let bench = Bench::new();
        bench.update_until(&|number, _, _| number == 2);
        let late = message(9, octets);
        bench.append(&late);
        assert_eq!(bench.recover(), FINISHED);
        assert!(bench.content() == [kept(), late].concat());
    }
}

/// The third: the truncation clears the rest of the last page, and that may reach the disk before the new size does.
#[test]
fn what_is_behind_the_new_end_may_be_cleared_before_the_cut() {
    for late in [&b""[..], LATE] {
        let bench = Bench::new();
        bench.update_until(&|_, _, _| false);
        let (new, old) = (kept().len(), messages().concat().len());
        let cleared = vec![0; old - new];
        bench.mailbox.write_all_at(&cleared, new as u64).unwrap();
        bench.append(late);
        assert_eq!(bench.recover(), FINISHED);
        assert!(bench.content() == [kept(), late.to_vec()].concat());
    }
}

/// A fourth, of this journal itself: deleting the newest messages took no journal, as if a truncation were one step. Found
/// by power cuts on ext4.
#[test]
fn the_newest_messages_are_cut_off_whole_whatever_of_the_cut_reached_the_disk() {
    let [zero, one, two, three] = messages();
    let kept = [zero, one].concat();
    let (new, old) = (kept.len() as u64, (two.len() + three.len()) as u64);
    let states: [fn(&mut Journal, &File, &Job); 3] = [
        |_, _, _| {},
        |_, mailbox, job| mailbox.write_all_at(&[0; 16], job.new_size()).unwrap(),
        |journal, mailbox, job| journal.close(mailbox, job).unwrap(),
    ];
    for (state, to_state) in states.iter().enumerate() {
        for cleared in [0, 17, 100, old] {
            for late in [&b""[..], LATE] {
                let bench = Bench::new();
                let mut journal = bench.journal();
                let held = bench.held();
                let stays = new - 150..new;
                let (job, plan) = journal
                    .begin(
                        &held,
                        &bench.mailbox,
                        stays.start,
                        Vec::from([stays]),
                        new + old,
                    )
                    .unwrap();
                journal
                    .move_from(&held, &bench.mailbox, &job, plan.stream())
                    .unwrap();
                to_state(&mut journal, &bench.mailbox, &job);
                drop(held);
                let nuls = vec![0; cleared as usize];
                bench.mailbox.write_all_at(&nuls, new).unwrap();
                bench.append(late);
                assert_eq!(bench.recover(), FINISHED, "{state}, {cleared}");
                assert!(bench.content() == [&kept, late].concat());
                bench.assert_idle();
            }
        }
    }
}

#[test]
fn a_replay_that_is_interrupted_is_replayed() {
    // Late mail makes a second plan, from the record Final on; crash at each of its batches.
    let late = message(9, 1500);
    for last in 0..4 {
        let bench = Bench::new();
        bench.update_until(&|_, _, _| false);
        bench.append(&late);
        {
            let mut journal = bench.journal();
            let held = bench.held();
            let standing = newest_state(&bench);
            let State::Final(job) = standing else {
                panic!("{standing:?}")
            };
            journal.sequence = records_in(&journal.file)[0].sequence;
            let size = bench.mailbox.metadata().unwrap().len();
            let later = job.size..size;
            let (next, plan) = journal
                .begin(&held, &bench.mailbox, job.new_size(), vec![later], size)
                .unwrap();
            let mut stream = plan.stream();
            let mut octets = page_buffer::PageBuffer::new(0);
            for _ in 0..last {
                let mut batch = journal.next_batch(&next, &stream).unwrap();
                batch.sum = journal
                    .prepare(
                        &held,
                        &bench.mailbox,
                        &next,
                        &batch,
                        &mut stream,
                        &mut octets,
                    )
                    .unwrap();
                let at = next.target + batch.position;
                journal.record(State::Move(next.clone(), batch)).unwrap();
                bench.mailbox.write_all_at(&octets, at).unwrap();
            }
        }
        assert_eq!(bench.recover(), FINISHED);
        assert!(
            bench.content() == [kept(), late.clone()].concat(),
            "after {last}"
        );
        bench.assert_idle();
    }
}

fn records_in(file: &File) -> Vec<Record> {
    let mut slots = [0; 2 * SLOT];
    replay::read_slots(file, &mut slots).unwrap();
    replay::newest(&slots)
}

fn newest_state(bench: &Bench) -> State {
    records_in(&bench.steward.file().unwrap()).remove(0).state
}

/// Whatever a disk keeps of the octets that were written and not synced before a power cut.
#[test]
fn a_record_that_did_not_reach_the_disk_whole_is_none() {
    for number in 0..6 {
        let bench = Bench::new();
        let before = std::cell::RefCell::new(Vec::new());
        bench.update_until(&|at, _, _| {
            if at < number {
                *before.borrow_mut() = bench.journal_octets();
            }
            at == number
        });
        let (after, content) = (bench.journal_octets(), bench.content());
        let mut before = before.into_inner();
        before.resize(after.len(), 0);
        // Nothing of batch `number` is in the mailbox yet, so any page of the journal may be the old one.
        for pages in 0_u32..1 << (after.len() / 4096).min(6) {
            let mut mixed = before.clone();
            for (page, (mixed, new)) in mixed.chunks_mut(4096).zip(after.chunks(4096)).enumerate() {
                if pages & (1 << page.min(31)) != 0 {
                    mixed.copy_from_slice(new);
                }
            }
            fs::write(bench.directory.path().join("journal"), mixed).unwrap();
            fs::write(bench.directory.path().join("box"), &content).unwrap();
            if bench.recover().is_empty() {
                assert!(number == 0 && bench.content() == content);
            } else {
                assert!(bench.content() == kept(), "batch {number}, pages {pages:b}");
            }
            assert!(!bench.directory.path().join("aside").exists());
            bench.assert_idle();
        }
    }
}

#[test]
fn the_space_for_the_day_when_the_disk_is_full_is_taken_when_the_mailbox_is_opened() {
    let bench = Bench::new();
    assert!(bench.recover().is_empty());
    let octets = bench.journal_octets();
    assert!(octets.len() as u64 == KEPT_OCTETS && octets.iter().all(|&octet| octet == 0));
}

#[test]
fn nothing_is_changed_where_there_is_no_space_for_the_journal() {
    let bench = Bench::new();
    // A journal that cannot be written stands for a full disk here; the crash tests fill one.
    let mut journal = bench.journal();
    journal.file = File::open(bench.directory.path().join("journal")).unwrap();
    assert!(matches!(
        bench.update(&mut journal),
        Err(Failure::NotBegun(_))
    ));
    assert!(bench.content() == messages().concat());
    assert_eq!(*bench.steward.told.borrow(), ["updating", "settled"]);
}

#[test]
fn an_update_that_stops_halfway_is_not_settled() {
    let bench = Bench::new();
    let mut journal = bench.journal();
    let read_only = File::open(bench.directory.path().join("box")).unwrap();
    let size = read_only.metadata().unwrap().len();
    let held = bench.held();
    let stopped = journal.carry_out(&held, &read_only, 0, bench.extents(), size);
    drop(held);
    assert!(matches!(stopped, Err(Failure::Halfway(_))), "{stopped:?}");
    assert_eq!(*bench.steward.told.borrow(), ["updating"]);
    assert_eq!(bench.recover(), FINISHED);
    assert!(bench.content() == kept());
}

#[test]
fn after_a_failed_sync_even_an_idle_journal_is_written_again() {
    let bench = Bench::new();
    bench.update(&mut bench.journal()).unwrap();
    let before = bench.journal_octets();
    let mut journal = bench.journal();
    journal
        .recover(&bench.held(), &bench.mailbox, true)
        .unwrap();
    assert!(bench.journal_octets() != before);
    bench.assert_idle();
}

#[test]
fn the_mark_is_not_where_the_last_batch_comes_from() {
    // A deleted message of so many octets, and a kept one.
    let sizes = [8, 15, 16, 17, 31, 32, 33, 60].into_iter();
    let nearly = |deleted: usize| deleted.saturating_sub(18).max(8)..deleted + 3;
    for (deleted, kept) in
        sizes.flat_map(|deleted| nearly(deleted).map(move |kept| (deleted, kept)))
    {
        for batch in [7, MAX_AREA] {
            let of = |octets: usize| [b"From x\n\n", &vec![b'x'; octets - 8][..]].concat();
            let bench = Bench::with(&[of(deleted), of(kept)].concat());
            let held = bench.held();
            let (target, size) = (deleted as u64, (deleted + kept) as u64);
            let mut journal = bench.steward.journal().with_batch(batch);
            let extents = std::iter::once(target..size).collect();
            let (job, plan) = journal
                .begin(&held, &bench.mailbox, 0, extents, size)
                .unwrap();
            journal
                .move_from(&held, &bench.mailbox, &job, plan.stream())
                .unwrap();
            journal.mark(&bench.mailbox, &job).unwrap();
            drop(held);
            // Before the record Final.
            bench.append(LATE);
            assert_eq!(bench.recover(), FINISHED, "{deleted} {kept} {batch}");
            assert!(bench.content() == [&of(kept), LATE].concat());
        }
    }
}
