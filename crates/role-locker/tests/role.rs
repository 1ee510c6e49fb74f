//! The locker, driven over its channels by a test that plays everybody else: the master, spawners and maildrop processes
//! honest and hostile.
//!
//! Without the usual harness, because fork(2) wants a process without threads.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use confine::channel::{Channel, Message, Received};
use confine::identity::Identity;
use confine::process::{self, Pid, Signal};
use messages::locker::{
    LockAnswer, LockOutcome, LockRequest, LockerConfig, NewMailbox, ToLocker, Wanted,
};
use messages::log::Record;
use messages::role::Confinement;
use rustix::event::{Timespec, poll};
use serde::{Deserialize, Serialize};
use startup::testing::{self, PATIENCE, receive, wait_for};

/// Who the locker is, and whose group the spool has, where the test runs as root.
const LOCKER: u32 = 12_346;
const MAIL: u32 = 12_347;

fn main() -> ExitCode {
    let wanted = std::env::args().skip(1).find(|it| !it.starts_with('-'));
    let all: [(&str, fn()); 8] = [
        (
            "a_lock_is_made_as_liblockfile_makes_it_and_given_up",
            a_lock_is_made_as_liblockfile_makes_it_and_given_up,
        ),
        (
            "a_lock_lasts_until_nobody_holds_the_channel",
            a_lock_lasts_until_nobody_holds_the_channel,
        ),
        (
            "who_recovers_finds_the_lock_held_and_knows_its_answers",
            who_recovers_finds_the_lock_held_and_knows_its_answers,
        ),
        (
            "anothers_lock_is_respected_until_it_is_old",
            anothers_lock_is_respected_until_it_is_old,
        ),
        (
            "a_spawner_cannot_name_what_is_no_mailbox_of_the_spool",
            a_spawner_cannot_name_what_is_no_mailbox_of_the_spool,
        ),
        (
            "who_breaks_the_rules_loses_channel_and_lock",
            who_breaks_the_rules_loses_channel_and_lock,
        ),
        (
            "who_does_not_read_loses_channel_and_lock",
            who_does_not_read_loses_channel_and_lock,
        ),
        (
            "locks_outlive_master_and_spawner",
            locks_outlive_master_and_spawner,
        ),
    ];
    let mut ran = 0;
    for (name, test) in all {
        if wanted.as_ref().is_some_and(|wanted| !name.contains(wanted)) {
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

fn a_lock_is_made_as_liblockfile_makes_it_and_given_up() {
    let rig = Rig::new();
    let joe = rig.mailbox("joe");
    assert_eq!(ask(&joe, Wanted::Lock), LockOutcome::Locked);
    let lock = rig.at("joe.lock");
    let metadata = fs::metadata(&lock).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o644);
    let pid = rig.pid.as_raw_nonzero().to_string();
    assert_eq!(fs::read_to_string(&lock).unwrap().trim_end(), pid);
    if is_root() {
        assert_eq!((metadata.uid(), metadata.gid()), (LOCKER, MAIL));
    }
    let second = rig.mailbox("joe");
    assert_eq!(ask(&second, Wanted::Lock), LockOutcome::Busy);
    assert_eq!(ask(&rig.mailbox("ann"), Wanted::Lock), LockOutcome::Locked);
    assert_eq!(ask(&joe, Wanted::Unlock), LockOutcome::Unlocked);
    assert!(!lock.exists());
    assert_eq!(ask(&joe, Wanted::Unlock), LockOutcome::Unlocked);
    assert_eq!(ask(&second, Wanted::Lock), LockOutcome::Locked);
}

fn a_lock_lasts_until_nobody_holds_the_channel() {
    let rig = Rig::new();
    let joe = rig.mailbox("joe");
    assert_eq!(ask(&joe, Wanted::Lock), LockOutcome::Locked);
    // As the spawner keeps it.
    let kept = joe.as_fd().try_clone_to_owned().unwrap();
    drop(joe);
    assert_eq!(ask(&rig.mailbox("joe"), Wanted::Lock), LockOutcome::Busy);
    drop(kept);
    rig.await_gone("joe.lock");
}

fn who_recovers_finds_the_lock_held_and_knows_its_answers() {
    let rig = Rig::new();
    let joe = rig.mailbox("joe");
    let request = |number, wanted| LockRequest { number, wanted };
    // Its answer is never read by who asked.
    joe.send(&request(1, Wanted::Lock), &[]).unwrap();
    joe.send(&request(2, Wanted::Lock), &[]).unwrap();
    for number in [1, 2] {
        let outcome = LockOutcome::Locked;
        assert_eq!(receive::<LockAnswer>(&joe), LockAnswer { number, outcome });
    }
}

fn anothers_lock_is_respected_until_it_is_old() {
    let rig = Rig::new();
    let joe = rig.mailbox("joe");
    for (content, seconds, outcome) in [
        ("1\n", 0, LockOutcome::Busy),
        ("0", 290, LockOutcome::Busy),
        ("", 301, LockOutcome::Locked),
    ] {
        let lock = File::create(rig.at("joe.lock")).unwrap();
        fs::write(rig.at("joe.lock"), content).unwrap();
        lock.set_modified(SystemTime::now() - Duration::from_secs(seconds))
            .unwrap();
        assert_eq!(ask(&joe, Wanted::Lock), outcome, "{content:?}, {seconds} s");
    }
}

/// What a spawner that has been taken over could put on the wire.
#[derive(Serialize, Deserialize)]
struct Forged(String);

impl Message for Forged {
    const MAX_OCTETS: usize = 4096;

    fn descriptors(&self) -> usize {
        1
    }
}

fn a_spawner_cannot_name_what_is_no_mailbox_of_the_spool() {
    let mut rig = Rig::new();
    fs::create_dir(rig.directory.path().join("elsewhere")).unwrap();
    let bystander = rig.mailbox("ann");
    assert_eq!(ask(&bystander, Wanted::Lock), LockOutcome::Locked);
    let too_long = "a".repeat(251);
    for name in [
        "../elsewhere/x",
        "..",
        "",
        "a/b",
        "/tmp/x",
        "x\0y",
        &too_long,
    ] {
        let (ours, theirs) = Channel::pair().unwrap();
        rig.spawner
            .send(&Forged(name.to_owned()), &[theirs.as_fd()])
            .unwrap();
        drop(theirs);
        rig.await_log("bad message");
        let request = LockRequest {
            number: 0,
            wanted: Wanted::Lock,
        };
        assert!(ours.send(&request, &[]).is_err(), "{name:?}");
        rig.new_spawner();
    }
    assert!(rig.at("ann.lock").exists());
    let elsewhere = fs::read_dir(rig.directory.path().join("elsewhere")).unwrap();
    assert_eq!(elsewhere.count(), 0);
    assert_eq!(ask(&rig.mailbox("joe"), Wanted::Lock), LockOutcome::Locked);
}

fn who_breaks_the_rules_loses_channel_and_lock() {
    let rig = Rig::new();
    for octets in [&[0xFF; 16][..], &[0; 200], &[1]] {
        let joe = rig.mailbox("joe");
        assert_eq!(ask(&joe, Wanted::Lock), LockOutcome::Locked);
        rustix::net::send(&joe, octets, rustix::net::SendFlags::empty()).unwrap();
        rig.await_gone("joe.lock");
        wait_for(&joe);
        assert!(matches!(joe.receive::<LockAnswer>(), Ok(Received::Closed)));
    }
    assert_eq!(ask(&rig.mailbox("joe"), Wanted::Lock), LockOutcome::Locked);
}

fn who_does_not_read_loses_channel_and_lock() {
    let rig = Rig::new();
    let joe = rig.mailbox("joe");
    let request = LockRequest {
        number: 0,
        wanted: Wanted::Lock,
    };
    // In the end the locker has no room for an answer, and nobody receives the next request.
    while joe.send(&request, &[]).is_ok() {}
    rig.await_gone("joe.lock");
    assert_eq!(ask(&rig.mailbox("joe"), Wanted::Lock), LockOutcome::Locked);
}

fn locks_outlive_master_and_spawner() {
    let mut rig = Rig::new();
    let joe = rig.mailbox("joe");
    assert_eq!(ask(&joe, Wanted::Lock), LockOutcome::Locked);
    rig.control = None;
    let late = rig.mailbox("ann");
    rig.new_spawner_of_nobody();
    assert_eq!(ask(&late, Wanted::Lock), LockOutcome::Locked);
    assert_eq!(ask(&joe, Wanted::Unlock), LockOutcome::Unlocked);
    drop(joe);
    drop(late);
    let status = process::wait(rig.pid).unwrap();
    assert!(status.success(), "{status}");
    rig.has_ended = true;
    assert!(!rig.at("ann.lock").exists());
}

/// A locker with everybody around it.
struct Rig {
    control: Option<Channel>,
    log: Channel,
    spawner: Channel,
    pid: Pid,
    has_ended: bool,
    directory: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let spool = directory.path().join("spool");
        fs::create_dir(&spool).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&spool, fs::Permissions::from_mode(0o2775)).unwrap();
        let identity = is_root().then(|| {
            chown(&spool, Some(0), Some(MAIL)).unwrap();
            let gid = MAIL.try_into().unwrap();
            Identity {
                uid: LOCKER.try_into().unwrap(),
                gid,
                groups: vec![gid],
            }
        });
        // chown(2) takes the bit away where the group is not the caller's.
        fs::set_permissions(&spool, fs::Permissions::from_mode(0o2775)).unwrap();

        let confinement = Confinement {
            identity,
            ..testing::as_caller()
        };
        let configuration = LockerConfig { directory: spool };
        let role = testing::start(role_locker::run, confinement, configuration);
        testing::await_ready(&role.control);
        Self {
            spawner: spawner(&role.control),
            control: Some(role.control),
            log: role.log,
            pid: role.pid,
            has_ended: false,
            directory,
        }
    }

    fn new_spawner(&mut self) {
        self.spawner = spawner(self.control.as_ref().unwrap());
    }

    /// The spawner goes, and no other comes.
    fn new_spawner_of_nobody(&mut self) {
        self.spawner = Channel::pair().unwrap().0;
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join("spool").join(name)
    }

    /// A channel by which this mailbox can be locked.
    fn mailbox(&self, name: &str) -> Channel {
        let (ours, theirs) = Channel::pair().unwrap();
        let name = name.to_owned().try_into().unwrap();
        self.spawner
            .send(&NewMailbox { name }, &[theirs.as_fd()])
            .unwrap();
        ours
    }

    fn await_log(&self, event: &str) {
        while receive::<Record>(&self.log).event != event {}
    }

    fn await_gone(&self, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.at(name).exists() {
            assert!(Instant::now() < deadline, "{name} stays");
            let _ = poll(
                &mut [],
                Some(&Timespec::try_from(Duration::from_millis(2)).unwrap()),
            );
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !self.has_ended {
            let _ = process::kill(self.pid, Signal::KILL);
            let _ = process::wait(self.pid);
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn spawner(control: &Channel) -> Channel {
    let (ours, theirs) = Channel::pair().unwrap();
    control.send(&ToLocker::Spawner, &[theirs.as_fd()]).unwrap();
    ours
}

fn ask(mailbox: &Channel, wanted: Wanted) -> LockOutcome {
    mailbox
        .send(&LockRequest { number: 7, wanted }, &[])
        .unwrap();
    let answer = receive::<LockAnswer>(mailbox);
    assert_eq!(answer.number, 7);
    answer.outcome
}
