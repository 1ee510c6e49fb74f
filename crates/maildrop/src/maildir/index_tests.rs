//! That an index changes no reply, and what it saves.

use std::fs;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::tests::Home;
use super::*;

/// All that a client can learn from a maildrop.
fn replies(maildir: &mut Maildir) -> Vec<(u64, String, Result<Vec<u8>, io::ErrorKind>)> {
    (0..maildir.count())
        .map(|index| {
            let mut content = vec![0; 4096];
            let read = maildir.read(index, 0, &mut content);
            let content = read.map_err(|error| error.kind()).map(|length| {
                content.truncate(length);
                content
            });
            let id = maildir.unique_id(index).unwrap().to_string();
            (maildir.octets(index).unwrap(), id, content)
        })
        .collect()
}

/// Opens the Maildir with its index, and checks that all is as without it.
fn open(home: &Home) -> Box<Maildir> {
    let mut with = home.open();
    home.rename("index", "aside");
    let mut without = home.open();
    assert!(without.memory.index.is_none() && with.memory.index.is_some());
    home.rename("aside", "index");
    assert_eq!(replies(&mut with), replies(&mut without));
    assert_eq!(with.skipped(), without.skipped());
    with
}

/// Waits until a change of the directories must show.
fn settle(home: &Home) {
    for folder in ["new", "cur"] {
        let stamp = crate::stamp::Stamp::of(fs::File::open(home.path(folder)).unwrap());
        assert!(stamp.unwrap().settle());
    }
}

/// Whether the index says that nothing has changed.
fn is_believed(home: &Home) -> bool {
    let index = Index::new(fs::File::open(home.path("index")).unwrap());
    let stamps = Stamps::of(&home.folders()).unwrap();
    saved::load(&index, &crate::Limits::default()).is_some_and(|saved| saved.is_of(&stamps))
}

fn three() -> Home {
    let files: [(&str, &[u8]); 3] = [
        ("new/1.a", b"S: 1\n\nbody\n"),
        ("cur/2.b:2,S", b"S: 2\n\n\n"),
        ("cur/3.c", b"S: 3"),
    ];
    Home::new(&files).indexed()
}

#[test]
fn what_is_listed_while_the_clock_stands_is_listed_again() {
    let home = three();
    settle(&home);
    open(&home);
    assert!(is_believed(&home));
    home.write("new/4.d", b"4\n");
    assert!(!is_believed(&home));
    // Perhaps within the tick in which the message came, perhaps after it: never believed too early.
    open(&home);
    home.write("new/5.e", b"5\n");
    assert_eq!(open(&home).count(), 5);
    settle(&home);
    open(&home);
    assert!(is_believed(&home));
}

#[test]
fn where_nothing_has_changed_no_file_is_looked_at() {
    let home = three();
    settle(&home);
    open(&home);
    // A program that breaks the rules of Maildir: it writes to a file in place.
    home.write("new/1.a", b"other\n");
    let mut session = home.open();
    assert_eq!(session.octets(0), Some(14));
    // The message is refused, and the next session knows better.
    let error = session.read(0, 0, &mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(open(&home).octets(0), Some(9));
}

#[test]
fn a_file_that_is_not_the_one_that_it_was_is_counted_again() {
    let home = three();
    open(&home);
    let modified = fs::metadata(home.path("cur/3.c"))
        .unwrap()
        .modified()
        .unwrap();
    // Same name, same size, same time of change of content.
    home.write("tmp/other", b"\nS\r\n");
    let file = fs::File::options()
        .write(true)
        .open(home.path("tmp/other"))
        .unwrap();
    file.set_modified(modified).unwrap();
    home.rename("tmp/other", "cur/3.c");
    home.write("new/4.d", b"4\n");
    let session = open(&home);
    assert_eq!(session.octets(2), Some(5));
}

#[test]
fn where_mail_has_come_a_file_that_was_there_is_not_looked_at() {
    let home = three();
    open(&home);
    // A program that breaks the rules of Maildir: it writes to a file in place.
    home.write("new/1.a", b"other\n");
    home.write("new/4.d", b"4\n");
    let mut session = home.open();
    assert_eq!((session.count(), session.octets(0)), (4, Some(14)));
    // The message is refused, and the next session knows better.
    let error = session.read(0, 0, &mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(open(&home).octets(0), Some(9));
}

#[test]
fn files_that_have_other_numbers_than_an_index_says_are_looked_at_once() {
    let home = three();
    settle(&home);
    open(&home);
    let limits = crate::Limits::default();
    let index = || Index::new(fs::File::open(home.path("index")).unwrap());
    let mut known = saved::load(&index(), &limits).unwrap().listing;
    let scan = |known: &Listing| scan::scan(&home.folders(), &limits, Some(known)).unwrap();
    assert!(scan(&known).as_known);
    // An index of before there were any, or a file system that numbers its files afresh at will.
    for entry in &mut known.entries {
        entry.name = entry.name.of(name::Inode::default());
        entry.octets += 1000;
    }
    let scanned = scan(&known);
    assert!(!scanned.as_known);
    let octets = scanned.listing.entries.iter().map(|entry| entry.octets);
    assert_eq!(octets.collect::<Vec<_>>(), [1014, 1010, 1008]);
    assert!(scan(&scanned.listing).as_known);
}

#[test]
fn a_renamed_message_is_known_again() {
    let home = three();
    settle(&home);
    open(&home);
    home.rename("new/1.a", "cur/1.a:2,S");
    home.rename("cur/3.c", "cur/3.c:2,T");
    let index = Index::new(fs::File::open(home.path("index")).unwrap());
    let saved = saved::load(&index, &crate::Limits::default()).unwrap();
    let mut listing = saved.listing;
    // If the index said another number of octets, it would be taken.
    listing
        .entries
        .iter_mut()
        .for_each(|entry| entry.octets += 1000);
    let scanned = scan::scan(&home.folders(), &crate::Limits::default(), Some(&listing)).unwrap();
    let octets: Vec<u64> = scanned
        .listing
        .entries
        .iter()
        .map(|entry| entry.octets)
        .collect();
    assert_eq!(octets, [1014, 1010, 1008]);
    assert!(!scanned.as_known);
    open(&home);
}

#[test]
fn after_update_the_index_knows_what_is_left() {
    let home = three();
    open(&home).update(&|index| index == 1).unwrap();
    let index = Index::new(fs::File::open(home.path("index")).unwrap());
    let saved = saved::load(&index, &crate::Limits::default()).unwrap();
    assert_eq!(saved.listing.entries.len(), 2);
    assert!(!is_believed(&home));
    assert_eq!(open(&home).count(), 2);
    // Nothing of what was removed is left in it.
    let octets = fs::read(home.path("index")).unwrap();
    assert!(!octets.windows(3).any(|octets| octets == b"2.b"));
}

#[test]
fn any_damage_to_the_index_costs_no_more_than_a_scan() {
    let home = three();
    settle(&home);
    open(&home);
    let whole = fs::read(home.path("index")).unwrap();
    for at in 0..whole.len() {
        for change in [1, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= change;
            home.write("index", &damaged);
            open(&home);
            assert_eq!(fs::read(home.path("index")).unwrap(), whole);
        }
        home.write("index", &whole[..at]);
        open(&home);
    }
}

#[test]
fn an_index_of_names_that_no_listing_has_is_thrown_away() {
    let home = three();
    for name in ["../../etc/passwd", ".hidden", "a\0b", ""] {
        let mut arena = Arena::default();
        let names = ["1.x", name, "3.x"].map(|name| {
            let octets = name.as_bytes();
            arena.store(Folder::Cur, octets).unwrap()
        });
        let facts = Facts::new(1, 1);
        let entry = |name| Entry {
            octets: 1,
            facts,
            changed: 1,
            name,
            id: 0,
        };
        let entries = names.map(entry).into();
        let index = fs::File::options()
            .read(true)
            .write(true)
            .open(home.path("index"));
        let index = Index::new(index.unwrap());
        let stamps = Stamps::of(&home.folders()).unwrap();
        saved::write(
            &index,
            &IdMap::default(),
            &Listing { arena, entries },
            0,
            Some(&stamps),
            &|_| true,
        );
        assert!(
            saved::load(&index, &crate::Limits::default()).is_none(),
            "{name}"
        );
        assert_eq!(open(&home).count(), 3);
    }
}

/// What may happen to a Maildir and its index between two looks at it.
#[derive(Clone, Debug)]
enum Event {
    Delivered(u8, usize),
    /// A session removes this message.
    Removed(u32),
    /// Another program does.
    Unlinked(usize),
    /// An IMAP server gives it flags.
    Flagged(usize, u8),
    /// Another file takes the place of a file. Its inode is another: of one that has the same number, which a file
    /// system may give again once it is free, [`where_mail_has_come_a_file_that_was_there_is_not_looked_at`] tells.
    Replaced(usize, usize),
    NoMail(u8),
    IndexCut(u64),
    IndexDamaged(u64, u8),
    /// Time passes.
    Settled,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..9_u8, 0..40_usize).prop_map(|(second, size)| Event::Delivered(second, size)),
        2 => (0..5_u32).prop_map(Event::Removed),
        1 => (0..5_usize).prop_map(Event::Unlinked),
        3 => (0..5_usize, 0..3_u8).prop_map(|(at, flags)| Event::Flagged(at, flags)),
        1 => (0..5_usize, 0..40_usize).prop_map(|(at, size)| Event::Replaced(at, size)),
        1 => (0..9_u8).prop_map(Event::NoMail),
        1 => (0..500_u64).prop_map(Event::IndexCut),
        1 => (0..500_u64, 1..255_u8).prop_map(|(at, change)| Event::IndexDamaged(at, change)),
        2 => Just(Event::Settled),
    ]
}

fn happen(home: &Home, event: &Event, number: &mut usize) {
    *number += 1;
    let files = home.files();
    let content = |size: usize| [b"S: x\n\n".as_slice(), &b"y\n".repeat(size)].concat();
    match event {
        Event::Delivered(second, size) => {
            home.write(&format!("tmp/{number}"), &content(*size));
            home.rename(&format!("tmp/{number}"), &format!("new/{second}.{number}"));
        }
        Event::Removed(index) => {
            home.open().update(&|other| other == *index).unwrap();
        }
        Event::Unlinked(at) => {
            if let Some(file) = files.get(*at) {
                let path = home.path(file);
                fs::remove_file(&path)
                    .or_else(|_| fs::remove_dir(path))
                    .unwrap();
            }
        }
        Event::Flagged(at, flags) => {
            if let Some(file) = files.get(*at) {
                let (_, name) = file.split_once('/').unwrap();
                let base = name.split(':').next().unwrap();
                let flags = ["", "S", "RS"][usize::from(*flags)];
                home.rename(file, &format!("cur/{base}:2,{flags}"));
            }
        }
        Event::Replaced(at, size) => {
            if let Some(file) = files.get(*at).filter(|file| home.path(file).is_file()) {
                home.write("tmp/other", &content(*size));
                home.rename(file, &format!("tmp/replaced.{number}"));
                home.rename("tmp/other", file);
            }
        }
        Event::NoMail(second) => {
            fs::create_dir(home.path(&format!("new/{second}.{number}"))).unwrap();
        }
        Event::IndexCut(length) => {
            let index = fs::File::options()
                .write(true)
                .open(home.path("index"))
                .unwrap();
            let length = (*length).min(index.metadata().unwrap().len());
            index.set_len(length).unwrap();
        }
        Event::IndexDamaged(at, change) => {
            let index = fs::File::options()
                .read(true)
                .write(true)
                .open(home.path("index"));
            let (index, mut octet) = (index.unwrap(), [0]);
            if index.read_exact_at(&mut octet, *at).is_ok() {
                index.write_all_at(&[octet[0] ^ change], *at).unwrap();
            }
        }
        Event::Settled => settle(home),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn whatever_happens_all_replies_are_as_without_an_index(
        events in proptest::collection::vec((event(), any::<bool>()), 1..16),
    ) {
        let home = three();
        let mut number = 100;
        for (event, looked_at) in events {
            happen(&home, &event, &mut number);
            if looked_at {
                open(&home);
            }
        }
    }
}

#[test]
fn ids_that_vanished_or_changed_are_counted() {
    let mut home = three();
    assert_eq!(home.open().drift(), None);
    let drift = |gone, changed| Some(Drift { gone, changed });
    assert_eq!(home.open().drift(), drift(0, 0));
    // New, renamed, removed.
    home.write("new/0.x", b"");
    home.rename("new/1.a", "cur/1.a:2,S");
    fs::remove_file(home.path("cur/3.c")).unwrap();
    assert_eq!(home.open().drift(), drift(1, 0));
    home.open().update(&|index| index == 0).unwrap();
    settle(&home);
    assert_eq!(home.open().drift(), drift(0, 0));
    let id = |text: &[u8]| UniqueId::new(text).unwrap();
    home.ids = IdMap::from_pairs([(id(b"1.a"), id(b"UID7"))]).unwrap();
    assert_eq!(home.open().drift(), drift(0, 1));
    assert!(is_believed(&home));
    let session = open(&home);
    assert_eq!(session.drift(), drift(0, 0));
    assert_eq!(session.unique_id(0), Some(id(b"UID7")));
}
