use std::cell::RefCell;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::*;
use crate::testing::{Flock, impatient, journal_in, wire};
use crate::{FileLock, IdMap, MAX_OCTETS};

/// A mailbox in a directory of its own.
pub(super) struct Mailbox {
    pub(super) directory: tempfile::TempDir,
    /// Ids that come from elsewhere.
    pub(super) ids: IdMap,
}

impl Mailbox {
    pub(super) fn new(content: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mailbox = Mailbox {
            directory,
            ids: IdMap::default(),
        };
        std::fs::write(mailbox.path(), content).unwrap();
        mailbox
    }

    pub(super) fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("box")
    }

    pub(super) fn content(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    pub(super) fn append(&self, text: &[u8]) {
        append(&self.path(), text);
    }

    pub(super) fn handle(&self) -> File {
        File::options()
            .read(true)
            .write(true)
            .open(self.path())
            .unwrap()
    }

    fn scan_with(&self, lock: Box<dyn FileLock>, limits: &Limits) -> Result<Mbox, Problem> {
        let locks = Locks {
            file_lock: lock,
            dotlock: None,
            wait: limits.lock_wait,
        };
        let journal = journal_in(self.directory.path());
        Mbox::scan(self.handle(), locks, limits, Some(journal), self.memory())
    }

    /// With the index and the numbers of copies, if [`Mailbox::indexed`] has made them.
    fn memory(&self) -> Memory {
        let open = |path| File::options().read(true).write(true).open(path).ok();
        Memory {
            index: open(self.index_path()).map(Index::new),
            copies: open(self.directory.path().join("copies")).map(copies::CopyNumbers::new),
            ids: self.ids.clone(),
            grace: None,
            horizon: Default::default(),
        }
    }

    pub(super) fn index_path(&self) -> std::path::PathBuf {
        self.directory.path().join("index")
    }

    /// With an index and numbers of copies, which are empty at first.
    pub(super) fn indexed(self) -> Self {
        File::create(self.index_path()).unwrap();
        File::create(self.directory.path().join("copies")).unwrap();
        self
    }

    pub(super) fn open(&self) -> Box<Mbox> {
        self.try_open().unwrap()
    }

    pub(super) fn try_open(&self) -> Result<Box<Mbox>, Problem> {
        self.scan_with(Box::new(Flock), &impatient()).map(Box::new)
    }
}

fn append(path: &Path, text: &[u8]) {
    let mut file = File::options().append(true).open(path).unwrap();
    file.write_all(text).unwrap();
}

pub(super) fn message(number: usize) -> Vec<u8> {
    let body = "x".repeat(number * 7 % 40);
    format!("From {number}\nDate: {number}\n\n{body}\n\n").into_bytes()
}

pub(super) fn mbox(numbers: impl IntoIterator<Item = usize>) -> Vec<u8> {
    numbers.into_iter().flat_map(message).collect()
}

#[test]
fn update_removes_the_deleted_messages_and_nothing_else() {
    for count in 1..=6 {
        for deleted in 0_u32..1 << count {
            for late in [&b""[..], b"From late\n\nlate\n\n"] {
                let mailbox = Mailbox::new(&mbox(0..count));
                let open = mailbox.open();
                mailbox.append(late);
                let summary = open.update(&|index| deleted & (1 << index) != 0).unwrap();
                assert_eq!(summary.removed, deleted.count_ones());
                let kept = (0..count).filter(|index| deleted & (1 << index) == 0);
                let expected = [mbox(kept), late.to_vec()].concat();
                assert_eq!(mailbox.content(), expected, "{deleted:b} of {count}");
            }
        }
    }
}

#[test]
fn mail_longer_than_a_block_is_moved_whole() {
    let long = |name: &str, size: usize| {
        let line = format!("{name} {}\n", "y".repeat(60));
        format!("From {name}\n\n{}\n", line.repeat(size / line.len())).into_bytes()
    };
    let (a, b, c, d) = (
        long("a", 10),
        long("b", 3 * BLOCK),
        long("c", BLOCK),
        long("d", BLOCK + 7),
    );
    let mailbox = Mailbox::new(&[&*a, &b, &c, &d].concat());
    let summary = mailbox
        .open()
        .update(&|index| index == 0 || index == 2)
        .unwrap();
    assert_eq!(summary.removed, 2);
    assert!(mailbox.content() == [&*b, &d].concat());
}

/// A lock whose taker has something done to the mailbox right before it is taken.
struct Interloper(RefCell<Vec<Box<dyn FnOnce()>>>);

impl FileLock for Interloper {
    fn try_lock_exclusive(&self, file: std::os::fd::BorrowedFd<'_>) -> io::Result<bool> {
        if let Some(work) = self.0.borrow_mut().pop() {
            work();
        }
        Flock.try_lock_exclusive(file)
    }

    fn unlock(&self, file: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
        Flock.unlock(file)
    }
}

#[test]
fn mail_that_comes_between_check_and_lock_is_kept() {
    let mailbox = Mailbox::new(&mbox(0..3));
    let path = mailbox.path();
    let lock = Interloper(RefCell::new(vec![
        Box::new(move || append(&path, &message(9))),
        Box::new(|| {}),
    ]));
    let mut open = Box::new(mailbox.scan_with(Box::new(lock), &impatient()).unwrap());
    open.check().unwrap();
    assert_eq!(open.update(&|_| true).unwrap().removed, 3);
    assert_eq!(mailbox.content(), message(9));
}

#[test]
fn a_rewrite_between_check_and_lock_stops_update() {
    let mailbox = Mailbox::new(&mbox(0..3));
    let path = mailbox.path();
    let rewritten = [mbox(1..3), mbox(5..9)].concat();
    let content = rewritten.clone();
    let lock = Interloper(RefCell::new(vec![
        Box::new(move || std::fs::write(path, content).unwrap()),
        Box::new(|| {}),
    ]));
    let mut open = Box::new(mailbox.scan_with(Box::new(lock), &impatient()).unwrap());
    open.check().unwrap();
    assert!(matches!(open.update(&|_| true), Err(UpdateError::Changed)));
    assert_eq!(mailbox.content(), rewritten);
}

#[test]
fn appended_mail_is_no_change_and_not_shown() {
    let mailbox = Mailbox::new(&mbox(0..2));
    let mut open = mailbox.open();
    for number in 5..8 {
        mailbox.append(&message(number));
        open.check().unwrap();
        assert_eq!(open.count(), 2);
    }
    assert_eq!(open.update(&|index| index == 1).unwrap().removed, 1);
    assert_eq!(mailbox.content(), mbox([0, 5, 6, 7]));
}

#[test]
fn mail_appended_to_an_empty_mailbox_is_no_change() {
    let mailbox = Mailbox::new(b"");
    let mut open = mailbox.open();
    assert_eq!(open.count(), 0);
    mailbox.append(&message(1));
    open.check().unwrap();
    assert_eq!(open.update(&|_| true).unwrap(), UpdateSummary::default());
    assert_eq!(mailbox.content(), message(1));
}

#[test]
fn mail_appended_behind_an_empty_line_that_was_missing_is_kept() {
    let mailbox = Mailbox::new(b"From a\n\na\n");
    let mut open = mailbox.open();
    mailbox.append(b"\nFrom b\n\nb\n");
    open.check().unwrap();
    assert_eq!(open.update(&|_| true).unwrap().removed, 1);
    assert_eq!(mailbox.content(), b"From b\n\nb\n");
}

#[test]
fn any_other_change_ends_the_session() {
    let before = mbox(0..3);
    let changes: [(&str, Vec<u8>); 7] = [
        ("emptied", Vec::new()),
        ("first removed", mbox(1..3)),
        ("last removed", mbox(0..2)),
        (
            "first removed, more added",
            [mbox(1..3), mbox(5..9)].concat(),
        ),
        ("last grew", [&*before, b"more\n"].concat()),
        (
            "header changed",
            before
                .iter()
                .map(|&o| if o == b'1' { b'7' } else { o })
                .collect(),
        ),
        ("no mailbox", vec![b'x'; before.len()]),
    ];
    for (what, after) in changes {
        let mailbox = Mailbox::new(&before);
        let mut open = mailbox.open();
        std::fs::write(mailbox.path(), &after).unwrap();
        assert!(matches!(open.check(), Err(CheckError::Changed)), "{what}");
        assert!(
            matches!(open.update(&|_| true), Err(UpdateError::Changed)),
            "{what}"
        );
        assert_eq!(mailbox.content(), after, "{what}");
    }
}

#[test]
fn a_mailbox_replaced_by_another_file_ends_the_session() {
    let mailbox = Mailbox::new(&mbox(0..3));
    let mut open = mailbox.open();
    let other = mailbox.directory.path().join("other");
    std::fs::write(&other, mbox(0..3)).unwrap();
    std::fs::rename(other, mailbox.path()).unwrap();
    assert!(matches!(open.check(), Err(CheckError::Changed)));
    assert!(matches!(open.update(&|_| true), Err(UpdateError::Changed)));
}

#[test]
fn the_mailbox_is_locked_only_while_it_is_scanned_and_updated() {
    let mailbox = Mailbox::new(&mbox(0..3));
    let theirs = mailbox.handle();
    assert!(Flock.try_lock_exclusive(theirs.as_fd()).unwrap());
    let refused = mailbox.scan_with(Box::new(Flock), &impatient());
    assert!(matches!(refused, Err(Problem::Busy)));
    Flock.unlock(theirs.as_fd()).unwrap();

    let mut open = mailbox.open();
    assert!(Flock.try_lock_exclusive(theirs.as_fd()).unwrap());
    open.check().unwrap();
    mailbox.append(&message(4));
    assert!(matches!(open.check(), Err(CheckError::Busy)));
    assert!(matches!(open.update(&|_| true), Err(UpdateError::Busy)));
    assert_eq!(mailbox.content(), [mbox(0..3), message(4)].concat());
}

#[test]
fn a_message_is_read_as_stored_from_any_offset() {
    let mailbox = Mailbox::new(b"From a\nS: a\n\nbody\0\xff\n\nFrom b\n\nFrom c\nS: c");
    let mut open = mailbox.open();
    let expected: [&[u8]; 3] = [b"S: a\n\nbody\0\xff\n", b"\n", b"S: c"];
    for (index, expected) in (0..).zip(expected) {
        for size in 1..=expected.len() + 1 {
            let mut read = Vec::new();
            let mut buffer = vec![0; size];
            loop {
                let length = open.read(index, read.len() as u64, &mut buffer).unwrap();
                if length == 0 {
                    break;
                }
                read.extend_from_slice(&buffer[..length]);
            }
            assert_eq!(read, expected);
        }
        assert_eq!(open.read(index, u64::MAX, &mut [0; 8]).unwrap(), 0);
        assert_eq!(open.octets(index), Some(wire(expected).len() as u64));
    }
    assert_eq!(
        open.read(3, 0, &mut [0; 8]).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    assert_eq!((open.octets(3), open.unique_id(3)), (None, None));
    mailbox.handle().set_len(0).unwrap();
    let error = open.read(0, 0, &mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_message_was_delivered_when_its_from_line_says() {
    let long = format!("From {} Tue Jan  2 00:00:00 2024\n\n\n", "a".repeat(300));
    let mail = [
        "From a Mon Jan  1 00:00:00 2024\nDate: Fri, 1 Jan 1999 00:00:00 +0000\n\n1\n\n",
        &long,
        "From a\nDate: Mon Jan  1 00:00:00 2024\n\n",
    ];
    let mailbox = Mailbox::new(mail.concat().as_bytes()).indexed();
    for _ in 0..2 {
        let mbox = mailbox.open();
        let delivered: Vec<_> = (0..4).map(|index| mbox.delivered(index)).collect();
        let noon = 1_704_067_200 + 12 * 3600;
        assert_eq!(delivered, [Some(noon), Some(noon + 24 * 3600), None, None]);
    }
}

#[test]
fn equal_messages_have_distinct_ids() {
    let open = Mailbox::new(&mbox([1, 1, 2, 1])).open();
    let ids: Vec<String> = (0..4)
        .map(|index| open.unique_id(index).unwrap().to_string())
        .collect();
    assert_eq!(ids[1], format!("{}-2", ids[0]));
    assert_eq!(ids[3], format!("{}-3", ids[0]));
    assert!(!ids[2].starts_with(&ids[0]));
}

#[test]
fn a_mailbox_beyond_the_limits_is_refused() {
    let content = mbox(0..3);
    let mailbox = Mailbox::new(&content);
    let with = |messages, octets| {
        let limits = Limits {
            messages,
            octets,
            ..impatient()
        };
        mailbox.scan_with(Box::new(Flock), &limits)
    };
    let size = content.len() as u64;
    assert!(with(3, size).is_ok());
    assert!(matches!(with(2, size), Err(Problem::TooManyMessages(2))));
    assert!(
        matches!(with(3, size - 1), Err(Problem::TooManyOctets { found, limit })
        if found == size && limit == size - 1)
    );
}

#[test]
fn a_mailbox_that_has_grown_beyond_the_limit_is_not_updated() {
    let (content, added) = (mbox(0..3), mbox(3..4));
    let size = (content.len() + added.len()) as u64;
    for limit in [size - 1, size] {
        let mailbox = Mailbox::new(&content);
        let limits = Limits {
            work_octets: limit,
            ..impatient()
        };
        let mut open = mailbox.scan_with(Box::new(Flock), &limits).unwrap();
        mailbox.append(&added);
        let whole = mailbox.content();
        let checked = open.check();
        let updated = Box::new(open).update(&|index| index == 0);
        if limit == size {
            checked.unwrap();
            assert_eq!(updated.unwrap().removed, 1);
            assert_eq!(mailbox.content(), mbox(1..4));
        } else {
            assert!(
                matches!(checked, Err(CheckError::TooManyOctets { found, .. }) if found == size)
            );
            assert!(
                matches!(updated, Err(UpdateError::TooManyOctets { found, .. }) if found == size)
            );
            assert_eq!(mailbox.content(), whole);
        }
    }
    // The bound is on growth: without any, a mailbox is updated whatever its size.
    let mailbox = Mailbox::new(&content);
    let limits = Limits {
        work_octets: 1,
        ..impatient()
    };
    let mut open = mailbox.scan_with(Box::new(Flock), &limits).unwrap();
    open.check().unwrap();
    assert_eq!(
        Box::new(open).update(&|index| index == 0).unwrap().removed,
        1
    );
    assert_eq!(mailbox.content(), mbox(1..3));
}

#[test]
fn what_does_not_begin_with_from_is_refused() {
    for content in [
        &b"\n"[..],
        b"\nFrom a\n",
        b"from a\n",
        b"From",
        b"From\n",
        b">From a\n",
    ] {
        let result = Mailbox::new(content).scan_with(Box::new(Flock), &impatient());
        assert!(matches!(result, Err(Problem::NotMbox)), "{content:?}");
    }
}

#[test]
fn an_update_that_deletes_nothing_touches_nothing() {
    let mailbox = Mailbox::new(&mbox(0..3));
    let open = mailbox.open();
    let before = Stamp::of(mailbox.handle()).unwrap();
    assert_eq!(open.update(&|_| false).unwrap(), UpdateSummary::default());
    assert_eq!(Stamp::of(mailbox.handle()).unwrap(), before);
}

#[test]
fn a_refused_write_is_told_apart_from_a_refusal_before_it() {
    let read_only = |mailbox: &Mailbox| {
        let mut open = mailbox.open();
        open.file = File::open(mailbox.path()).unwrap();
        open
    };
    let mailbox = Mailbox::new(&mbox(0..3));
    let cut = read_only(&mailbox).update(&|_| true);
    assert!(matches!(cut, Err(UpdateError::Io("cut it", _))), "{cut:?}");
    assert_eq!(mailbox.content(), mbox(0..3));
    let moved = read_only(&mailbox).update(&|index| index == 0);
    assert!(
        matches!(moved, Err(UpdateError::Interrupted("move mail", _))),
        "{moved:?}"
    );
    assert_eq!(mailbox.open().count(), 2);
    assert_eq!(mailbox.content(), mbox(1..3));
}

#[test]
fn mail_that_has_to_be_moved_is_not_without_a_journal() {
    let mailbox = Mailbox::new(&mbox(0..3));
    let mut open = mailbox.open();
    open.journal = None;
    let moved = open.update(&|index| index == 0);
    assert!(matches!(moved, Err(UpdateError::Io("move mail", _))));
    assert_eq!(mailbox.content(), mbox(0..3));
}

/// Emptying a file is one step for the file system. Any other cut is two: what is behind the new end in its block is
/// cleared, and that may reach the disk without the new size.
#[test]
fn only_deleting_all_takes_no_journal() {
    let mailbox = Mailbox::new(&mbox(0..3));
    let mut open = mailbox.open();
    open.journal = None;
    let cut = open.update(&|index| index == 2);
    assert!(matches!(cut, Err(UpdateError::Io("move mail", _))));
    assert_eq!(mailbox.content(), mbox(0..3));
    let mut open = mailbox.open();
    open.journal = None;
    assert_eq!(open.update(&|_| true).unwrap().removed, 3);
    assert_eq!(mailbox.content(), b"");
}

#[test]
fn offsets_beyond_four_gib_work() {
    // Sparse, and not scanned, which would read 5 GiB: the table is as a scan leaves it.
    let mailbox = Mailbox::new(b"From a\n\n");
    let late = b"From b\nDate: 1\n\nb\n";
    let size = 5 << 30;
    mailbox.handle().write_all_at(late, size).unwrap();
    let message = |from, start, stored| table::Message {
        from,
        start,
        stored,
        octets: stored,
        digest: [0; 8],
        copy: 1,
    };
    let table = Table::new(vec![message(0, 7, size - 7), message(size, size + 7, 12)]);
    let file = mailbox.handle();
    let stamp = Stamp::of(&file).unwrap();
    let mut open = Box::new(Mbox {
        file,
        locks: Locks {
            file_lock: Box::new(Flock),
            dotlock: None,
            wait: impatient().lock_wait,
        },
        journal: Some(journal_in(mailbox.directory.path())),
        table,
        stamp,
        end: stamp.size(),
        work_octets: MAX_OCTETS,
        unproven: 0,
        proven: Vec::new(),
        memory: Memory::default(),
        drift: None,
    });
    let mut read = [0; 8];
    assert_eq!(open.read(1, 0, &mut read).unwrap(), 8);
    assert_eq!(&read, b"Date: 1\n");
    assert_eq!(open.update(&|index| index == 0).unwrap().removed, 1);
    assert_eq!(mailbox.content(), late);
}
