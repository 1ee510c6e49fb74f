//! The played master, auth, sessions and clients.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use confine::channel::Channel;
use confine::handover;
use confine::process::{self, Pid, Signal};
use messages::log::Record;
use messages::session::{Advertised, Cleartext, CleartextPolicy, HandedOver};
use messages::spawner::{MailboxLock, SpawnerConfig, StartMaildrop, ToSpawner, Utf8Headers};
use messages::{Account, Rights, SessionId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit};
use sha2::{Digest, Sha256};
use startup::testing::{self, PATIENCE, receive, wait_for};

/// Two messages, of 23 octets each as on the wire.
pub const MAIL: &str = "From a\nSubject: first\n\none\n\nFrom b\nSubject: other\n\ntwo\n\n";

/// The uid and gid of the mail where the test runs as root.
const USER: u32 = 12_345;

/// More descriptors than the spawner of a test needs.
pub const MAX_DESCRIPTORS: u64 = 256;

/// Octets of a journal's slot. The third record, which says that an update is done, is in the second one.
const JOURNAL_SLOT: usize = 4096;

/// Octets of the sum that a slot begins with.
const RECORD_SUM: usize = 32;

/// Where the place of the mailbox begins in the slot of a last record: with its length.
const RECORD_PLACE: usize = 145;

/// A spawner with everybody around it.
pub struct Rig {
    control: Option<Channel>,
    log: Channel,
    pub auth: Channel,
    pid: Pid,
    directory: tempfile::TempDir,
    next_id: u64,
}

/// A login that auth has told the spawner of, seen from the session.
pub struct Login {
    pub stream: UnixStream,
    lease: Lease,
}

/// The end of a lease that sees when nobody holds it any more.
pub struct Lease(OwnedFd);

impl Lease {
    pub fn assert_ends(&self) {
        wait_for(&self.0);
        assert_eq!(rustix::io::read(&self.0, &mut [0; 1]), Ok(0));
    }
}

/// A large message behind a small one: to move it down takes time.
fn large_mail() -> String {
    format!("From a\nSubject: first\n\none\n\n{}", large_rest())
}

/// What is left when the small one is deleted.
pub fn large_rest() -> String {
    let line = format!("{}\n", "x".repeat(63));
    format!("From b\nSubject: other\n\n{}\n", line.repeat(1 << 20))
}

impl Rig {
    /// A spawner whose one user has a large mailbox.
    pub fn with_large_mailbox(change: impl FnOnce(&mut SpawnerConfig)) -> Self {
        let rig = Self::new(|configuration| {
            configuration.octets = 1 << 30;
            configuration.work_octets = 1 << 30;
            change(configuration);
        });
        rig.set_mailbox(&large_mail());
        rig
    }

    /// Stops the one maildrop process, which has been told to delete, while it moves mail.
    pub fn stop_in_update(&self) {
        let deadline = Instant::now() + PATIENCE;
        let has_record = |journal: &PathBuf| {
            let mut slot = [0; JOURNAL_SLOT];
            let file = File::open(journal).unwrap();
            // The first record is in the second slot.
            file.read_exact_at(&mut slot, JOURNAL_SLOT as u64).is_ok() && slot[0..8] != [0; 8]
        };
        while !self.journals().iter().any(has_record) {
            assert!(Instant::now() < deadline, "no update");
            std::thread::yield_now();
        }
        process::kill(self.child(), Signal::STOP).unwrap();
        let length = fs::metadata(self.mailbox_path()).unwrap().len();
        assert_eq!(length, large_mail().len() as u64, "updated already");
    }

    pub fn signal_spawner(&self, signal: Signal) {
        process::kill(self.pid, signal).unwrap();
    }

    /// A spawner whose one user has [`MAIL`].
    pub fn new(change: impl FnOnce(&mut SpawnerConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["locks", "index", "ids", "journal", "mail"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("mail/joe"), MAIL).unwrap();
        if is_root() {
            for name in ["mail", "mail/joe"] {
                chown(at(name), Some(USER), Some(USER)).unwrap();
            }
        }
        let mut configuration = SpawnerConfig {
            sessions: 100,
            login_timeout: PATIENCE,
            location: format!("mbox:{}/mail/%u", directory.path().display()),
            lock: MailboxLock::Fcntl,
            dotlock: false,
            locker_directory: None,
            lock_timeout: Duration::from_secs(1),
            messages: 1000,
            octets: 1 << 20,
            work_octets: 1 << 20,
            idle_timeout: PATIENCE,
            errors: 10,
            utf8_headers: Utf8Headers::AsIs,
            delete_grace: Duration::ZERO,
            hide_older: Duration::ZERO,
            hide_acknowledged: false,
            last: true,
            session_locks: at("locks"),
            indexes: at("index"),
            unique_ids: at("ids"),
            journals: at("journal"),
            advertised: Advertised {
                cleartext: CleartextPolicy {
                    rule: Cleartext::Always,
                    networks: Vec::new(),
                },
                mechanisms: Vec::new(),
                login_delay: None,
                expire: None,
                implementation: None,
            },
        };
        change(&mut configuration);

        let role = testing::start(role_maildrop::run, testing::as_caller(), configuration);
        testing::await_ready(&role.control);
        let mut rig = Self {
            auth: new_auth(&role.control),
            control: Some(role.control),
            log: role.log,
            pid: role.pid,
            directory,
            next_id: 0,
        };
        rig.next_id = 1;
        rig
    }

    /// A new channel from auth, as after its restart.
    pub fn new_auth(&mut self) {
        self.auth = new_auth(self.control.as_ref().unwrap());
    }

    /// The master goes.
    pub fn close_control(&mut self) {
        self.control = None;
    }

    pub fn log_in(&mut self) -> Login {
        self.log_in_as(|_| {})
    }

    /// Tells the spawner that joe has logged in, with an account changed so.
    pub fn log_in_as(&mut self, change: impl FnOnce(&mut Account)) -> Login {
        let id = if is_root() {
            USER
        } else {
            rustix::process::geteuid().as_raw()
        };
        let gid = if is_root() {
            USER
        } else {
            rustix::process::getegid().as_raw()
        };
        let mut account = Account {
            name: "joe".into(),
            uid: id.try_into().unwrap(),
            gid: gid.try_into().unwrap(),
            home: self.directory.path().join("mail").display().to_string(),
            maildrop: None,
            rights: Rights::Full,
        };
        change(&mut account);
        let order = StartMaildrop {
            id: SessionId(self.next_id),
            peer: Some("192.0.2.1:1024".parse().unwrap()),
            account,
            certificate_shown: false,
        };
        self.next_id += 1;
        let (stream, theirs) = UnixStream::pair().unwrap();
        let (lease, holder) = rustix::pipe::pipe().unwrap();
        self.auth
            .send(&order, &[theirs.as_fd(), holder.as_fd()])
            .unwrap();
        Login {
            stream,
            lease: Lease(lease),
        }
    }

    /// One whole session works.
    pub fn assert_serves(&mut self) {
        let client = self.log_in().hand_over(b"QUIT\r\n");
        let replies = rest(client);
        assert!(
            replies.starts_with("+OK ") && replies.ends_with("+OK\r\n"),
            "{replies}"
        );
    }

    /// A mailbox of joe's with an update that was interrupted before its last step: a session deletes the first message, and
    /// then the cut of the mailbox and the last record of the journal are undone.
    pub fn interrupt_update(&mut self, number: usize) -> PathBuf {
        let path = self.directory.path().join(format!("mail/{number}"));
        fs::write(&path, MAIL).unwrap();
        if is_root() {
            chown(&path, Some(USER), Some(USER)).unwrap();
        }
        let location = format!("mbox:{}", path.display());
        let before = self.journals();
        let client = self
            .log_in_as(|account| account.maildrop = Some(location))
            .hand_over(b"DELE 1\r\nQUIT\r\n");
        assert!(rest(client).ends_with("+OK\r\n"));
        let mut new = self.journals();
        new.retain(|journal| !before.contains(journal));
        let open = |path: &Path| File::options().write(true).open(path).unwrap();
        open(&new[0])
            .write_all_at(&[0; JOURNAL_SLOT], JOURNAL_SLOT as u64)
            .unwrap();
        open(&path).set_len(MAIL.len() as u64).unwrap();
        path
    }

    /// A journal with the last record of the one there is, but of another place, as its user's processes could write it. Its
    /// name is no mailbox's.
    pub fn forge_journal(&self, number: u128, place: &str) {
        let journals = self.journals();
        let mut octets = fs::read(&journals[0]).unwrap();
        let (slot, _) = octets.split_at_mut(JOURNAL_SLOT);
        slot[RECORD_PLACE..].fill(0);
        let length = (place.len() as u64).to_le_bytes();
        slot[RECORD_PLACE..][..8].copy_from_slice(&length);
        slot[RECORD_PLACE + 8..][..place.len()].copy_from_slice(place.as_bytes());
        let sum = Sha256::digest(&slot[RECORD_SUM..]);
        slot[..RECORD_SUM].copy_from_slice(&sum);
        let whose = journals[0].file_stem().unwrap().to_str().unwrap();
        fs::write(
            journals[0].with_file_name(format!("{whose}.{number:032x}")),
            octets,
        )
        .unwrap();
    }

    fn journals(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory.path().join("journal")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// From the master.
    pub fn send(&self, message: &ToSpawner) {
        self.control.as_ref().unwrap().send(message, &[]).unwrap();
    }

    /// Waits until the spawner's children are these, by their names.
    pub fn await_children(&self, expected: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut found: Vec<String> = self
                .children()
                .into_iter()
                // One may have gone meanwhile.
                .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok())
                .map(|name| name.trim().to_owned())
                .collect();
            found.sort();
            if found == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{found:?}");
            std::thread::yield_now();
        }
    }

    fn children(&self) -> Vec<i32> {
        let pid = self.pid.as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let children = children.split_whitespace();
        children.map(|pid| pid.parse().unwrap()).collect()
    }

    /// The next record with this event, as its `end` or `reason` and the whole; those before it are skipped.
    pub fn log(&self, event: &str) -> (String, Record) {
        loop {
            let record = receive::<Record>(&self.log);
            if record.event == event {
                let said = record
                    .fields
                    .iter()
                    .find(|(key, _)| key == "end" || key == "reason")
                    .map(|(_, value)| value.clone());
                return (said.unwrap_or_default(), record);
            }
        }
    }

    /// Limits the spawner's descriptors so that it can have so many more.
    pub fn leave_descriptors(&self, more: usize) {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_nonzero())).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        let used: Vec<u64> = names
            .map(|name| name.to_str().unwrap().parse().unwrap())
            .collect();
        let mut free = (0..).filter(|number| !used.contains(number));
        self.limit_descriptors(free.nth(more).unwrap());
    }

    /// Sets that limit.
    pub fn limit_descriptors(&self, limit: u64) {
        let limit = Rlimit {
            current: Some(limit),
            maximum: Some(MAX_DESCRIPTORS),
        };
        rustix::process::prlimit(Some(self.pid), Resource::Nofile, limit).unwrap();
    }

    pub fn mailbox_path(&self) -> PathBuf {
        self.directory.path().join("mail/joe")
    }

    pub fn mailbox(&self) -> String {
        fs::read_to_string(self.mailbox_path()).unwrap()
    }

    /// Puts other mail in the mailbox, in place.
    pub fn set_mailbox(&self, mail: &str) {
        fs::write(self.mailbox_path(), mail).unwrap();
    }

    /// What is kept of maildrops, but locks: names and contents.
    pub fn remembered(&self) -> Vec<(String, Vec<u8>)> {
        let directories = ["index", "ids", "journal"].map(|name| self.directory.path().join(name));
        let mut files: Vec<_> = directories
            .iter()
            .flat_map(|directory| fs::read_dir(directory).unwrap())
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.display().to_string(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    }

    /// Kills the one child of the spawner.
    pub fn kill_maildrop_process(&self) {
        let child = process::open_pidfd(self.child()).unwrap();
        process::kill(self.child(), Signal::KILL).unwrap();
        // Until it has ended, which is not to say that the spawner has noticed.
        wait_for(&child);
    }

    fn child(&self) -> Pid {
        let [child] = self.children()[..] else {
            panic!("{:?}", self.children());
        };
        Pid::from_raw(child).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // One that a failed test has stopped would not end by itself.
        for child in self.children() {
            let _ = process::kill(Pid::from_raw(child).unwrap(), Signal::KILL);
        }
        let _ = process::kill(self.pid, Signal::KILL);
        let _ = process::wait(self.pid);
    }
}

impl Login {
    /// Hands a client over with what it has sent already, and returns the client's end.
    pub fn hand_over(&mut self, pipelined: &[u8]) -> UnixStream {
        let (client, theirs) = UnixStream::pair().unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let handed_over = HandedOver {
            utf8: false,
            pipelined,
        };
        handover::send(
            self.stream.as_fd(),
            &handed_over.encode(),
            &[theirs.as_fd()],
        )
        .unwrap();
        client
    }

    /// The session ends without having handed anything over.
    pub fn abandon(self) -> Lease {
        self.lease
    }

    pub fn assert_lease_is_held(&self) {
        let nothing = poll(
            &mut [PollFd::new(&self.lease.0, PollFlags::IN)],
            Some(&Timespec::default()),
        );
        assert_eq!(nothing, Ok(0));
    }

    pub fn assert_lease_ends(&mut self) {
        self.lease.assert_ends();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn new_auth(control: &Channel) -> Channel {
    let (auth, theirs) = Channel::pair().unwrap();
    control.send(&ToSpawner::Auth, &[theirs.as_fd()]).unwrap();
    auth
}

/// Sends a command, and gives the next reply's line: with a reply to PASS waiting, that one comes first.
pub fn say(client: &mut UnixStream, command: &str) -> String {
    client
        .write_all(format!("{command}\r\n").as_bytes())
        .unwrap();
    let mut line = String::new();
    // One octet at a time: nothing may be read that belongs to the next reply.
    BufReader::with_capacity(1, &*client)
        .read_line(&mut line)
        .unwrap();
    line.trim_end().to_owned()
}

/// Everything that still comes, up to the end of the connection.
pub fn rest(mut client: UnixStream) -> String {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}
