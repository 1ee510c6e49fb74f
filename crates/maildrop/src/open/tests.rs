use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;

use super::*;
use crate::testing::{Flock, impatient};
use crate::{Account, Class, Location};

/// The uid that maildrops in these tests belong to. Nobody by that number need exist.
const OWNER: u32 = 54_321;

/// A spool and a home directory under a directory of their own. Everything here belongs to root, as the tests run as root;
/// what is to be a user's own is given to [`OWNER`].
struct Machine {
    directory: tempfile::TempDir,
}

impl Machine {
    /// `None`, with a note, where the tests do not run as root and so cannot give files away.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root to make files of other owners");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("spool")).unwrap();
        Some(Machine { directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn own(&self, name: &str) {
        chown(self.path(name), Some(OWNER), None).unwrap();
    }

    fn mailbox(&self, name: &str) {
        fs::write(self.path(name), "From a\n\na\n").unwrap();
        self.own(name);
    }

    fn maildir(&self, name: &str) {
        for folder in ["", "/new", "/cur"] {
            let name = format!("{name}{folder}");
            fs::create_dir(self.path(&name)).unwrap();
            self.own(&name);
        }
    }

    fn open_as(&self, location: &str, options: &OpenOptions) -> Result<Opened, OpenError> {
        let home = self.directory.path().to_str().unwrap();
        let account = Account { name: "joe", home };
        let location = Location::parse(location).unwrap();
        open(&location.expand(&account).unwrap(), options)
    }

    fn open(&self, location: &str) -> Result<Opened, OpenError> {
        let options = OpenOptions {
            owner: OWNER,
            dotlock: false,
        };
        self.open_as(location, &options)
    }

    fn problem(&self, location: &str) -> Problem {
        self.open(location).unwrap_err().problem
    }

    fn count(&self, location: &str) -> u32 {
        let opened = self.open(location).unwrap();
        opened
            .lock_and_scan(&impatient(), Box::new(Flock))
            .unwrap()
            .count()
    }
}

#[test]
fn an_owned_mailbox_is_opened_whatever_its_group_may_do() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.mailbox("spool/joe");
    fs::set_permissions(machine.path("spool/joe"), fs::Permissions::from_mode(0o660)).unwrap();
    assert_eq!(machine.count("mbox:%h/spool/joe"), 1);
    let opened = machine.open("mbox:%h/spool/joe").unwrap();
    let accesses: Vec<Access> = opened.descriptors().iter().map(|d| d.access).collect();
    assert_eq!(accesses, [Access::Mailbox]);
}

#[test]
fn where_nothing_is_the_maildrop_is_empty_and_nothing_is_made() {
    let Some(machine) = Machine::new() else {
        return;
    };
    for location in [
        "mbox:%h/spool/joe",
        "mbox:%h/none/joe",
        "maildir:%h/Maildir",
    ] {
        assert_eq!(machine.count(location), 0, "{location}");
        assert!(machine.open(location).unwrap().descriptors().is_empty());
    }
    assert_eq!(fs::read_dir(machine.path("spool")).unwrap().count(), 0);
    assert!(!machine.path("none").exists() && !machine.path("Maildir").exists());
}

#[test]
fn a_base_that_is_missing_is_no_empty_maildrop() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let base = machine.path("none");
    let location = format!("mbox:{}/%u", base.display());
    let error = machine.open(&location).unwrap_err();
    assert_eq!(error.path, base);
    assert_eq!(error.class(), Class::Temporary);
    assert!(matches!(error.problem, Problem::BaseMissing(_)));
}

#[test]
fn links_are_followed_in_the_base_and_nowhere_else() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.mailbox("spool/real");
    machine.mailbox("spool/joe");
    symlink("spool", machine.path("linked")).unwrap();
    symlink("real", machine.path("spool/link")).unwrap();
    symlink("nowhere", machine.path("spool/dangling")).unwrap();
    let base = format!("mbox:{}/%u", machine.path("linked").display());
    assert_eq!(machine.count(&base), 1);
    for name in ["spool/link", "spool/dangling", "linked/real"] {
        let problem = machine.problem(&format!("mbox:%h/{name}"));
        assert!(matches!(problem, Problem::Symlink), "{name}: {problem:?}");
    }
}

#[test]
fn links_to_a_maildir_or_its_folders_are_not_followed() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.maildir("real");
    symlink("real", machine.path("link")).unwrap();
    assert!(matches!(
        machine.problem("maildir:%h/link"),
        Problem::Symlink
    ));
    machine.maildir("joe");
    fs::remove_dir(machine.path("joe/cur")).unwrap();
    symlink("../real/cur", machine.path("joe/cur")).unwrap();
    assert!(matches!(
        machine.problem("maildir:%h/joe"),
        Problem::Symlink
    ));
    assert_eq!(machine.count("maildir:%h/real"), 0);
}

#[test]
fn a_mailbox_of_another_owner_is_refused() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.mailbox("spool/joe");
    chown(machine.path("spool/joe"), Some(OWNER + 1), None).unwrap();
    let problem = machine.problem("mbox:%h/spool/joe");
    let found = OWNER + 1;
    assert!(matches!(problem, Problem::Owner { expected: OWNER, found: f } if f == found));
    chown(machine.path("spool/joe"), Some(0), None).unwrap();
    assert!(matches!(
        machine.problem("mbox:%h/spool/joe"),
        Problem::RootOwned
    ));
    let options = OpenOptions {
        owner: 0,
        dotlock: false,
    };
    let root = machine.open_as("mbox:%h/spool/joe", &options).unwrap_err();
    assert!(matches!(root.problem, Problem::RootOwned));
}

#[test]
fn a_mailbox_with_another_name_is_refused() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.mailbox("spool/joe");
    fs::hard_link(machine.path("spool/joe"), machine.path("spool/other")).unwrap();
    assert!(matches!(
        machine.problem("mbox:%h/spool/joe"),
        Problem::Links(2)
    ));
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let made = |program: &str, arguments: &[&str]| {
        let arguments = arguments
            .iter()
            .map(|argument| match argument.strip_prefix("./") {
                Some(name) => machine.path(name).into_os_string(),
                None => argument.into(),
            });
        assert!(
            Command::new(program)
                .args(arguments)
                .status()
                .unwrap()
                .success()
        );
    };
    made("mkfifo", &["./spool/fifo"]);
    made("mknod", &["./spool/device", "c", "1", "3"]);
    fs::create_dir(machine.path("spool/directory")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(machine.path("spool/socket")).unwrap();
    for name in ["fifo", "device", "directory", "socket"] {
        machine.own(&format!("spool/{name}"));
        let error = machine.open(&format!("mbox:%h/spool/{name}")).unwrap_err();
        assert!(matches!(error.problem, Problem::WrongKind(_)), "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(!error.for_client().contains(name), "{error}");
    }
    machine.mailbox("spool/file");
    assert!(matches!(
        machine.problem("mbox:%h/spool/file/joe"),
        Problem::WrongKind(_)
    ));
    assert!(matches!(
        machine.problem("maildir:%h/spool/file"),
        Problem::WrongKind(_)
    ));
}

#[test]
fn a_maildir_lacks_nothing_and_belongs_to_its_user_alone() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.maildir("joe");
    let opened = machine.open("maildir:%h/joe").unwrap();
    let accesses: Vec<Access> = opened.descriptors().iter().map(|d| d.access).collect();
    assert_eq!(accesses, [Access::Folder, Access::Folder]);

    let mode = |name: &str, mode| {
        fs::set_permissions(machine.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in ["joe", "joe/new", "joe/cur"] {
        mode(name, 0o775);
        assert!(machine.open("maildir:%h/joe").is_ok());
        mode(name, 0o777);
        assert!(matches!(
            machine.problem("maildir:%h/joe"),
            Problem::WorldWritable
        ));
        mode(name, 0o700);
        chown(machine.path(name), Some(OWNER + 1), None).unwrap();
        assert!(matches!(
            machine.problem("maildir:%h/joe"),
            Problem::Owner { .. }
        ));
        machine.own(name);
    }
    for name in ["new", "cur"] {
        let path = machine.path("joe").join(name);
        fs::remove_dir(&path).unwrap();
        assert!(matches!(machine.problem("maildir:%h/joe"), Problem::NotMaildir(n) if n == name));
        fs::create_dir(&path).unwrap();
        chown(&path, Some(OWNER), None).unwrap();
    }
    assert_eq!(machine.count("maildir:%h/joe"), 0);
}

#[test]
fn a_home_directory_can_itself_be_the_maildir() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.maildir("joe");
    let home = machine.path("joe");
    let account = Account {
        name: "joe",
        home: home.to_str().unwrap(),
    };
    let location = Location::parse("maildir:%h").unwrap();
    let options = OpenOptions {
        owner: OWNER,
        dotlock: false,
    };
    assert!(open(&location.expand(&account).unwrap(), &options).is_ok());
}

#[test]
fn a_configured_dotlock_is_held_while_scanning_and_excludes() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.mailbox("spool/joe");
    let options = OpenOptions {
        owner: OWNER,
        dotlock: true,
    };
    let lock = machine.path("spool/joe.lock");
    let open = || machine.open_as("mbox:%h/spool/joe", &options).unwrap();
    let accesses: Vec<Access> = open().descriptors().iter().map(|d| d.access).collect();
    assert_eq!(accesses, [Access::Mailbox, Access::LockDirectory]);
    fs::write(&lock, "1\n").unwrap();
    let busy = open().lock_and_scan(&impatient(), Box::new(Flock));
    let error = busy.err().unwrap();
    assert_eq!(error.class(), Class::InUse);
    fs::remove_file(&lock).unwrap();
    let maildrop = open().lock_and_scan(&impatient(), Box::new(Flock)).unwrap();
    assert!(!lock.exists());
    assert_eq!(maildrop.update(&|_| true).unwrap().removed, 1);
    assert!(!lock.exists());
    assert_eq!(fs::read(machine.path("spool/joe")).unwrap(), b"");
}

#[test]
fn the_log_line_stays_one_line() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let account = Account {
        name: "joe",
        home: "/no\nwhere\x1b",
    };
    let location = Location::parse("mbox:%h/Mailbox").unwrap();
    let options = OpenOptions {
        owner: OWNER,
        dotlock: false,
    };
    let error = open(&location.expand(&account).unwrap(), &options).unwrap_err();
    assert!(!error.to_string().chars().any(char::is_control), "{error}");
    drop(machine);
}
