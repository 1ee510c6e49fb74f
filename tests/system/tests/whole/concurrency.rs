//! Other programs at work on a mailbox while sessions fetch and delete: what was delivered is found once, or was deleted on
//! request, and nobody waits for ever.
//!
//! Each program writes a history of what it did; a checker compares the histories with what is left. Seconds of work:
//! `POPA3D_HISTORY_SECONDS`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use system_tests::machine::mail_group;
use system_tests::pop::Pop;
use system_tests::random::Random;
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;
use system_tests::{poll, run};

/// Of work, unless the environment says otherwise.
const SECONDS: u64 = 20;

/// POP sessions at a time: all but one are refused with `[IN-USE]`.
const SESSIONS: u64 = 3;

/// Messages fetched in a session at most, so that there are many sessions.
const MAX_FETCHED: usize = 40;

/// An action of any of them takes much less, unless it waits for ever: the server waits 30 seconds for a lock.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between the sessions of a client.
const PAUSE: Duration = Duration::from_millis(50);

/// What the sessions of one client did.
#[derive(Debug, Default)]
struct Client {
    /// Sessions that ended with QUIT and `+OK`.
    finished: u64,
    refused: u64,
    /// Ended by the server, which saw another program change the mailbox.
    aborted: u64,
    fetched: u64,
    /// Deleted, and QUIT answered `+OK`.
    deleted: BTreeSet<String>,
    /// Deleted, and QUIT not answered so.
    doubtful: BTreeSet<String>,
}

#[test]
fn mail_is_there_once_or_deleted_on_request_whatever_programs_work_on_the_mailbox() {
    for program in [
        "/usr/bin/python3",
        "/usr/bin/procmail",
        "/usr/bin/dotlockfile",
    ] {
        if !Path::new(program).exists() {
            return run::skipped(program);
        }
    }
    let seconds = std::env::var("POPA3D_HISTORY_SECONDS");
    let seconds = seconds.map_or(SECONDS, |text| text.parse().expect("a number of seconds"));
    Setup::new()
        .set("maildrop", "dotlock", "true")
        .set("limits", "source_hold", r#""0s""#)
        .as_root(|site| work(site, Duration::from_secs(seconds)));
}

fn work(site: &Site, length: Duration) {
    site.deliver(ALICE, b"");
    let directory = Path::new("/home/alice");
    let script = directory.join("other_programs.py");
    fs::write(&script, include_str!("other_programs.py")).expect("the script");
    let server = site.serve();
    let stop = directory.join("stop");
    let kinds = ["postfix", "fcntl", "procmail", "dotlockfile", "reader"];
    let mut programs: Vec<(&str, Child)> = kinds
        .into_iter()
        .map(|kind| (kind, start(kind, &script, &site.mailbox(ALICE), &stop)))
        .collect();
    let over = AtomicBool::new(false);
    let clients: Vec<Client> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..SESSIONS)
            .map(|seed| {
                let over = &over;
                scope.spawn(move || sessions(site, over, &mut Random::new(seed)))
            })
            .collect();
        std::thread::sleep(length);
        over.store(true, Ordering::Relaxed);
        fs::write(&stop, "").expect("the end");
        let ending = Instant::now();
        for (kind, program) in &mut programs {
            let ended = poll::within(PATIENCE, kind, || program.try_wait().expect("its state"));
            assert!(ended.success(), "{kind}: {ended}");
            println!("{kind} ended after {:.1?}", ending.elapsed());
        }
        let clients = clients
            .into_iter()
            .map(|client| client.join().expect("a client"))
            .collect();
        println!("sessions ended after {:.1?}", ending.elapsed());
        clients
    });
    for client in &clients {
        println!(
            "{} sessions finished, {} refused, {} aborted, {} messages fetched, {} deleted, {} doubtful",
            client.finished,
            client.refused,
            client.aborted,
            client.fetched,
            client.deleted.len(),
            client.doubtful.len(),
        );
    }
    assert!(clients.iter().all(|client| client.finished > 0));
    check(
        directory,
        &kinds,
        &clients,
        &fs::read(site.mailbox(ALICE)).expect("the mailbox"),
    );
    server.stop();
}

fn start(kind: &str, script: &Path, mailbox: &Path, stop: &Path) -> Child {
    let history = stop.with_file_name(kind);
    for path in [&history, &stop.with_file_name("log")] {
        fs::write(path, "").expect("a history");
        chown(path, Some(ALICE.id), Some(ALICE.id)).expect("a history");
    }
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg(script)
        .arg(kind)
        .arg(mailbox)
        .arg(history)
        .arg(stop)
        .arg("1");
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/home/alice");
    command
        .env("LOGNAME", ALICE.name)
        .current_dir("/home/alice");
    // Of the spool's group, as what delivers mail and what reads it are on Debian, or they could make no dotlock.
    command.uid(ALICE.id).gid(mail_group()).stdin(Stdio::null());
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{kind}: {error}"))
}

/// Fetches and deletes until it is over.
fn sessions(site: &Site, over: &AtomicBool, random: &mut Random) -> Client {
    let mut client = Client::default();
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        session(&mut client, site.connect(), random);
        assert!(
            began.elapsed() < PATIENCE,
            "a session of {:?}",
            began.elapsed()
        );
        std::thread::sleep(PAUSE);
    }
    client
}

/// One session, up to what the server lets it do.
fn session(client: &mut Client, mut pop: Pop, random: &mut Random) {
    pop.ok(&format!("USER {}", ALICE.name));
    if !pop.ask(&format!("PASS {}", ALICE.password)).ok {
        client.refused += 1;
        return;
    }
    let ask =
        |pop: &mut Pop, command: String| match pop.try_send(format!("{command}\r\n").as_bytes()) {
            true => pop.try_reply(),
            false => None,
        };
    let mut marked = BTreeSet::new();
    let Some(stat) = ask(&mut pop, "STAT".to_owned()) else {
        client.aborted += 1;
        return;
    };
    let count: usize = stat
        .text
        .split(' ')
        .next()
        .and_then(|count| count.parse().ok())
        .expect("STAT");
    for number in 1..=count.min(MAX_FETCHED) {
        let lines = ask(&mut pop, format!("RETR {number}"))
            .filter(|reply| reply.ok)
            .and_then(|_| pop.try_lines());
        let Some(octets) = lines else {
            client.aborted += 1;
            return;
        };
        let tokens = tokens(&octets);
        let [token] = &tokens[..] else {
            panic!("a message with {tokens:?}");
        };
        client.fetched += 1;
        if random.once_in(2) {
            if ask(&mut pop, format!("DELE {number}")).is_none_or(|reply| !reply.ok) {
                client.aborted += 1;
                return;
            }
            marked.insert(token.clone());
        }
    }
    if ask(&mut pop, "QUIT".to_owned()).is_some_and(|reply| reply.ok) {
        client.finished += 1;
        client.deleted.append(&mut marked);
    } else {
        client.aborted += 1;
        client.doubtful.append(&mut marked);
    }
}

/// The names of the messages in some text, each of which must have its end.
fn tokens(octets: &[u8]) -> Vec<String> {
    let text = String::from_utf8(octets.to_vec()).expect("mail in ASCII");
    let mut open: Option<&str> = None;
    let mut tokens = Vec::new();
    for line in text.lines() {
        if let Some(token) = line.strip_prefix("begin ") {
            assert_eq!(open, None, "cut short before {token}");
            open = Some(token);
        } else if let Some(token) = line.strip_prefix("end ") {
            assert_eq!(open.take(), Some(token));
            tokens.push(token.to_owned());
        }
    }
    assert_eq!(open, None, "cut short");
    tokens
}

/// Compares the histories with what is left.
fn check(directory: &Path, kinds: &[&str], clients: &[Client], left: &[u8]) {
    let mut sent = BTreeMap::new();
    let mut removed = BTreeSet::new();
    for kind in kinds {
        let history = fs::read_to_string(directory.join(kind)).expect("a history");
        println!("{kind}: {} lines of history", history.lines().count());
        for line in history.lines() {
            match line.split_once(' ') {
                Some(("sent", token)) => drop(sent.insert(token.to_owned(), false)),
                Some(("delivered", token)) => drop(sent.insert(token.to_owned(), true)),
                Some(("removed", token)) => drop(removed.insert(token.to_owned())),
                _ => {}
            }
        }
        assert!(history.lines().count() > 4, "{kind} did nothing");
    }
    let mut found: BTreeMap<String, u32> = BTreeMap::new();
    for token in tokens(left) {
        *found.entry(token).or_default() += 1;
    }
    let mut wrong = Vec::new();
    for (token, delivered) in &sent {
        let deleted =
            removed.contains(token) || clients.iter().any(|client| client.deleted.contains(token));
        let doubtful = clients.iter().any(|client| client.doubtful.contains(token));
        match found.remove(token).unwrap_or(0) {
            0 if deleted || doubtful || !delivered => {}
            0 => wrong.push(format!("{token} is lost")),
            1 if deleted => wrong.push(format!("{token} is deleted and there")),
            1 => {}
            times => wrong.push(format!("{token} is there {times} times")),
        }
    }
    wrong.extend(
        found
            .into_keys()
            .map(|token| format!("nobody sent {token}")),
    );
    println!("{} messages sent, {} wrong", sent.len(), wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
#[should_panic(expected = "cut short")]
fn a_message_cut_short_is_noticed() {
    tokens(b"begin a\nbegin b\nend b\n");
}

#[test]
#[should_panic(expected = "a-1 is lost")]
fn a_lost_message_is_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    let history = "sent a-1\ndelivered a-1\nsent a-2\ndelivered a-2\nsent a-3\n";
    fs::write(directory.path().join("a"), history).expect("a history");
    check(directory.path(), &["a"], &[], b"begin a-2\nend a-2\n");
}
