//! That an index changes no reply, and what it saves.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::tests::{Mailbox, mbox, message};
use super::*;
use crate::{Drift, IdMap};

/// All that a client can learn from a maildrop.
type Replies = Vec<(u64, String, Vec<u8>)>;

fn replies(mbox: &mut Mbox) -> io::Result<Replies> {
    (0..mbox.count())
        .map(|index| {
            let mut content = vec![0; 8192];
            let length = mbox.read(index, 0, &mut content)?;
            content.truncate(length);
            let id = mbox.unique_id(index).unwrap().to_string();
            Ok((mbox.octets(index).unwrap(), id, content))
        })
        .collect()
}

/// Opens the mailbox with its index, and checks that all is as without it.
fn open(mailbox: &Mailbox) -> Box<Mbox> {
    let mut with = mailbox.open();
    let aside = mailbox.index_path().with_extension("aside");
    fs::rename(mailbox.index_path(), &aside).unwrap();
    let mut without = mailbox.open();
    assert!(without.memory.index.is_none() && with.memory.index.is_some());
    fs::rename(aside, mailbox.index_path()).unwrap();
    assert_eq!(replies(&mut with).unwrap(), replies(&mut without).unwrap());
    with
}

#[test]
fn what_the_index_knows_is_not_scanned_again() {
    let mailbox = Mailbox::new(&mbox(0..5)).indexed();
    assert_eq!(open(&mailbox).unproven, 0);
    assert_eq!(open(&mailbox).unproven, 5);
    mailbox.append(&mbox(5..7));
    assert_eq!(open(&mailbox).unproven, 4);
    assert_eq!(open(&mailbox).unproven, 7);
}

/// A message as `popa3ctl deliver` hands it over.
struct Whole(Vec<u8>);

impl crate::deliver::Letter for Whole {
    fn octets(&self) -> u64 {
        self.0.len() as u64
    }

    fn replay(&mut self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        take(&self.0)
    }
}

#[test]
fn of_a_mailbox_delivered_to_only_what_is_new_is_scanned() {
    let mailbox = Mailbox::new(&mbox(0..5)).indexed();
    assert_eq!(open(&mailbox).unproven, 0);
    let mut owner = rustix::process::geteuid().as_raw();
    if owner == 0 {
        // Root's own mail is refused.
        owner = 12_345;
        std::os::unix::fs::chown(mailbox.path(), Some(owner), None).unwrap();
        assert_eq!(open(&mailbox).unproven, 0);
    }
    for number in 5..8 {
        let location = crate::testing::mbox_at(&mailbox.path());
        let options = crate::OpenOptions {
            owner,
            dotlock: false,
        };
        let lock = Box::new(crate::testing::Flock);
        let wait = std::time::Duration::ZERO;
        let mut letter = Whole(message(number));
        crate::deliver::deliver(&location, &options, wait, lock, &mut letter).unwrap();
        let opened = open(&mailbox);
        let count = u32::try_from(number).unwrap() + 1;
        // The last of those that are known is scanned again, and what is new.
        assert_eq!((opened.count(), opened.unproven), (count, count - 2));
    }
}

#[test]
fn messages_of_nothing_are_indexed_too() {
    let mailbox = Mailbox::new(b"From a\n\nFrom b\n\n\nFrom c\n").indexed();
    assert_eq!((open(&mailbox).unproven, open(&mailbox).unproven), (0, 3));
    let mailbox = Mailbox::new(b"").indexed();
    assert_eq!((open(&mailbox).unproven, open(&mailbox).count()), (0, 0));
    mailbox.append(&message(1));
    assert_eq!((open(&mailbox).unproven, open(&mailbox).unproven), (0, 1));
}

#[test]
fn after_update_the_index_knows_what_is_left() {
    for deleted in 1_u32..1 << 4 {
        let mailbox = Mailbox::new(&mbox(0..4)).indexed();
        let mut session = open(&mailbox);
        mailbox.append(&message(9));
        session.check().unwrap();
        session
            .update(&|index| deleted & (1 << index) != 0)
            .unwrap();
        // The last one known is scanned again to prove the others, as mail came meanwhile.
        let kept = 4 - deleted.count_ones();
        assert_eq!(open(&mailbox).unproven, kept.saturating_sub(1));
        assert_eq!(open(&mailbox).unproven, kept + 1);
    }
}

#[test]
fn after_update_with_no_new_mail_nothing_is_scanned() {
    for deleted in 1_u32..1 << 4 {
        let mailbox = Mailbox::new(&mbox(0..4)).indexed();
        open(&mailbox)
            .update(&|index| deleted & (1 << index) != 0)
            .unwrap();
        assert_eq!(open(&mailbox).unproven, 4 - deleted.count_ones());
    }
}

#[test]
fn any_damage_to_the_index_costs_no_more_than_a_scan() {
    let mailbox = Mailbox::new(&mbox(0..3)).indexed();
    open(&mailbox);
    let whole = fs::read(mailbox.index_path()).unwrap();
    for at in 0..whole.len() {
        for change in [1, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= change;
            fs::write(mailbox.index_path(), damaged).unwrap();
            assert_eq!(open(&mailbox).unproven, 0);
            assert_eq!(fs::read(mailbox.index_path()).unwrap(), whole);
        }
        fs::write(mailbox.index_path(), &whole[..at]).unwrap();
        assert_eq!(open(&mailbox).unproven, 0);
    }
    fs::write(mailbox.index_path(), [&*whole, b"more"].concat()).unwrap();
    assert_eq!(open(&mailbox).unproven, 3);
}

#[test]
fn the_index_of_another_mailbox_is_not_believed() {
    let (one, other) = (Mailbox::new(&mbox(0..3)), Mailbox::new(&mbox(3..6)));
    let (one, other) = (one.indexed(), other.indexed());
    open(&one);
    fs::copy(one.index_path(), other.index_path()).unwrap();
    assert_eq!(open(&other).unproven, 0);
}

#[test]
fn a_change_that_leaves_the_size_as_it_was_is_seen() {
    let mailbox = Mailbox::new(&mbox(0..3)).indexed();
    open(&mailbox);
    let modified = mailbox.handle().metadata().unwrap().modified().unwrap();
    mailbox.handle().write_all_at(b"X-te:", 7).unwrap();
    // As programs do that keep the time of the last delivery.
    mailbox.handle().set_modified(modified).unwrap();
    assert_eq!(open(&mailbox).unproven, 0);
}

/// Makes the index believe in the file as it is now, whatever has been done to it.
fn deceive(mailbox: &Mailbox, messages: &[table::Message]) {
    let index = Index::new(
        File::options()
            .read(true)
            .write(true)
            .open(mailbox.index_path())
            .unwrap(),
    );
    let file = mailbox.handle();
    let stamp = Stamp::of(&file).unwrap();
    let end = stamp.size();
    let indexed = Indexed::new(&file, &stamp, messages.last(), end).unwrap();
    let ids = IdMap::default();
    indexed
        .write(&index, &ids, messages.iter().copied())
        .unwrap();
}

#[test]
fn nothing_is_read_or_removed_on_the_word_of_a_wrong_index() {
    // Messages 1 and 2 have changed places; they differ in length.
    let mailbox = Mailbox::new(&mbox([0, 1, 2, 3])).indexed();
    let table = mailbox.open().table.messages().to_vec();
    let wrong = mbox([0, 2, 1, 3]);
    fs::write(mailbox.path(), &wrong).unwrap();
    for (deleted, marked) in (0..4).flat_map(|deleted| [(deleted, false), (deleted, true)]) {
        deceive(&mailbox, &table);
        let mut session = mailbox.open();
        assert_eq!(session.unproven, 4);
        if marked {
            session.marked(deleted);
            assert_eq!(session.is_unproven(deleted), [1, 2].contains(&deleted));
        }
        let result = session.update(&|index| index == deleted);
        let expected = match deleted {
            0 => mbox([2, 1, 3]),
            3 => mbox([0, 2, 1]),
            _ => wrong.clone(),
        };
        match deleted {
            // These are where they were.
            0 | 3 => assert_eq!(result.unwrap().removed, 1),
            _ => assert!(matches!(result, Err(UpdateError::Changed)), "{deleted}"),
        }
        assert_eq!(mailbox.content(), expected);
        fs::write(mailbox.path(), &wrong).unwrap();
    }
    deceive(&mailbox, &table);
    let mut session = mailbox.open();
    assert!(session.read(0, 0, &mut [0; 8]).is_ok());
    let error = session.read(1, 0, &mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    // Nobody is led astray again.
    assert_eq!(open(&mailbox).unproven, 0);
}

#[test]
fn a_message_with_another_header_in_its_place_is_not_removed() {
    let mailbox = Mailbox::new(&mbox(0..3)).indexed();
    let table = mailbox.open().table.messages().to_vec();
    let whole = mailbox.content();
    let next = table[2].from as usize;
    // Every octet that says where it begins and ends, and those that make its unique-id.
    let id = mailbox.open().unique_id(1);
    for at in table[1].from as usize - 1..next + 5 {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(mailbox.path(), &changed).unwrap();
        deceive(&mailbox, &table);
        let mut session = mailbox.open();
        if at % 2 == 0 {
            session.marked(1);
        }
        let result = session.update(&|index| index == 1);
        let scanned = Mailbox::new(&changed);
        let same = scanned.try_open().is_ok_and(|session| {
            let place = |index| {
                session
                    .table
                    .get(index)
                    .map(|message| (message.from, message.start))
            };
            session.unique_id(1) == id
                && [1, 2].iter().all(|&index| {
                    let message = table[index as usize];
                    place(index) == Some((message.from, message.start))
                })
        });
        if !same {
            assert!(matches!(result, Err(UpdateError::Changed)), "octet {at}");
            assert_eq!(mailbox.content(), changed, "octet {at}");
        }
    }
}

#[test]
fn what_was_looked_at_when_it_was_marked_is_removed_only_from_the_same_file() {
    let mailbox = Mailbox::new(&mbox(0..4)).indexed();
    open(&mailbox);
    let whole = mailbox.content();
    let mark = |indexes: &[u32]| {
        let mut session = mailbox.open();
        assert_eq!(session.unproven, 4);
        indexes.iter().for_each(|&index| session.marked(index));
        assert!((0..4).all(|index| session.is_unproven(index) != indexes.contains(&index)));
        session
    };
    // Others than those that were marked at first.
    let session = mark(&[0, 2]);
    session.update(&|index| index == 1 || index == 2).unwrap();
    assert_eq!(mailbox.content(), mbox([0, 3]));
    fs::write(mailbox.path(), &whole).unwrap();
    open(&mailbox);
    // Another header, of the same length, in the place of one that was marked.
    let session = mark(&[1]);
    let at = session.table.get(1).unwrap().start;
    let header = [whole[at as usize] ^ 1];
    mailbox.handle().write_all_at(&header, at).unwrap();
    let changed = mailbox.content();
    let result = session.update(&|index| index == 1);
    assert!(matches!(result, Err(UpdateError::Changed)), "{result:?}");
    assert_eq!(mailbox.content(), changed);
}

#[test]
fn an_index_that_makes_no_sense_is_thrown_away_whatever_its_sum() {
    let mailbox = Mailbox::new(&mbox(0..3)).indexed();
    let table = mailbox.open().table.messages().to_vec();
    let changes: [fn(&mut [table::Message]); 9] = [
        |table| table.swap(0, 1),
        |table| table[0].from = 1,
        |table| table[1].from = 0,
        |table| table[1].start = table[1].from,
        |table| table[1].start = u64::MAX,
        |table| table[1].stored = u64::MAX,
        |table| table[1].stored += 1000,
        |table| table[2].stored += 2,
        |table| table[1].copy = 0,
    ];
    for change in changes {
        let mut table = table.clone();
        change(&mut table);
        deceive(&mailbox, &table);
        assert_eq!(open(&mailbox).unproven, 0);
    }
    deceive(&mailbox, &table);
    assert_eq!(open(&mailbox).unproven, 3);
}

/// What may happen to a mailbox and its index between two looks at it.
#[derive(Clone, Debug)]
enum Event {
    /// Mail comes.
    Delivered(usize),
    /// A message comes again, perhaps with more text.
    Again(usize, usize),
    /// Mail comes without the empty line at its end.
    Unseparated(usize),
    /// A session removes these.
    Removed(BTreeSet<u32>),
    /// A mail reader writes the file anew, in place, without these messages and with a line added to the first.
    Rewritten(BTreeSet<usize>, bool),
    /// Another file takes its place.
    Replaced(usize),
    /// An octet is changed in place; that shows by the times of the file, until mail comes.
    Touched(u64, u8),
    /// The index is cut, or an octet of it is changed.
    IndexCut(u64),
    IndexDamaged(u64, u8),
}

fn event() -> impl Strategy<Value = Event> {
    let some = || proptest::collection::btree_set(0..6_usize, 0..4);
    prop_oneof![
        4 => (0..40_usize).prop_map(Event::Delivered),
        2 => (0..3_usize, 0..3_usize).prop_map(|(kind, lines)| Event::Again(kind, lines)),
        1 => (0..40_usize).prop_map(Event::Unseparated),
        4 => proptest::collection::btree_set(0..8_u32, 1..4).prop_map(Event::Removed),
        2 => (some(), any::<bool>()).prop_map(|(gone, line)| Event::Rewritten(gone, line)),
        1 => (0..40_usize).prop_map(Event::Replaced),
        1 => (0..400_u64, any::<u8>()).prop_map(|(at, octet)| Event::Touched(at, octet)),
        1 => (0..500_u64).prop_map(Event::IndexCut),
        1 => (0..500_u64, 1..255_u8).prop_map(|(at, change)| Event::IndexDamaged(at, change)),
    ]
}

fn happen(mailbox: &Mailbox, event: &Event, number: &mut usize) {
    let mut fresh = |kind: usize| {
        *number += 1;
        message(*number * 40 + kind)
    };
    match event {
        Event::Delivered(kind) => mailbox.append(&fresh(*kind)),
        Event::Again(kind, lines) => {
            mailbox.append(&[&message(*kind)[..], &b"more\n\n".repeat(*lines)].concat());
        }
        Event::Unseparated(kind) => {
            let message = fresh(*kind);
            mailbox.append(message.strip_suffix(b"\n").unwrap());
        }
        Event::Removed(indexes) => {
            if let Ok(mut session) = mailbox.try_open() {
                let mut expected = replies(&mut session).unwrap();
                let marked = indexes.iter().filter(|&&index| index % 2 == 0);
                marked.for_each(|&index| session.marked(index));
                session.update(&|index| indexes.contains(&index)).unwrap();
                let mut number = 0;
                expected.retain(|_| {
                    number += 1;
                    !indexes.contains(&(number - 1))
                });
                // What is left is shown by the same ids, and nothing is known to be missing.
                if let Ok(mut session) = mailbox.try_open() {
                    assert_eq!(replies(&mut session).unwrap(), expected);
                    assert_eq!(session.drift(), Some(Drift::default()));
                }
            }
        }
        Event::Rewritten(gone, line) => {
            let content = mailbox.content();
            let text = String::from_utf8_lossy(&content);
            let kept: Vec<&str> = text
                .split_inclusive("\n\n\n")
                .enumerate()
                .filter(|(number, _)| !gone.contains(number))
                .map(|(_, message)| message)
                .collect();
            let text = match line {
                true => kept.concat().replacen('\n', "\nStatus: O\n", 1),
                false => kept.concat(),
            };
            fs::write(mailbox.path(), text).unwrap();
        }
        Event::Replaced(kind) => {
            let other = mailbox.path().with_extension("new");
            let mut content = fresh(*kind);
            content.extend(fresh(*kind));
            fs::write(&other, content).unwrap();
            fs::rename(other, mailbox.path()).unwrap();
        }
        Event::Touched(at, octet) => {
            let length = mailbox.content().len() as u64;
            if length > 0 {
                mailbox
                    .handle()
                    .write_all_at(&[*octet], at % length)
                    .unwrap();
            }
        }
        Event::IndexCut(length) => {
            let index = File::options().write(true).open(mailbox.index_path());
            let index = index.unwrap();
            let length = (*length).min(index.metadata().unwrap().len());
            index.set_len(length).unwrap();
        }
        Event::IndexDamaged(at, change) => {
            let mut index = fs::read(mailbox.index_path()).unwrap();
            if let Some(octet) = index.get_mut(*at as usize) {
                *octet ^= change;
            }
            fs::write(mailbox.index_path(), index).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn whatever_happens_all_replies_are_as_without_an_index(
        events in proptest::collection::vec((event(), any::<bool>()), 1..12),
    ) {
        let mailbox = Mailbox::new(&mbox(0..3)).indexed();
        let mut number = 0;
        for (event, looked_at) in events {
            let in_place = matches!(event, Event::Touched(..));
            if in_place && mailbox.try_open().is_ok() {
                open(&mailbox);
            }
            happen(&mailbox, &event, &mut number);
            if (looked_at || in_place) && mailbox.try_open().is_ok() {
                open(&mailbox);
            }
        }
    }
}

fn ids(session: &Mbox) -> Vec<String> {
    (0..session.count())
        .map(|index| session.unique_id(index).unwrap().to_string())
        .collect()
}

#[test]
fn equal_messages_keep_their_ids_when_one_of_them_is_removed() {
    let mailbox = Mailbox::new(&mbox([1, 1, 2, 1])).indexed();
    let before = ids(&open(&mailbox));
    assert!(before[1].ends_with("-2") && before[3].ends_with("-3"));
    // By us.
    open(&mailbox).update(&|index| index == 0).unwrap();
    assert_eq!(ids(&open(&mailbox)), before[1..]);
    // By another program, which leaves the last alone.
    fs::write(
        mailbox.path(),
        [mbox([2, 1, 1]), b"more\n\n".to_vec()].concat(),
    )
    .unwrap();
    let ids = ids(&open(&mailbox));
    assert_eq!([&ids[0], &ids[1]], [&before[2], &before[1]]);
    assert!(ids[2].ends_with("-4"));
}

#[test]
fn ids_that_vanished_are_counted() {
    let mailbox = Mailbox::new(&mbox(0..5)).indexed();
    assert_eq!(mailbox.open().drift(), None);
    let drift = |gone, changed| Some(Drift { gone, changed });
    assert_eq!(mailbox.open().drift(), drift(0, 0));
    mailbox.append(&message(5));
    assert_eq!(mailbox.open().drift(), drift(0, 0));
    fs::write(mailbox.path(), mbox([0, 2, 5, 7])).unwrap();
    assert_eq!(mailbox.open().drift(), drift(3, 0));
    assert_eq!(mailbox.open().drift(), drift(0, 0));
    mailbox.open().update(&|index| index < 2).unwrap();
    assert_eq!(mailbox.open().drift(), drift(0, 0));
}

#[test]
fn ids_that_vanished_are_counted_though_the_index_is_believed_no_more() {
    let mailbox = Mailbox::new(&mbox(0..5)).indexed();
    let mut session = mailbox.open();
    fs::write(mailbox.path(), mbox([0, 2])).unwrap();
    assert!(matches!(session.check(), Err(CheckError::Changed)));
    let next = open(&mailbox);
    assert_eq!(
        (next.unproven, next.drift()),
        (
            0,
            Some(Drift {
                gone: 3,
                changed: 0
            })
        )
    );
    assert_eq!(mailbox.open().drift(), Some(Drift::default()));
}

#[test]
fn ids_that_changed_are_counted() {
    let mut mailbox = Mailbox::new(&mbox(0..4)).indexed();
    let own: Vec<UniqueId> = {
        let session = mailbox.open();
        (0..4)
            .map(|index| session.unique_id(index).unwrap())
            .collect()
    };
    let shown = |text: &str| UniqueId::new(text.as_bytes()).unwrap();
    let drift = |gone, changed| Some(Drift { gone, changed });
    mailbox.ids = IdMap::from_pairs([(own[0], shown("a")), (own[1], shown("b"))]).unwrap();
    assert_eq!(mailbox.open().drift(), drift(0, 2));
    assert_eq!(ids(&open(&mailbox))[..2], ["a", "b"]);
    // While mail comes, and while some goes.
    mailbox.ids = IdMap::from_pairs([(own[0], shown("a")), (own[1], shown("c"))]).unwrap();
    mailbox.append(&message(5));
    assert_eq!(mailbox.open().drift(), drift(0, 1));
    mailbox.ids = IdMap::default();
    fs::write(mailbox.path(), mbox([0, 2, 3])).unwrap();
    assert_eq!(mailbox.open().drift(), drift(2, 1));
    assert_eq!(mailbox.open().drift(), drift(0, 0));
}
