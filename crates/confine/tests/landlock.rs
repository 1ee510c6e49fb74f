//! Landlock: what can be reached by name, and that neither the network nor other processes can.

#![allow(missing_docs)]

#[macro_use]
mod single_threaded;

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use confine::process;
use confine::sandbox::{Landlock, Sandbox};
use single_threaded::attempts::{assert_denied, assert_done, confined, with_attempts};
use single_threaded::{Test, in_child, start_child};

fn main() -> ExitCode {
    single_threaded::run(TESTS)
}

const TESTS: &[Test] = tests![
    landlock_nothing_denies_files_and_tcp,
    landlock_denies_signals_to_processes_outside,
    landlock_read_allows_that_and_no_more,
    landlock_maildir_moves_and_removes_but_never_writes,
    landlock_mbox_is_written_and_nothing_beside_it,
    landlock_connects_to_the_port_it_is_given_and_no_other,
    landlock_all_files_still_denies_tcp_and_can_be_narrowed,
];

fn landlock_nothing_denies_files_and_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert_done(confined(&with_attempts(), || {
        assert_denied(File::open("/etc/passwd"));
        assert_denied(fs::read_dir("/"));
        assert_denied(File::create("/tmp/confine-test-made-by-nobody"));
        assert_denied(TcpStream::connect(address));
        assert_denied(TcpListener::bind("127.0.0.1:0"));
    }));
}

fn landlock_denies_signals_to_processes_outside() {
    let parent = process::own_pid();
    assert_done(confined(&with_attempts(), || {
        assert_denied(process::kill(parent, process::Signal::CONT));
        process::kill(process::own_pid(), process::Signal::CONT).unwrap();
    }));
}

fn landlock_connects_to_the_port_it_is_given_and_no_other() {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [wanted, other] = listeners.each_ref().map(|it| it.local_addr().unwrap());
    let program = with_attempts();
    assert_done(in_child(|| {
        let rules = Landlock::nothing().connect_tcp(wanted.port());
        Sandbox::new(&program).landlock(rules).enter().unwrap();
        TcpStream::connect(wanted).unwrap();
        assert_denied(TcpStream::connect(other));
        assert_denied(TcpListener::bind("127.0.0.1:0"));
        assert_denied(File::open("/etc/passwd"));
    }));
}

fn landlock_read_allows_that_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "octets").unwrap();
    let opened = File::open(directory.path()).unwrap();
    let program = with_attempts();
    let missing = directory.path().join("no-such-name");
    assert_done(in_child(|| {
        let rules = Landlock::nothing()
            .read(opened.as_fd())
            .read_named(&missing);
        Sandbox::new(&program).landlock(rules).enter().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "octets");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_denied(File::options().write(true).open(&path));
        assert_denied(fs::remove_file(&path));
        assert_denied(File::create(directory.path().join("other")));
        assert_denied(File::open("/etc/passwd"));
    }));
    assert_done(in_child(|| {
        let rules = Landlock::nothing().read_named(&path);
        Sandbox::new(&program).landlock(rules).enter().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "octets");
        assert_denied(fs::read_dir(directory.path()));
    }));
}

fn landlock_maildir_moves_and_removes_but_never_writes() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["new", "cur"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let (new, cur) = (
        directory.path().join("new/1"),
        directory.path().join("cur/1:2,"),
    );
    fs::write(&new, "mail").unwrap();
    let opened = File::open(directory.path()).unwrap();
    let program = with_attempts();
    assert_done(in_child(|| {
        let rules = Landlock::nothing().maildir(opened.as_fd());
        Sandbox::new(&program).landlock(rules).enter().unwrap();
        fs::rename(&new, &cur).unwrap();
        assert_eq!(fs::read_to_string(&cur).unwrap(), "mail");
        assert_denied(File::options().write(true).open(&cur));
        fs::remove_file(&cur).unwrap();
        assert_denied(File::open("/etc/passwd"));
    }));
    assert!(!new.exists() && !cur.exists());
}

fn landlock_mbox_is_written_and_nothing_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let (mbox, other) = (
        directory.path().join("mbox"),
        directory.path().join("other"),
    );
    fs::write(&mbox, "mail").unwrap();
    fs::write(&other, "another's mail").unwrap();
    let opened = File::open(&mbox).unwrap();
    let spool = File::open(directory.path()).unwrap();
    let program = with_attempts();
    assert_done(in_child(|| {
        let rules = Landlock::nothing().write_file(opened.as_fd());
        Sandbox::new(&program).landlock(rules).enter().unwrap();
        fs::write(&mbox, "").unwrap();
        assert_denied(File::open(&other));
        assert_denied(File::create_new(directory.path().join("mbox.lock")));
        assert_denied(fs::remove_file(&mbox));
    }));
    assert_done(in_child(|| {
        let rules = Landlock::nothing()
            .write_file(opened.as_fd())
            .lockfiles_in(spool.as_fd());
        Sandbox::new(&program).landlock(rules).enter().unwrap();
        let dotlock = directory.path().join("mbox.lock");
        drop(File::create_new(&dotlock).unwrap());
        fs::remove_file(&dotlock).unwrap();
        assert_denied(fs::read_dir(directory.path()));
    }));
}

fn landlock_all_files_still_denies_tcp_and_can_be_narrowed() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("a")).unwrap();
    fs::create_dir(directory.path().join("b")).unwrap();
    fs::write(directory.path().join("a/1"), "").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let program = with_attempts();
    assert_done(in_child(|| {
        Sandbox::new(&program)
            .landlock(Landlock::all_files())
            .enter()
            .unwrap();
        drop(File::open("/etc/passwd").unwrap());
        fs::rename(directory.path().join("a/1"), directory.path().join("b/1")).unwrap();
        assert_denied(TcpStream::connect(address));
        assert_done(in_child(|| {
            Sandbox::new(&program).enter().unwrap();
            assert_denied(File::open("/etc/passwd"));
        }));
        let child = start_child(|| {
            let (mut reader, _writer) = std::io::pipe().unwrap();
            let _ = std::io::Read::read(&mut reader, &mut [0]);
        });
        process::kill(child, process::Signal::KILL).unwrap();
        assert_eq!(process::wait(child).unwrap().signal(), Some(libc::SIGKILL));
    }));
}
