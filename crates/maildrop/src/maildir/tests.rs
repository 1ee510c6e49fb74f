use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::PathBuf;

use super::*;
use crate::Remains;
use crate::testing::{impatient, wire};

/// A Maildir in a directory of its own.
pub(super) struct Home {
    pub(super) directory: tempfile::TempDir,
    /// Ids that come from elsewhere.
    pub(super) ids: IdMap,
}

impl Home {
    pub(super) fn new(files: &[(&str, &[u8])]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Home {
            directory,
            ids: IdMap::default(),
        };
        for folder in ["new", "cur", "tmp"] {
            fs::create_dir(home.path(folder)).unwrap();
        }
        for (name, content) in files {
            home.write(name, content);
        }
        home
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(super) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    pub(super) fn folders(&self) -> Folders {
        let open = |name| fs::File::open(self.path(name)).unwrap().into();
        Folders::new(open("new"), open("cur"))
    }

    fn scan(&self, limits: &Limits) -> Result<Maildir, Problem> {
        Maildir::scan(self.folders(), limits, self.memory())
    }

    /// With the index, if [`Home::indexed`] has made one.
    fn memory(&self) -> Memory {
        let index = File::options()
            .read(true)
            .write(true)
            .open(self.path("index"));
        Memory {
            index: index.ok().map(Index::new),
            ids: self.ids.clone(),
            ..Memory::default()
        }
    }

    /// With an index, which is empty at first.
    pub(super) fn indexed(self) -> Self {
        self.write("index", b"");
        self
    }

    pub(super) fn open(&self) -> Box<Maildir> {
        Box::new(self.scan(&impatient()).unwrap())
    }

    /// Names of all files in `new` and `cur`, sorted.
    pub(super) fn files(&self) -> Vec<String> {
        let mut names = Vec::new();
        for folder in ["new", "cur"] {
            for entry in fs::read_dir(self.path(folder)).unwrap() {
                names.push(format!(
                    "{folder}/{}",
                    entry.unwrap().file_name().to_str().unwrap()
                ));
            }
        }
        names.sort();
        names
    }
}

fn ids(maildir: &Maildir) -> Vec<String> {
    (0..maildir.count())
        .map(|index| maildir.unique_id(index).unwrap().to_string())
        .collect()
}

fn content(maildir: &mut Maildir, index: u32) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut buffer = [0; 5];
    loop {
        match maildir.read(index, content.len() as u64, &mut buffer)? {
            0 => return Ok(content),
            length => content.extend_from_slice(&buffer[..length]),
        }
    }
}

#[test]
fn both_folders_are_read_in_order_of_delivery() {
    let messages: [&[u8]; 5] = [
        b"S: 1\n\nbody\n.\n",
        b"",
        b"S: 3\r\n\r\n\0\xff\r",
        b"S: 4",
        b"\n\n",
    ];
    let home = Home::new(&[
        ("cur/2.b:2,S", messages[1]),
        ("new/10.a", messages[3]),
        ("new/1.z", messages[0]),
        ("cur/11.a:2,", messages[4]),
        ("cur/2.c", messages[2]),
        ("tmp/0.a", b"not delivered"),
        ("cur/.hidden", b"no mail"),
    ]);
    let mut maildir = home.open();
    assert_eq!(ids(&maildir), ["1.z", "2.b", "2.c", "10.a", "11.a"]);
    for (index, message) in (0..).zip(messages) {
        assert_eq!(content(&mut maildir, index).unwrap(), message);
        assert_eq!(maildir.octets(index), Some(wire(message).len() as u64));
    }
    assert_eq!((maildir.octets(5), maildir.unique_id(5)), (None, None));
    assert!(maildir.check().is_ok());
    assert_eq!(maildir.skipped(), 0);
}

#[test]
fn a_message_was_delivered_when_it_was_written_whatever_became_of_its_name() {
    let site = Home::new(&[("new/1.a.x", b"A: b\n\n"), ("new/2.b.x", b"A: c\n\n")]).indexed();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_007);
    let file = File::options().write(true).open(site.path("new/1.a.x"));
    file.unwrap().set_modified(time).unwrap();
    let delivered = || site.open().delivered(0);
    assert_eq!(delivered(), Some(1_000_000_007));
    site.rename("new/1.a.x", "cur/1.a.x:2,S");
    assert_eq!([delivered(), delivered()], [Some(1_000_000_007); 2]);
    assert!(site.open().delivered(1) > Some(1_700_000_000));
    assert_eq!(site.open().delivered(2), None);
}

#[test]
fn sizes_in_names_are_not_believed() {
    let home = Home::new(&[("cur/1.a,S=1000,W=2000:2,", b"S: 1\n\n")]);
    assert_eq!(home.open().octets(0), Some(8));
}

#[test]
fn a_session_without_update_leaves_no_trace() {
    let home = Home::new(&[("new/1.a", b"a"), ("cur/2.b:2,S", b"b")]);
    let before = home.files();
    let mut maildir = home.open();
    content(&mut maildir, 0).unwrap();
    drop(maildir);
    assert_eq!(home.files(), before);
}

#[test]
fn what_is_no_readable_mail_is_passed_over() {
    let home = Home::new(&[("new/1.a", b"a"), ("secret", b"another's mail")]);
    symlink(home.path("secret"), home.path("new/2.link")).unwrap();
    symlink("1.a", home.path("new/3.link")).unwrap();
    fs::create_dir(home.path("cur/4.directory")).unwrap();
    let fifo = std::process::Command::new("mkfifo")
        .arg(home.path("new/5.fifo"))
        .status();
    assert!(fifo.unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(home.path("new/6.socket")).unwrap();
    let maildir = home.open();
    assert_eq!(ids(&maildir), ["1.a"]);
    assert_eq!(maildir.skipped(), 5);
    assert_eq!(maildir.update(&|_| true).unwrap().removed, 1);
    assert_eq!(home.files().len(), 5);
    assert!(home.path("secret").exists());
}

#[test]
fn renamed_messages_are_read_under_their_new_names() {
    let home = Home::new(&[
        ("new/1.a", b"first"),
        ("cur/2.b:2,", b"second"),
        ("new/3.c", b"third"),
    ]);
    let mut maildir = home.open();
    home.rename("new/1.a", "cur/1.a:2,S");
    home.rename("cur/2.b:2,", "cur/2.b:2,FS");
    assert_eq!(content(&mut maildir, 0).unwrap(), b"first");
    assert_eq!(content(&mut maildir, 1).unwrap(), b"second");
    assert_eq!(content(&mut maildir, 2).unwrap(), b"third");
    home.rename("new/3.c", "cur/3.c:2,T");
    assert_eq!(content(&mut maildir, 2).unwrap(), b"third");
}

#[test]
fn a_message_gone_or_replaced_cannot_be_read() {
    let home = Home::new(&[("new/1.a", b"first"), ("cur/2.b:2,", b"second")]);
    let mut maildir = home.open();
    fs::remove_file(home.path("new/1.a")).unwrap();
    home.write("cur/2.b:2,", b"something longer");
    let kind = |error: io::Error| error.kind();
    assert_eq!(
        content(&mut maildir, 0).map_err(kind),
        Err(io::ErrorKind::NotFound)
    );
    assert_eq!(
        content(&mut maildir, 1).map_err(kind),
        Err(io::ErrorKind::InvalidData)
    );
    assert_eq!(
        content(&mut maildir, 2).map_err(kind),
        Err(io::ErrorKind::NotFound)
    );
}

#[test]
fn a_message_cut_short_while_it_is_read_is_an_error() {
    let home = Home::new(&[("new/1.a", b"0123456789")]);
    let mut maildir = home.open();
    assert_eq!(maildir.read(0, 0, &mut [0; 5]).unwrap(), 5);
    fs::write(home.path("new/1.a"), b"").unwrap();
    let error = maildir.read(0, 5, &mut [0; 5]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

/// What an IMAP server may do to one of three messages during the session, and what UPDATE leaves of it.
#[test]
fn update_removes_the_deleted_messages_wherever_they_went() {
    let names = ["new/1.a", "cur/2.b:2,", "cur/3.c:2,S"];
    let renamed = ["cur/1.a:2,", "cur/2.b:2,FS", "new/3.c"];
    for deleted in 0_u32..8 {
        for moved in 0_u32..8 {
            for gone in 0_u32..8 {
                let home = Home::new(&[]);
                names.iter().for_each(|name| home.write(name, b"x"));
                let maildir = home.open();
                home.write("new/4.late", b"late");
                let mut expected = vec!["new/4.late"];
                for at in 0..3 {
                    let has = |set: u32| set & (1 << at) != 0;
                    if has(gone) {
                        fs::remove_file(home.path(names[at])).unwrap();
                    } else if has(moved) {
                        home.rename(names[at], renamed[at]);
                    }
                    if !has(gone) && !has(deleted) {
                        expected.push(if has(moved) { renamed[at] } else { names[at] });
                    }
                }
                expected.sort_unstable();
                let summary = maildir
                    .update(&|index| deleted & (1 << index) != 0)
                    .unwrap();
                assert_eq!(summary.removed, deleted.count_ones());
                assert_eq!(summary.octets, u64::from(deleted.count_ones()) * 5);
                assert_eq!(home.files(), expected, "{deleted:b} {moved:b} {gone:b}");
            }
        }
    }
}

#[test]
fn what_was_removed_stays_open_where_that_leaves_nothing_behind() {
    let home = Home::new(&[("new/1.a", b"first"), ("cur/2.b:2,S", b"second")]);
    let folders = home.folders();
    let can_remain = Remains::can_be_of(folders.descriptors()[0]);
    let summary = home.open().update(&|index| index == 1).unwrap();
    assert_eq!(home.files(), ["new/1.a"]);
    assert_eq!(summary.remains.len(), usize::from(can_remain));
    // It has no name, in a network's file system either.
    assert_eq!(fs::read_dir(home.path("cur")).unwrap().count(), 0);
}

#[test]
fn a_message_replaced_during_the_session_is_not_removed() {
    let home = Home::new(&[
        ("new/1.a", b"first"),
        ("new/2.b", b"second"),
        ("new/3.c", b"third"),
    ]);
    let maildir = home.open();
    home.write("new/1.a", b"something longer");
    fs::remove_file(home.path("new/2.b")).unwrap();
    home.write("cur/2.b:2,S", b"something else");
    match maildir.update(&|_| true) {
        Err(UpdateError::Partial {
            removed: 1,
            left: 2,
            error,
        }) => {
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(home.files(), ["cur/2.b:2,S", "new/1.a"]);
}

#[test]
fn thousands_of_renames_cost_one_listing_more() {
    let home = Home::new(&[]);
    let name = |number: u32| format!("{}.x", 1000 + number);
    (0..3000).for_each(|number| home.write(&format!("new/{}", name(number)), b""));
    let maildir = home.open();
    for number in 0..3000 {
        home.rename(
            &format!("new/{}", name(number)),
            &format!("cur/{}:2,S", name(number)),
        );
    }
    assert_eq!(maildir.update(&|_| true).unwrap().removed, 3000);
    assert!(home.files().is_empty());
}

#[test]
fn messages_renamed_since_they_were_listed_are_found() {
    let home = Home::new(&[("cur/1.a:2,S", b"first"), ("cur/2.b:2,", b"second")]);
    let folders = home.folders();
    let mut arena = Arena::default();
    // A listing made while 1.a was still in `new`, and 3.c still there.
    let listed = [
        (Folder::New, "1.a"),
        (Folder::Cur, "2.b:2,"),
        (Folder::Cur, "3.c:2,"),
    ]
    .map(|(folder, name)| arena.store(folder, name.as_bytes()).unwrap());
    let mut finder = Finder::new();
    let names = listed.map(|name| {
        let located = scan::locate(&folders, &mut finder, &mut arena, name).unwrap();
        located.map(|(name, _)| (name.folder, arena.name(name).to_vec()))
    });
    let expected = [
        Some((Folder::Cur, b"1.a:2,S".to_vec())),
        Some((Folder::Cur, b"2.b:2,".to_vec())),
        None,
    ];
    assert_eq!(names, expected);
}

#[test]
fn one_file_listed_twice_is_one_message_and_two_files_are_two() {
    let home = Home::new(&[("new/1.a", b"one"), ("new/2.b", b"two")]);
    fs::hard_link(home.path("new/1.a"), home.path("cur/1.a:2,")).unwrap();
    home.write("cur/2.b:2,", b"another two");
    let maildir = home.open();
    let ids = ids(&maildir);
    assert_eq!(ids.len(), 3);
    assert_eq!(ids[..2], ["1.a", "2.b"]);
    assert!(ids[2].starts_with('~'));
}

#[test]
fn a_maildir_beyond_the_limits_is_refused() {
    let home = Home::new(&[("new/1.a", b"12345"), ("cur/2.b", b"67890")]);
    let with = |messages, octets| {
        home.scan(&Limits {
            messages,
            octets,
            ..impatient()
        })
    };
    assert!(with(2, 10).is_ok());
    assert!(matches!(with(1, 10), Err(Problem::TooManyMessages(1))));
    assert!(matches!(
        with(2, 9),
        Err(Problem::TooManyOctets {
            found: 10,
            limit: 9
        })
    ));
}

#[test]
fn a_message_of_more_than_four_gib_can_be_read_to_its_end() {
    let home = Home::new(&[]);
    let file = fs::File::create(home.path("new/1.a")).unwrap();
    let size = 5 << 30;
    file.write_all_at(b"end\n", size - 4).unwrap();
    let stat = rustix::fs::fstat(&file).unwrap();
    let folders = home.folders();
    let mut arena = Arena::default();
    let name = arena.store(Folder::New, b"1.a").unwrap();
    let facts = Facts::of(&stat).unwrap();
    let entry = Entry {
        octets: size + 1,
        facts,
        changed: 0,
        name,
        id: 0,
    };
    let mut maildir = Maildir {
        folders,
        listing: Listing {
            arena,
            entries: vec![entry],
        },
        skipped: 0,
        finder: Finder::new(),
        memory: Memory::default(),
        drift: None,
        open: None,
    };
    let mut read = [0; 16];
    assert_eq!(maildir.read(0, size - 8, &mut read).unwrap(), 8);
    assert_eq!(&read[..8], b"\0\0\0\0end\n");
    assert_eq!(maildir.read(0, size, &mut read).unwrap(), 0);
}

#[test]
fn a_file_larger_than_could_be_read_is_refused_before_it_is_read() {
    let home = Home::new(&[]);
    let file = fs::File::create(home.path("new/1.a")).unwrap();
    file.set_len(2 << 40).unwrap();
    assert!(matches!(
        home.scan(&impatient()),
        Err(Problem::TooManyOctets { .. })
    ));
}

#[test]
fn reading_thousands_of_renamed_messages_costs_one_listing_more() {
    let home = Home::new(&[]);
    let name = |number: u32| format!("{}.x", 1000 + number);
    (0..2000).for_each(|number| home.write(&format!("new/{}", name(number)), b"text"));
    let mut maildir = home.open();
    for number in 0..2000 {
        home.rename(
            &format!("new/{}", name(number)),
            &format!("cur/{}:2,S", name(number)),
        );
    }
    assert!((0..2000).all(|index| content(&mut maildir, index).unwrap() == b"text"));
}
