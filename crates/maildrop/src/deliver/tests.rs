//! Delivery, seen by the readers of this crate.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use super::*;
use crate::testing::Flock;
use crate::{Account, Class, Limits, Location, Maildrop};

/// Octets, handed out in pieces; after `fails_after` pieces there are no more to be had.
struct Octets {
    octets: Vec<u8>,
    fails_after: usize,
}

impl Octets {
    fn new(octets: impl Into<Vec<u8>>) -> Self {
        Octets {
            octets: octets.into(),
            fails_after: usize::MAX,
        }
    }
}

impl Letter for Octets {
    fn octets(&self) -> u64 {
        self.octets.len() as u64
    }

    fn replay(&mut self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        for (number, piece) in self.octets.chunks(7).enumerate() {
            if number == self.fails_after {
                return Err(io::ErrorKind::StorageFull.into());
            }
            take(piece)?;
        }
        Ok(())
    }
}

/// A directory with a maildrop in it, or none yet.
struct Place {
    directory: tempfile::TempDir,
    template: String,
}

impl Place {
    fn new(template: &str) -> Self {
        Place {
            directory: tempfile::tempdir().unwrap(),
            template: template.to_owned(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn location(&self) -> Expanded {
        let account = Account {
            name: "joe",
            home: self.directory.path().to_str().unwrap(),
        };
        Location::parse(&self.template)
            .unwrap()
            .expand(&account)
            .unwrap()
    }

    fn options(&self) -> OpenOptions {
        OpenOptions {
            owner: owner(),
            dotlock: true,
        }
    }

    fn deliver(&self, letter: &mut dyn Letter) -> Result<(), OpenError> {
        let wait = Duration::ZERO;
        super::deliver(
            &self.location(),
            &self.options(),
            wait,
            Box::new(Flock),
            letter,
        )
    }

    fn open(&self) -> Box<dyn Maildrop> {
        crate::open(&self.location(), &self.options())
            .unwrap()
            .lock_and_scan(&Limits::default(), Box::new(Flock))
            .unwrap()
    }

    /// The messages, as they are stored.
    fn messages(&self) -> Vec<String> {
        let mut maildrop = self.open();
        let count = maildrop.count();
        let read = |index| {
            let mut octets = vec![0; 4096];
            let length = maildrop.read(index, 0, &mut octets).unwrap();
            octets.truncate(length);
            String::from_utf8(octets).unwrap()
        };
        (0..count).map(read).collect()
    }
}

fn owner() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Runs a test in a process that is not root, whose mail is refused.
macro_rules! not_root {
    () => {
        if owner() == 0 {
            return as_somebody_else();
        }
    };
}

/// The same tests, in a process of an ordinary user.
fn as_somebody_else() {
    use std::os::unix::process::CommandExt;
    let thread = std::thread::current();
    let scratch = tempfile::tempdir().unwrap();
    // The test program may lie where other users cannot look. Copied by another process: a file open for writing here may be
    // so in a child of another thread yet when it is to be run (ETXTBSY).
    let program = scratch.path().join("tests");
    let mut copy = std::process::Command::new("cp");
    let copy = copy.arg(std::env::current_exe().unwrap()).arg(&program);
    assert!(copy.status().unwrap().success());
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let output = std::process::Command::new(program)
        .args(["--exact", thread.name().unwrap()])
        .env("TMPDIR", scratch.path())
        .uid(12_345)
        .gid(12_345)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

const FIRST: &str = "From a Thu Jan  1 00:00:00 1970\nSubject: a\n\none\n\n";
const SECOND: &str = "From b Thu Jan  1 00:00:00 1970\nSubject: b\n\n>From two\n\n";

#[test]
fn an_mbox_is_made_and_appended_to() {
    not_root!();
    let place = Place::new("mbox:%h/box");
    place.deliver(&mut Octets::new(FIRST)).unwrap();
    place.deliver(&mut Octets::new(SECOND)).unwrap();
    let path = place.path("box");
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        FIRST.to_owned() + SECOND
    );
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert!(!place.path("box.lock").exists());
    assert_eq!(
        place.messages(),
        ["Subject: a\n\none\n", "Subject: b\n\n>From two\n"]
    );
}

#[test]
fn whatever_an_mbox_ends_with_the_message_is_one_of_its_own() {
    not_root!();
    for (ending, gap) in [("\n\n", ""), ("x\n", "\n"), ("x", "\n\n"), ("F", "\n\n")] {
        let place = Place::new("mbox:%h/box");
        let before = format!("From a\nSubject: a\n\none\n{ending}");
        fs::write(place.path("box"), &before).unwrap();
        place.deliver(&mut Octets::new(SECOND)).unwrap();
        let after = fs::read_to_string(place.path("box")).unwrap();
        assert_eq!(after, format!("{before}{gap}{SECOND}"));
        let messages = place.messages();
        assert_eq!(messages.len(), 2, "{after:?}");
        assert_eq!(messages[1], "Subject: b\n\n>From two\n");
    }
}

#[test]
fn what_is_no_mbox_is_left_alone() {
    not_root!();
    let place = Place::new("mbox:%h/box");
    fs::write(place.path("box"), "PK\u{3}\u{4}").unwrap();
    let error = place.deliver(&mut Octets::new(FIRST)).unwrap_err();
    assert!(matches!(error.problem, Problem::NotMbox), "{error}");
    assert_eq!(error.class(), Class::Permanent);
    assert_eq!(fs::read(place.path("box")).unwrap(), b"PK\x03\x04");
}

#[test]
fn a_link_is_not_followed() {
    not_root!();
    let place = Place::new("mbox:%h/box");
    symlink(place.path("other"), place.path("box")).unwrap();
    let error = place.deliver(&mut Octets::new(FIRST)).unwrap_err();
    assert!(matches!(error.problem, Problem::Symlink), "{error}");
    assert!(!place.path("other").exists());
    let place = Place::new("maildir:%h/Maildir");
    fs::create_dir(place.path("other")).unwrap();
    symlink(place.path("other"), place.path("Maildir")).unwrap();
    assert!(place.deliver(&mut Octets::new(FIRST)).is_err());
    assert_eq!(fs::read_dir(place.path("other")).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_written_whole_leaves_an_mbox_as_it_was() {
    not_root!();
    let place = Place::new("mbox:%h/box");
    let before = "From a\nSubject: a\n\none\n";
    fs::write(place.path("box"), before).unwrap();
    for pieces in 0..SECOND.len() / 7 {
        let mut letter = Octets {
            fails_after: pieces,
            ..Octets::new(SECOND)
        };
        let error = place.deliver(&mut letter).unwrap_err();
        assert_eq!(error.class(), Class::Temporary, "{error}");
        assert_eq!(fs::read_to_string(place.path("box")).unwrap(), before);
    }
    assert!(!place.path("box.lock").exists());
}

#[test]
fn locks_of_others_are_waited_for_and_named() {
    not_root!();
    let place = Place::new("mbox:%h/box");
    place.deliver(&mut Octets::new(FIRST)).unwrap();
    let file = File::open(place.path("box")).unwrap();
    assert!(Flock.try_lock_exclusive(file.as_fd()).unwrap());
    let error = place.deliver(&mut Octets::new(SECOND)).unwrap_err();
    assert_eq!(error.class(), Class::InUse, "{error}");
    drop(file);
    fs::write(place.path("box.lock"), "1").unwrap();
    let error = place.deliver(&mut Octets::new(SECOND)).unwrap_err();
    assert_eq!(error.class(), Class::InUse, "{error}");
    fs::remove_file(place.path("box.lock")).unwrap();
    place.deliver(&mut Octets::new(SECOND)).unwrap();
    assert_eq!(place.messages().len(), 2);
}

#[test]
fn a_maildir_is_made_and_its_files_name_their_octets() {
    not_root!();
    let place = Place::new("maildir:%h/mail/Maildir");
    let message = "Subject: a\n\nFrom one\n";
    place.deliver(&mut Octets::new(message)).unwrap();
    place.deliver(&mut Octets::new("Subject: b\n\n")).unwrap();
    let mut messages = place.messages();
    messages.sort();
    assert_eq!(messages, [message, "Subject: b\n\n"]);
    let maildir = place.path("mail/Maildir");
    for name in ["tmp", "new", "cur"] {
        let mode = fs::metadata(maildir.join(name)).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o700);
    }
    assert_eq!(fs::read_dir(maildir.join("tmp")).unwrap().count(), 0);
    for entry in fs::read_dir(maildir.join("new")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let octets = entry.metadata().unwrap().len();
        assert!(name.ends_with(&format!(",S={octets}")), "{name}");
        assert_eq!(entry.metadata().unwrap().mode() & 0o7777, 0o600);
    }
}

#[test]
fn what_cannot_be_written_whole_leaves_nothing_in_a_maildir() {
    not_root!();
    let place = Place::new("maildir:%h/Maildir");
    let mut letter = Octets {
        fails_after: 2,
        ..Octets::new(FIRST)
    };
    assert!(place.deliver(&mut letter).is_err());
    for name in ["tmp", "new", "cur"] {
        let directory = place.path("Maildir").join(name);
        assert_eq!(fs::read_dir(directory).unwrap().count(), 0, "{name}");
    }
}
