//! What the server keeps beside the mail: journals, indexes, and lists of deleted messages.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, chown};
use std::path::Path;
use std::time::Duration;

use maildrop::{
    Account, DatedIds, FileLock, Index, Limits, Location, Maildrop, Memory, OpenOptions, UniqueId,
    fuzz, open,
};

use super::{Target, literal};

/// A journal that is damaged is carried out or does nothing; one made of anything changes no mailbox.
pub const JOURNAL: Target = Target {
    name: "journal",
    run: fuzz::journal,
    pieces: journal,
    max_octets: 8 * 1024 + 256,
};

/// A damaged index changes no reply, nor does any other file in its place.
pub const INDEX: Target = Target {
    name: "index",
    run: index,
    pieces: indexes,
    max_octets: 1024,
};

/// A list of deleted messages that is damaged is what it was before.
pub const DELETIONS: Target = Target {
    name: "deletions",
    run: deletions,
    pieces: lists,
    max_octets: 1024,
};

fn lists() -> Vec<Vec<u8>> {
    literal(&[
        b"popa3ddl",
        b"\0",
        b"\x01",
        b"\x02\0\0\0\0\0\0\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x08\0\x01",
        b"\x30\0\xff",
    ])
}

fn journal() -> Vec<Vec<u8>> {
    let mut pieces = literal(&[
        b"p3dJrnl1",
        b"\x01",
        b"\x02",
        b"\x03",
        b"\x40",
        b"\x80",
        b"\x20\0\xff",
        b"\x21\x10\x01",
        b"\0\x20\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
    ]);
    pieces.push(vec![0; 4096]);
    pieces
}

fn indexes() -> Vec<Vec<u8>> {
    literal(&[
        b"popa3dix",
        b"\x01",
        b"\x02",
        b"\0\0\0\0\0\0\0\0",
        b"\x01\0\0\0\0\0\0\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x10\0\x01",
        b"\xc0\0\xff",
    ])
}

thread_local! {
    /// The maildrops of a thread.
    static BENCHES: RefCell<Option<[Bench; 2]>> = const { RefCell::new(None) };
    /// A list of deleted messages, what it says, and its octets.
    static LIST: List = List::new();
}

struct List {
    file: File,
    deleted: BTreeMap<UniqueId, u64>,
    octets: Vec<u8>,
}

impl List {
    fn new() -> Self {
        let file = tempfile::tempfile().expect("a file");
        let ids = [&b"a"[..], b"0123456789abcdef", &[b'~'; 70]].map(UniqueId::new);
        let deleted: BTreeMap<_, _> = ids.into_iter().flatten().zip([0, 1, u64::MAX]).collect();
        let mut list = DatedIds::read(file.try_clone().expect("the file"));
        let before = deleted.keys().map(|id| (*id, 7)).take(1).collect();
        list.replace(before).expect("room");
        // The second time it is written at the beginning.
        list.replace(deleted.clone()).expect("room");
        let mut octets = vec![0; 48 + 3 * 96];
        file.read_exact_at(&mut octets, 0).expect("the list");
        List {
            file,
            deleted,
            octets,
        }
    }
}

/// What is read can be written again. The first octet chooses whether what follows is the list, or what it is damaged by: where,
/// in two octets, and how.
fn deletions(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else {
        return;
    };
    let is_damaged = choice & 1 == 0;
    LIST.with(|list| {
        let mut octets = list.octets.clone();
        if is_damaged {
            for &[low, high, change] in rest.as_chunks::<3>().0 {
                let at = usize::from(u16::from_le_bytes([low, high])) % octets.len();
                octets[at] ^= change;
            }
        } else {
            octets = rest.to_vec();
            octets.resize(1024, 0);
        }
        list.file.write_all_at(&octets, 0).expect("room");
        let read = DatedIds::read(list.file.try_clone().expect("the file"));
        if octets == list.octets {
            assert_eq!(*read.ids(), list.deleted);
        } else if is_damaged {
            assert!(read.ids().values().eq([&7]));
        }
        let mut copy = DatedIds::read(tempfile::tempfile().expect("a file"));
        copy.replace(read.ids().clone()).expect("room");
        assert_eq!(copy.ids(), read.ids());
    });
}

/// The first octet chooses the kind of maildrop, and whether what follows is the index or what it is damaged by: where, in
/// two octets, and how.
fn index(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else {
        return;
    };
    BENCHES.with_borrow_mut(|benches| {
        let benches = benches.get_or_insert_with(|| [Bench::mbox(), Bench::maildir()]);
        benches[usize::from(choice & 1)].same_replies(choice & 2 != 0, rest);
    });
}

/// All that a client can learn from a message: octets, unique-id, text.
type Replies = Vec<(Option<u64>, Option<String>, Vec<u8>)>;

/// A maildrop, its index, and what it replies without one.
struct Bench {
    directory: tempfile::TempDir,
    location: String,
    index: Vec<u8>,
    replies: Replies,
}

impl Bench {
    fn mbox() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("box");
        let text: String = (0..5)
            .map(|number| format!("From x\nDate: {number}\n\n{}\n\n", "x".repeat(number * 30)))
            .collect();
        fs::write(&path, text).expect("a mailbox");
        own(&path);
        let location = format!("mbox:{}", path.display());
        Self::of(directory, location)
    }

    fn maildir() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["new", "cur", "tmp"] {
            let path = directory.path().join(name);
            fs::create_dir(&path).expect("a Maildir");
            own(&path);
        }
        for number in 0..5 {
            let path = directory.path().join(format!("new/1700.M{number}.x"));
            fs::write(&path, format!("Date: {number}\n\nx\n")).expect("a message");
            own(&path);
        }
        own(directory.path());
        let location = format!("maildir:{}", directory.path().display());
        Self::of(directory, location)
    }

    /// Opens it until the index says all there is to say: what has just changed is not believed yet.
    fn of(directory: tempfile::TempDir, location: String) -> Self {
        let mut bench = Bench {
            replies: replies(&location, None),
            index: Vec::new(),
            location,
            directory,
        };
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(15));
            let path = bench.write(&bench.index);
            assert_eq!(replies(&bench.location, Some(&path)), bench.replies);
            bench.index = fs::read(path).expect("the index");
        }
        assert!(!bench.index.is_empty());
        bench
    }

    fn write(&self, index: &[u8]) -> std::path::PathBuf {
        let path = self.directory.path().join("index");
        fs::write(&path, index).expect("the index");
        path
    }

    fn same_replies(&self, is_whole: bool, rest: &[u8]) {
        let mut index = match is_whole {
            true => rest.to_vec(),
            false => self.index.clone(),
        };
        if !is_whole {
            for &[low, high, change] in rest.as_chunks::<3>().0 {
                let at = usize::from(u16::from_le_bytes([low, high])) % index.len();
                index[at] ^= change;
            }
        }
        let path = self.write(&index);
        assert_eq!(replies(&self.location, Some(&path)), self.replies);
    }
}

/// Whose the maildrops are: root's are refused.
fn owner() -> u32 {
    match rustix::process::geteuid() {
        user if user.is_root() => 12_345,
        user => user.as_raw(),
    }
}

fn own(path: &Path) {
    chown(path, Some(owner()), None).expect("an owner");
}

fn replies(location: &str, index: Option<&Path>) -> Replies {
    let account = Account {
        name: "nobody",
        home: "/",
    };
    let location = Location::parse(location).expect("a location");
    let location = location.expand(&account).expect("a location");
    let options = OpenOptions {
        owner: owner(),
        dotlock: false,
    };
    let limits = Limits {
        lock_wait: Duration::ZERO,
        ..Limits::default()
    };
    let index = index.map(|path| {
        let file = File::options().read(true).write(true).open(path);
        Index::new(file.expect("the index"))
    });
    let memory = Memory {
        index,
        ..Memory::default()
    };
    let opened = open(&location, &options).expect("a maildrop");
    let opened = opened.with_memory(memory);
    let mut maildrop = opened
        .lock_and_scan(&limits, Box::new(NoLock))
        .expect("a maildrop");
    (0..maildrop.count())
        .map(|index| reply(maildrop.as_mut(), index))
        .collect()
}

fn reply(maildrop: &mut dyn Maildrop, index: u32) -> (Option<u64>, Option<String>, Vec<u8>) {
    let mut text = vec![0; 4096];
    let octets = maildrop.octets(index);
    let id = maildrop.unique_id(index).map(|id| id.to_string());
    let length = maildrop.read(index, 0, &mut text).expect("the message");
    text.truncate(length);
    (octets, id, text)
}

/// Nobody else has it.
struct NoLock;

impl FileLock for NoLock {
    fn try_lock_exclusive(&self, _: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(true)
    }

    fn unlock(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }
}
