//! `popa3ctl deliver` as a mail transfer agent runs it, beside a running server, and with something going wrong at each call by
//! which it changes files.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::mount::{MountFlags, mount};
use system_tests::machine::mail_group;
use system_tests::site::{Setup, Site};
use system_tests::users::{ALICE, BOB};
use system_tests::{poll, run};
use tracer::faults::{self, Fault};

const NOUSER: i32 = 67;
const CANTCREAT: i32 = 73;
const TEMPFAIL: i32 = 75;
const NOPERM: i32 = 77;

/// Copied by another process: a file open for writing here may be so in a child of another thread yet when it is to be run
/// (ETXTBSY).
fn copy_program(to: &Path) {
    let mut copy = Command::new("cp");
    let copy = copy.arg(env!("CARGO_BIN_EXE_popa3ctl")).arg(to);
    assert!(copy.status().expect("cp").success());
}

fn popa3ctl(site: &Site) -> Command {
    let server = site.command();
    let arguments: Vec<OsString> = server.get_args().map(ToOwned::to_owned).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_popa3ctl"));
    command.arg("deliver").args(arguments);
    command
}

/// The exit status of a delivery.
fn deliver(site: &Site, arguments: &[&str], message: &str) -> i32 {
    let mut command = popa3ctl(site);
    let outcome = run::to_end(command.args(arguments), message.as_bytes());
    outcome
        .status
        .code()
        .unwrap_or_else(|| panic!("{outcome:?}"))
}

/// The messages that a session retrieves, and deletes.
fn fetch(site: &Site) -> Vec<String> {
    let mut pop = site.login(ALICE);
    let count = pop.list("LIST").len();
    let mut messages = Vec::new();
    for number in 1..=count {
        let octets = pop.listing(&format!("RETR {number}"));
        messages.push(String::from_utf8(octets).expect("text"));
        pop.ok(&format!("DELE {number}"));
    }
    pop.ok("QUIT");
    pop.expect_closed();
    messages
}

#[test]
fn what_is_delivered_to_an_mbox_is_there_for_the_next_session() {
    Setup::new().as_root(|site| {
        let _server = site.serve();
        for number in 1..=2 {
            let message = format!("Subject: {number}\n\nFrom here on\n");
            assert_eq!(
                deliver(site, &["-f", "joe@example.org", "alice"], &message),
                0
            );
        }
        let mailbox = fs::metadata(site.mailbox(ALICE)).expect("the mailbox");
        assert_eq!((mailbox.uid(), mailbox.gid()), (ALICE.id, mail_group()));
        assert_eq!(mailbox.mode() & 0o7777, 0o600);
        let messages = fetch(site);
        assert_eq!(messages.len(), 2);
        assert!(
            messages[0].starts_with(
                "Return-Path: <joe@example.org>\r\nSubject: 1\r\n\r\n>From here on\r\n"
            ),
            "{messages:?}"
        );
        assert_eq!(deliver(site, &["alice"], "Subject: 3\n\nthree\n"), 0);
        assert!(fetch(site)[0].contains("three"));
    });
}

#[test]
fn a_maildir_is_made_for_its_user() {
    let setup = Setup::new().set("maildrop", "location", r#""maildir:%h/Maildir""#);
    setup.as_root(|site| {
        let _server = site.serve();
        assert_eq!(deliver(site, &["alice"], "Subject: a\n\nFrom here on\n"), 0);
        let maildir = Path::new("/home/alice/Maildir");
        let metadata = fs::metadata(maildir).expect("the Maildir");
        assert_eq!((metadata.uid(), metadata.gid()), (ALICE.id, ALICE.id));
        assert_eq!(fetch(site), ["Subject: a\r\n\r\nFrom here on\r\n"]);
    });
}

#[test]
fn a_user_of_a_users_file_gets_mail_where_the_file_says() {
    let setup = Setup::new()
        .set("auth", "backends", r#"["users-file"]"#)
        .set("auth", "users_file", r#""/etc/popa3d-users""#);
    setup.as_root(|site| {
        fs::write(
            "/etc/popa3d-users",
            "joe@example.org:!:5001:5001:/home/alice:read-only:mbox:%h/joe\nbob:!\n",
        )
        .expect("the users file");
        fs::set_permissions("/etc/popa3d-users", fs::Permissions::from_mode(0o600))
            .expect("its mode");
        assert_eq!(deliver(site, &["joe@example.org"], "a: b\n\n"), 0);
        assert!(Path::new("/home/alice/joe").exists());
        assert_eq!(deliver(site, &["bob"], "a: b\n\n"), 0);
        assert!(site.mailbox(BOB).exists());
        assert_eq!(deliver(site, &["alice"], "a: b\n\n"), NOUSER);
    });
}

#[test]
fn the_exit_status_says_what_to_do_with_the_message() {
    let setup = Setup::new().set("maildrop", "dotlock", "true");
    setup.as_root(|site| {
        let now = ["--lock-timeout", "0", "alice"];
        for nobody in ["nobody-here", "root", "../alice", ""] {
            assert_eq!(deliver(site, &[nobody], "a: b\n\n"), NOUSER, "{nobody:?}");
            assert_eq!(
                deliver(site, &["--check", nobody], ""),
                NOUSER,
                "{nobody:?}"
            );
        }
        assert_eq!(deliver(site, &["--check", "alice"], ""), 0);
        assert!(!site.mailbox(ALICE).exists());
        // A lock that is another's.
        site.deliver(ALICE, b"From a\n\n");
        fs::write("/var/mail/alice.lock", "1").expect("a dotlock");
        assert_eq!(deliver(site, &now, "a: b\n\n"), TEMPFAIL);
        fs::remove_file("/var/mail/alice.lock").expect("the dotlock");
        let mailbox = File::options().append(true).open(site.mailbox(ALICE));
        let mailbox = mailbox.expect("the mailbox");
        let lock = rustix::fs::FlockOperation::LockExclusive;
        rustix::fs::fcntl_lock(&mailbox, lock).expect("a lock");
        assert_eq!(deliver(site, &now, "a: b\n\n"), TEMPFAIL);
        drop(mailbox);
        assert_eq!(deliver(site, &now, "a: b\n\n"), 0);
        assert!(!Path::new("/var/mail/alice.lock").exists());
        // What is no mailbox.
        site.deliver(ALICE, b"not mail\n");
        assert_eq!(deliver(site, &now, "a: b\n\n"), CANTCREAT);
        // Somebody who may not.
        let program = site.directory.with_file_name("popa3ctl");
        copy_program(&program);
        let mut other = Command::new(&program);
        other.args(["deliver", "alice"]).uid(BOB.id).gid(BOB.id);
        assert_eq!(run::to_end(&mut other, b"").status.code(), Some(NOPERM));
        site.write_configuration("nonsense = 1\n");
        assert_eq!(deliver(site, &now, "a: b\n\n"), TEMPFAIL);
    });
}

#[test]
fn a_full_disk_leaves_the_mailbox_as_it_was() {
    Setup::new().as_root(|site| {
        let options = c"size=64k,mode=2775";
        mount("tmpfs", "/var/mail", "tmpfs", MountFlags::empty(), options).expect("a small disk");
        chown("/var/mail", Some(0), Some(mail_group())).expect("the spool");
        site.deliver(ALICE, b"From a\n\na\n\n");
        let large = format!("a: b\n\n{}", "x".repeat(200_000));
        assert_eq!(deliver(site, &["alice"], &large), TEMPFAIL);
        let left = fs::read(site.mailbox(ALICE)).expect("the mailbox");
        assert_eq!(left, b"From a\n\na\n\n");
        assert_eq!(deliver(site, &["alice"], "a: b\n\n"), 0);
    });
}

#[test]
fn deliveries_and_sessions_at_the_same_time_lose_and_double_nothing() {
    const EACH: usize = 8;
    let setup = Setup::new().set("maildrop", "dotlock", "true");
    setup.as_root(|site| {
        let _server = site.serve();
        let mut fetched = Vec::new();
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|writer| {
                    scope.spawn(move || {
                        for number in 0..EACH {
                            let message = format!("Subject: {writer}.{number}\n\nbody\n");
                            assert_eq!(deliver(site, &["alice"], &message), 0);
                        }
                    })
                })
                .collect();
            while writers.iter().any(|writer| !writer.is_finished()) {
                fetched.extend(fetch(site));
            }
        });
        fetched.extend(fetch(site));
        fetched.sort();
        let mut wanted: Vec<String> = (0..3)
            .flat_map(|writer| (0..EACH).map(move |number| (writer, number)))
            .map(|(writer, number)| format!("Subject: {writer}.{number}\r\n\r\nbody\r\n"))
            .collect();
        wanted.sort();
        assert_eq!(fetched, wanted);
    });
}

/// A place where an ordinary user delivers to himself.
struct Own {
    directory: tempfile::TempDir,
    program: PathBuf,
    user: u32,
}

const MESSAGE: &str = "Subject: new\n\nFrom one\nend\n";
const BEFORE: &str = "From a Thu Jan  1 00:00:00 1970\nSubject: old\n\nold\n\n";

impl Own {
    fn new(location: &str) -> Own {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("popa3ctl");
        copy_program(&program);
        fs::create_dir(directory.path().join("home")).expect("a home");
        let root = rustix::process::geteuid().is_root();
        let user = if root {
            12_345
        } else {
            rustix::process::geteuid().as_raw()
        };
        let own = Own {
            directory,
            program,
            user,
        };
        let home = own.home();
        fs::write(
            own.path("configuration"),
            format!(
                "[auth]\nbackends = [\"users-file\"]\nusers_file = \"{}\"\n[maildrop]\ndotlock = true\nlocation = \"{location}\"\n",
                own.path("users").display()
            ),
        )
        .expect("a configuration");
        let line = format!("joe:!:{user}:{user}:{}:\n", home.display());
        fs::write(own.path("users"), line).expect("a users file");
        if root {
            for path in [own.directory.path(), &home, &own.path("users")] {
                chown(path, Some(user), Some(user)).expect("an owner");
            }
        }
        own
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn home(&self) -> PathBuf {
        self.path("home")
    }

    fn command(&self) -> Command {
        let input = self.path("message");
        fs::write(&input, MESSAGE).expect("a message");
        let mut command = Command::new(&self.program);
        command
            .args(["deliver", "-c"])
            .arg(self.path("configuration"))
            .args(["--lock-timeout", "0", "joe"])
            .stdin(File::open(input).expect("the message"))
            .stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            command.uid(self.user).gid(self.user);
        }
        command
    }

    /// Delivers with something going wrong; whether there was such a call, and how it ended.
    fn trouble(&self, call: usize, fault: Fault) -> (bool, ExitStatus) {
        let home = self.home();
        let mut command = self.command();
        let run = faults::run(&mut command, &[&home], Some((call, fault)), false);
        let run = run.expect("a run");
        (run.hit, run.status)
    }

    fn give(&self, name: &str, content: &str) {
        let path = self.home().join(name);
        fs::write(&path, content).expect("a file");
        if rustix::process::geteuid().is_root() {
            chown(path, Some(self.user), Some(self.user)).expect("an owner");
        }
    }
}

const FAULTS: [Fault; 6] = [
    Fault::Before,
    Fault::After,
    Fault::Torn,
    Fault::Short,
    Fault::Once(libc::ENOSPC),
    Fault::Lasting(libc::EIO),
];

#[test]
fn whatever_goes_wrong_in_an_mbox_the_mail_there_is_as_it_was_and_the_next_message_its_own() {
    let own = Own::new("mbox:%h/box");
    let mailbox = own.home().join("box");
    let without_envelope = |text: &str| text.split_once('\n').map(|it| it.1.to_owned());
    let mut points = 0;
    for fault in FAULTS {
        for call in 1.. {
            own.give("box", BEFORE);
            let _none = fs::remove_file(own.home().join("box.lock"));
            let (hit, status) = own.trouble(call, fault);
            if !hit {
                break;
            }
            points += 1;
            let at = format!("{fault:?} at call {call}: {status}");
            let left = fs::read_to_string(&mailbox).expect("the mailbox");
            let new = left
                .strip_prefix(BEFORE)
                .unwrap_or_else(|| panic!("{at}: {left:?}"));
            if status.success() {
                let stored = without_envelope(new).expect("an envelope");
                assert_eq!(stored, "Subject: new\n\n>From one\nend\n\n", "{at}");
            } else if status.code().is_some() && !matches!(fault, Fault::Lasting(_)) {
                assert_eq!(status.code(), Some(TEMPFAIL), "{at}");
                assert!(new.is_empty(), "{at}: {new:?}");
            }
            // The lock of one that was killed goes stale by itself; here nobody waits for that.
            let _none = fs::remove_file(own.home().join("box.lock"));
            assert!(
                own.command().status().expect("a delivery").success(),
                "{at}"
            );
            let after = fs::read_to_string(&mailbox).expect("the mailbox");
            let last = after.rfind("\n\nFrom ").map(|border| &after[border + 2..]);
            assert_eq!(
                last.and_then(without_envelope).as_deref(),
                Some("Subject: new\n\n>From one\nend\n\n"),
                "{at}: {after:?}"
            );
            assert!(after.starts_with(&left), "{at}");
        }
    }
    assert!(points > 20, "{points}");
}

#[test]
fn whatever_goes_wrong_in_a_maildir_a_message_is_whole_or_not_there() {
    let own = Own::new("maildir:%h/Maildir");
    assert!(own.command().status().expect("a delivery").success());
    let new = own.home().join("Maildir/new");
    let mut points = 0;
    for fault in FAULTS {
        for call in 1.. {
            let before = fs::read_dir(&new).expect("new").count();
            let (hit, status) = own.trouble(call, fault);
            if !hit {
                break;
            }
            points += 1;
            let at = format!("{fault:?} at call {call}: {status}");
            let after = fs::read_dir(&new).expect("new").count();
            assert!(after == before || after == before + 1, "{at}");
            if status.success() {
                assert_eq!(after, before + 1, "{at}");
            } else if status.code().is_some() && !matches!(fault, Fault::Lasting(_)) {
                assert_eq!((status.code(), after), (Some(TEMPFAIL), before), "{at}");
            }
            for entry in fs::read_dir(&new).expect("new") {
                let text = fs::read_to_string(entry.expect("an entry").path());
                assert_eq!(text.expect("a message"), MESSAGE, "{at}");
            }
        }
    }
    assert!(points > 10, "{points}");
}

/// A mail transfer agent.
struct Agent {
    stream: BufReader<UnixStream>,
}

impl Agent {
    fn connect(path: &Path) -> Agent {
        let stream = poll::until("the LMTP socket", || UnixStream::connect(path).ok());
        stream
            .set_read_timeout(Some(poll::PATIENCE))
            .expect("a time-out");
        let mut agent = Agent {
            stream: BufReader::new(stream),
        };
        assert_eq!(agent.reply(), "220");
        agent
    }

    /// The code of the next reply.
    fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a reply");
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.get(..3).unwrap_or_default().to_owned();
            }
        }
    }

    fn say(&mut self, line: &str) -> String {
        self.send(&format!("{line}\r\n"));
        self.reply()
    }

    fn send(&mut self, text: &str) {
        self.stream
            .get_mut()
            .write_all(text.as_bytes())
            .expect("the server");
    }
}

/// Ends the server under test when the test does.
struct Lmtp(std::process::Child);

impl Drop for Lmtp {
    fn drop(&mut self) {
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn serve_lmtp(site: &Site, socket: &Path) -> Lmtp {
    let mut command = popa3ctl(site);
    command
        .arg("--lmtp")
        .arg(socket)
        .args(["--max-octets", "2000"]);
    Lmtp(command.spawn().expect("the LMTP server"))
}

#[test]
fn an_lmtp_client_learns_of_each_recipient() {
    Setup::new().as_root(|site| {
        let _server = site.serve();
        let socket = site.directory.join("lmtp");
        let _lmtp = serve_lmtp(site, &socket);
        site.deliver(BOB, b"not mail\n");
        let mut agent = Agent::connect(&socket);
        assert_eq!(agent.say("LHLO here"), "250");
        assert_eq!(
            agent.say("MAIL FROM:<s@example.org> BODY=8BITMIME SMTPUTF8"),
            "250"
        );
        for (recipient, code) in [
            ("alice", "250"),
            ("nobody-here@example.org", "550"),
            ("-c", "550"),
            ("bob@example.org", "250"),
            ("alice+lists@example.org", "250"),
        ] {
            assert_eq!(
                agent.say(&format!("RCPT TO:<{recipient}>")),
                code,
                "{recipient}"
            );
        }
        assert_eq!(agent.say("DATA"), "354");
        agent.send("Subject: \u{e9}\r\n\r\n..dot\r\nFrom here\r\n.\r\n");
        assert_eq!(
            [agent.reply(), agent.reply(), agent.reply()],
            ["250", "554", "250"]
        );
        // The next message, and one that is too large.
        assert_eq!(agent.say("MAIL FROM:<>"), "250");
        assert_eq!(agent.say("RCPT TO:<alice>"), "250");
        assert_eq!(agent.say("DATA"), "354");
        agent.send("Subject: b\r\n\r\n.\r\n");
        assert_eq!(agent.reply(), "250");
        assert_eq!(agent.say("MAIL FROM:<> SIZE=2001"), "552");
        assert_eq!(agent.say("MAIL FROM:<>"), "250");
        assert_eq!(agent.say("RCPT TO:<alice>"), "250");
        assert_eq!(agent.say("DATA"), "354");
        agent.send(&format!("{}\r\n.\r\n", "x".repeat(3000)));
        assert_eq!(agent.reply(), "552");
        assert_eq!(agent.say("QUIT"), "221");
        let first = "Return-Path: <s@example.org>\r\nSubject: \u{e9}\r\n\r\n.dot\r\n>From here\r\n";
        let second = "Return-Path: <>\r\nSubject: b\r\n\r\n";
        assert_eq!(fetch(site), [first, first, second]);
    });
}

#[test]
fn who_speaks_lmtp_is_nobody_and_one_that_is_cut_off_delivers_nothing() {
    Setup::new().as_root(|site| {
        let socket = site.directory.join("lmtp");
        let lmtp = serve_lmtp(site, &socket);
        let mut agent = Agent::connect(&socket);
        let server = system_tests::processes::Process::numbered(lmtp.0.id());
        let session = poll::until("the session", || {
            let all = system_tests::processes::tree(server);
            all.into_iter()
                .find(|it| *it != server && it.status("Seccomp").as_deref() == Some("2"))
        });
        let network = system_tests::users::SERVICE[0].1;
        assert_eq!(session.user(), Some(network));
        assert_eq!(session.status("CapPrm"), Some("0".repeat(16)));
        assert_eq!(agent.say("LHLO here"), "250");
        assert_eq!(agent.say("MAIL FROM:<>"), "250");
        assert_eq!(agent.say("RCPT TO:<alice>"), "250");
        assert_eq!(agent.say("DATA"), "354");
        agent.send("Subject: a\r\n\r\ncut");
        let stream = agent.stream.get_mut();
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("half a connection");
        let mut rest = String::new();
        stream.read_to_string(&mut rest).expect("the end");
        assert_eq!(rest, "");
        assert!(!site.mailbox(ALICE).exists());
    });
}
