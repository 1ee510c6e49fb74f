//! The spawner and its maildrop processes, driven over their channels by a test that plays everybody else: the master,
//! auth, sessions honest and hostile, and their clients.
//!
//! Without the usual harness, because fork(2) wants a process without threads.

mod rig;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use confine::channel::{Channel, Message};
use confine::handover;
use confine::process::Signal;
use messages::Rights;
use messages::session::HandedOver;
use messages::spawner::ToSpawner;
use rig::{Login, MAIL, MAX_DESCRIPTORS, Rig, large_rest, rest, say};
use rustix::net::{SendFlags, send};
use serde::{Deserialize, Serialize};
use startup::testing::PATIENCE;

type Test = (&'static str, fn());

/// A list of tests from function names.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => {
        [$((stringify!($name), $name as fn())),+]
    };
}

fn main() -> ExitCode {
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let mut ran = 0;
    for (name, test) in all() {
        if wanted
            .as_ref()
            .is_some_and(|wanted| !name.contains(wanted.as_str()))
        {
            continue;
        }
        println!("test {name} ...");
        // A failing test panics, and that ends this process with a status that says so.
        test();
        ran += 1;
    }
    println!("test result: ok. {ran} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
    ExitCode::SUCCESS
}

fn all() -> Vec<Test> {
    tests!(
        a_client_that_is_handed_over_is_answered_and_served,
        commands_behind_pass_are_carried_over,
        without_a_descriptor_the_stream_itself_is_the_client,
        a_session_that_hands_over_nothing_is_given_up,
        a_handover_that_is_too_long_is_given_up,
        a_session_that_stops_within_the_handover_is_given_up,
        a_second_session_is_told_that_the_maildrop_is_in_use,
        a_silent_client_is_dropped_without_a_word_and_nothing_is_deleted,
        another_users_mail_is_refused_whatever_the_location_says,
        auth_cannot_name_root,
        a_wrong_message_ends_auths_channel_and_a_new_one_serves,
        a_maildrop_process_that_is_killed_harms_nobody_and_frees_the_maildrop,
        a_connection_counts_until_the_update_of_its_killed_process_is_finished,
        an_update_keeps_its_mailbox_while_no_process_can_be_forked_for_it,
        there_are_hardly_more_maildrop_processes_than_sessions_whatever_became_of_their_leases,
        sessions_outlive_the_master,
        without_the_right_to_delete_dele_is_refused_and_quit_removes_nothing,
        a_session_that_may_only_read_leaves_nothing_in_the_state_directory,
        forged_journals_keep_no_other_from_being_found,
        all_unfinished_updates_are_finished_also_those_behind_what_is_worked_on_at_a_time,
    )
    .into()
}

fn a_client_that_is_handed_over_is_answered_and_served() {
    let mut rig = Rig::new(|_| {});
    let mut login = rig.log_in();
    let mut client = login.hand_over(b"");
    assert_eq!(say(&mut client, "STAT"), "+OK 2 messages (46 octets)");
    assert_eq!(say(&mut client, "DELE 1"), "+OK 2 46");
    assert_eq!(say(&mut client, "QUIT"), "+OK");
    assert_eq!(rest(client), "+OK\r\n");
    login.assert_lease_ends();
    assert_eq!(rig.log("session ended").0, "quit");
    assert_eq!(rig.mailbox(), second_message());
}

fn without_the_right_to_delete_dele_is_refused_and_quit_removes_nothing() {
    let mut rig = Rig::new(|_| {});
    for rights in [Rights::NoDelete, Rights::ReadOnly] {
        let mut login = rig.log_in_as(|account| account.rights = rights);
        let client = login.hand_over(b"DELE 1\r\nSTAT\r\nRETR 2\r\nQUIT\r\n");
        let replies = rest(client);
        assert_eq!(
            replies,
            "+OK 2 messages (46 octets)\r\n-ERR this login may not delete messages\r\n+OK 2 46\r\n\
             +OK 23 octets\r\nSubject: other\r\n\r\ntwo\r\n.\r\n+OK\r\n"
        );
        login.assert_lease_ends();
        let (end, record) = rig.log("session ended");
        assert_eq!(end, "quit");
        let deleted = ("deleted".to_owned(), "0".to_owned());
        assert!(record.fields.contains(&deleted), "{record:?}");
        assert_eq!(rig.mailbox(), MAIL);
    }
    let client = rig.log_in().hand_over(b"DELE 1\r\nQUIT\r\n");
    assert!(rest(client).ends_with("+OK\r\n"));
    assert_ne!(rig.mailbox(), MAIL);
}

fn a_session_that_may_only_read_leaves_nothing_in_the_state_directory() {
    let mut rig = Rig::new(|_| {});
    let read = |rig: &mut Rig, rights| {
        let client = rig
            .log_in_as(|account| account.rights = rights)
            .hand_over(b"UIDL\r\nQUIT\r\n");
        let replies = rest(client);
        assert!(replies.ends_with("\r\n.\r\n+OK\r\n"), "{replies}");
        replies
    };
    // Two of one header: their ids are what is remembered.
    rig.set_mailbox(&format!("{MAIL}{MAIL}"));
    let first = read(&mut rig, Rights::ReadOnly);
    assert_eq!(rig.remembered(), Vec::new());
    assert_eq!(read(&mut rig, Rights::NoDelete), first);
    let remembered = rig.remembered();
    assert!(!remembered.is_empty());
    // What is there is read, and stays as it is, although there is more to tell by now.
    rig.set_mailbox(&format!("{MAIL}{MAIL}{MAIL}"));
    let second = read(&mut rig, Rights::ReadOnly);
    assert_eq!(rig.remembered(), remembered);
    assert_eq!(read(&mut rig, Rights::Full), second);
    assert_ne!(rig.remembered(), remembered);
}

fn all_unfinished_updates_are_finished_also_those_behind_what_is_worked_on_at_a_time() {
    let mut rig = Rig::new(|configuration| configuration.lock_timeout = PATIENCE);
    let mailboxes: Vec<_> = (0..20).map(|number| rig.interrupt_update(number)).collect();
    let locked: Vec<_> = mailboxes.iter().map(|path| lock(path)).collect();
    rig.send(&ToSpawner::Recover);
    // None gets on, and whoever has found them is gone.
    rig.await_children(&["popa3d: recover"; 8]);
    drop(locked);
    for _ in &mailboxes {
        rig.log("update finished that had been interrupted");
    }
    for path in &mailboxes {
        assert_eq!(fs::read_to_string(path).unwrap(), second_message());
    }
    rig.await_children(&[]);
}

fn forged_journals_keep_no_other_from_being_found() {
    let mut rig = Rig::new(|_| {});
    let mailbox = rig.interrupt_update(0);
    // A file name as long as the record of a journal has room for, far longer than any file's.
    for number in 0..20 {
        rig.forge_journal(number, &format!("/tmp\0{}", "x".repeat(3000)));
    }
    rig.send(&ToSpawner::Recover);
    rig.log("update finished that had been interrupted");
    assert_eq!(fs::read_to_string(mailbox).unwrap(), second_message());
}

/// Locks a mailbox as another program would.
fn lock(path: &Path) -> File {
    let file = File::options().read(true).write(true).open(path).unwrap();
    assert!(confine::lock::try_lock_exclusive(file.as_fd()).unwrap());
    file
}

/// What is left of the mail when the first message is deleted.
fn second_message() -> &'static str {
    MAIL.split_inclusive("one\n\n").nth(1).unwrap()
}

fn commands_behind_pass_are_carried_over() {
    let mut rig = Rig::new(|_| {});
    let client = rig.log_in().hand_over(b"STAT\r\nNOOP\r\nQUIT\r\n");
    assert_eq!(
        rest(client),
        "+OK 2 messages (46 octets)\r\n+OK 2 46\r\n+OK\r\n+OK\r\n"
    );
}

fn without_a_descriptor_the_stream_itself_is_the_client() {
    let mut rig = Rig::new(|_| {});
    let login = rig.log_in();
    let nothing = HandedOver {
        utf8: false,
        pipelined: b"",
    };
    handover::send(login.stream.as_fd(), &nothing.encode(), &[]).unwrap();
    let mut client = login.stream;
    client.write_all(b"STAT\r\nQUIT\r\n").unwrap();
    assert_eq!(
        rest(client),
        "+OK 2 messages (46 octets)\r\n+OK 2 46\r\n+OK\r\n"
    );
}

fn a_session_that_hands_over_nothing_is_given_up() {
    let mut rig = Rig::new(|_| {});
    let login = rig.log_in();
    let lease = login.abandon();
    lease.assert_ends();
    rig.log("maildrop process failed");
    rig.assert_serves();
}

fn a_handover_that_is_too_long_is_given_up() {
    let mut rig = Rig::new(|_| {});
    let mut login = rig.log_in();
    let length = u32::try_from(handover::MAX_PIPELINED + 1).unwrap();
    login.stream.write_all(&length.to_be_bytes()).unwrap();
    login.assert_lease_ends();
    rig.log("maildrop process failed");
    rig.assert_serves();
}

fn a_session_that_stops_within_the_handover_is_given_up() {
    let mut rig = Rig::new(|_| {});
    let mut login = rig.log_in();
    login.stream.write_all(&[0]).unwrap();
    login.assert_lease_ends();
    let (reason, _) = rig.log("maildrop process failed");
    assert!(reason.contains("timed out"), "{reason}");
    rig.assert_serves();
}

fn a_second_session_is_told_that_the_maildrop_is_in_use() {
    let mut rig = Rig::new(|_| {});
    let mut first = rig.log_in().hand_over(b"");
    assert_eq!(say(&mut first, "NOOP"), "+OK 2 messages (46 octets)");
    let second = rig.log_in().hand_over(b"QUIT\r\n");
    assert!(rest(second).starts_with("-ERR [IN-USE] "));
    assert_eq!(say(&mut first, "QUIT"), "+OK");
    assert_eq!(rest(first), "+OK\r\n");
    rig.assert_serves();
}

fn a_silent_client_is_dropped_without_a_word_and_nothing_is_deleted() {
    let mut rig = Rig::new(|configuration| {
        configuration.idle_timeout = Duration::from_millis(100);
    });
    let client = rig.log_in().hand_over(b"DELE 1\r\n");
    assert_eq!(rest(client), "+OK 2 messages (46 octets)\r\n+OK\r\n");
    assert_eq!(rig.log("session ended").0, "timed out");
    assert_eq!(rig.mailbox(), MAIL);
}

fn another_users_mail_is_refused_whatever_the_location_says() {
    let mut rig = Rig::new(|_| {});
    let owner = if rustix::process::geteuid().is_root() {
        "/etc/hostname"
    } else {
        "/etc/passwd"
    };
    let login = rig.log_in_as(|account| account.maildrop = Some(format!("mbox:{owner}")));
    let mut login = login;
    let client = login.hand_over(b"QUIT\r\n");
    assert!(rest(client).starts_with("-ERR [SYS/"));
    rig.log("maildrop not opened");
    rig.assert_serves();
}

/// A `StartMaildrop` as auth would send it, but for its types: what a taken-over auth could put on the wire.
#[derive(Serialize, Deserialize)]
struct Forged {
    id: u64,
    peer: Option<std::net::SocketAddr>,
    account: (String, u32, u32, String, Option<String>),
}

impl Message for Forged {
    const MAX_OCTETS: usize = 16 * 1024;

    fn descriptors(&self) -> usize {
        2
    }
}

fn auth_cannot_name_root() {
    for (uid, gid) in [(0, 1000), (1000, 0), (u32::MAX, 1000)] {
        let mut rig = Rig::new(|_| {});
        let forged = Forged {
            id: 1,
            peer: None,
            account: ("root".into(), uid, gid, "/root".into(), None),
        };
        let (stream, theirs) = UnixStream::pair().unwrap();
        rig.auth
            .send(&forged, &[theirs.as_fd(), theirs.as_fd()])
            .unwrap();
        drop(theirs);
        rig.log("auth channel closed");
        assert_eq!(rest(stream), "");
        rig.new_auth();
        rig.assert_serves();
    }
}

fn a_wrong_message_ends_auths_channel_and_a_new_one_serves() {
    let violations: [fn(&Channel); 4] = [
        |auth| assert!(send(auth, &[0xFF; 64], SendFlags::empty()).is_ok()),
        |auth| assert!(send(auth, &[0; 20_000], SendFlags::empty()).is_ok()),
        |auth| assert!(send(auth, &[1], SendFlags::empty()).is_ok()),
        |auth| {
            let (one, _other) = UnixStream::pair().unwrap();
            let forged = ToSpawner::Auth;
            auth.send(&forged, &[one.as_fd()]).unwrap();
        },
    ];
    let mut rig = Rig::new(|_| {});
    let mut bystander = rig.log_in().hand_over(b"");
    for violate in violations {
        violate(&rig.auth);
        rig.log("auth channel closed");
        rig.new_auth();
    }
    assert_eq!(say(&mut bystander, "QUIT"), "+OK 2 messages (46 octets)");
    assert_eq!(rest(bystander), "+OK\r\n");
    rig.assert_serves();
}

fn a_maildrop_process_that_is_killed_harms_nobody_and_frees_the_maildrop() {
    let mut rig = Rig::new(|_| {});
    let mut login = rig.log_in();
    let mut client = login.hand_over(b"");
    assert_eq!(say(&mut client, "DELE 1"), "+OK 2 messages (46 octets)");
    assert_eq!(say(&mut client, "NOOP"), "+OK");
    rig.kill_maildrop_process();
    login.assert_lease_ends();
    rig.log("maildrop process died");
    assert_eq!(rig.mailbox(), MAIL);
    rig.assert_serves();
}

fn a_connection_counts_until_the_update_of_its_killed_process_is_finished() {
    let mut rig = Rig::with_large_mailbox(|_| {});
    let mut login = rig.log_in();
    let client = login.hand_over(b"DELE 1\r\nQUIT\r\n");
    rig.stop_in_update();
    // What the spawner has not looked at yet counts as well.
    rig.signal_spawner(Signal::STOP);
    rig.kill_maildrop_process();
    login.assert_lease_is_held();
    rig.signal_spawner(Signal::CONT);
    rig.log("update finished that had been interrupted");
    login.assert_lease_ends();
    assert!(rig.mailbox() == large_rest());
    drop(client);
}

fn an_update_keeps_its_mailbox_while_no_process_can_be_forked_for_it() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: only root sees which descriptors the spawner has");
    }
    let mut rig = Rig::with_large_mailbox(|_| {});
    let mut login = rig.log_in();
    let client = login.hand_over(b"DELE 1\r\nQUIT\r\n");
    rig.stop_in_update();
    // Two are for the mailbox and the lease. A channel to another process takes two as well.
    rig.leave_descriptors(2);
    rig.kill_maildrop_process();
    rig.log("update put off");
    let path = rig.mailbox_path();
    let file = File::options().read(true).write(true).open(path).unwrap();
    assert!(!confine::lock::try_lock_exclusive(file.as_fd()).unwrap());
    login.assert_lease_is_held();
    rig.limit_descriptors(MAX_DESCRIPTORS);
    rig.log("update finished that had been interrupted");
    login.assert_lease_ends();
    assert!(rig.mailbox() == large_rest());
    drop(client);
}

fn there_are_hardly_more_maildrop_processes_than_sessions_whatever_became_of_their_leases() {
    let mut rig = Rig::new(|configuration| configuration.sessions = 2);
    let mut elsewhere = |number: usize| {
        rig.log_in_as(|account| {
            account.maildrop = Some(format!("mbox:{}/{number}", account.home));
        })
    };
    // As many as that, and 128 for those that come and go.
    let mut logins: Vec<Login> = (0..130).map(&mut elsewhere).collect();
    let refused = elsewhere(130);
    rig.log("no maildrop process");
    assert_eq!(rest(refused.stream), "");
    drop(logins.pop());
    rig.log("maildrop process died");
    rig.assert_serves();
}

fn sessions_outlive_the_master() {
    let mut rig = Rig::new(|_| {});
    let mut client = rig.log_in().hand_over(b"");
    assert_eq!(say(&mut client, "NOOP"), "+OK 2 messages (46 octets)");
    let mut late = rig.log_in_as(|account| {
        account.maildrop = Some(format!("mbox:{}/none", account.home));
    });
    rig.close_control();
    assert_eq!(say(&mut client, "NOOP"), "+OK");
    // Auth is still there, with a session that was under way.
    assert_eq!(
        rest(late.hand_over(b"QUIT\r\n")),
        "+OK 0 messages (0 octets)\r\n+OK\r\n"
    );
    assert_eq!(say(&mut client, "QUIT"), "+OK");
    assert_eq!(rest(client), "+OK\r\n");
}
