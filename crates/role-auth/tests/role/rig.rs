//! The played master, session spawner, sessions and spawner.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use confine::channel::{Channel, Received};
use confine::process::{self, Pid};
use messages::auth::{
    Attempt, AuthConfig, Backend, DecoyKey, Denial, ExternalUser, Handshake, NewSession,
    ServerRandom, TlsFacts, ToAuth, Verdict,
};
use messages::log::Record;
use messages::role::Confinement;
use messages::session::LOGGED_IN;
use messages::spawner::StartMaildrop;
use messages::{Account, SaslMechanism, Secret, SessionId};
use startup::testing::{self, receive_with};
pub use startup::testing::{PATIENCE, receive, wait_for};

/// `secret`, at a cost of a millisecond or so.
pub const CHEAP_HASH: &str = "$6$rounds=1000$salt$HNxBeBnDfSfUrTj6KiLnmd7tGCvHEmcExh8kl/S0cZ5WrCciNZgfhbpkeFQ4JfkHX.8vPq45lY0iINnCx1Lkm.";

/// An auth process with everybody around it.
pub struct Rig {
    pub control: Channel,
    pub log: Channel,
    pub session_spawner: Channel,
    pub spawner: Channel,
    pub pid: Pid,
    pub directory: tempfile::TempDir,
    next_id: u64,
}

/// A session, seen from itself.
pub struct Session {
    pub channel: Channel,
    /// The end of the lease that sees when nobody holds it any more.
    pub lease: OwnedFd,
    pub id: SessionId,
}

/// The uid and gid that test accounts have where the test does not say.
pub const USER: u32 = 12_345;

/// One account for servers that are not root's; a server of root has none.
pub fn own() -> Option<Account> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    Some(Account {
        name: "me".to_owned(),
        uid: uid.as_raw().try_into().ok()?,
        gid: gid.as_raw().try_into().ok()?,
        home: "/home/me".to_owned(),
        maildrop: None,
        rights: messages::Rights::Full,
    })
}

/// The ids that a line of a users file has in a test: everybody's own, or made-up ones as root.
pub fn ids() -> String {
    own().map_or(format!("{USER}:{USER}"), |own| {
        format!("{}:{}", own.uid, own.gid)
    })
}

/// Users files, five workers, no delay.
pub fn configuration(directory: &Path) -> AuthConfig {
    AuthConfig {
        backends: vec![Backend::UsersFile],
        users_file: directory.join("users"),
        pam_service: "popa3d-test".to_owned(),
        apop_secrets: None,
        app_passwords: None,
        derived_verifiers: None,
        address_domains: None,
        mechanisms: SaslMechanism::ALL.to_vec(),
        external_user: Some(ExternalUser::MailAddress),
        decoy_key: DecoyKey([7; 32]),
        tokens: None,
        login_attempts: 3,
        failure_delay: Duration::ZERO,
        workers: 5,
        dummy_setting: None,
        login_delay: Duration::ZERO,
        cache: Duration::ZERO,
        own: own(),
    }
}

/// Writes a file that only its owner may read.
pub fn write_private(path: &Path, contents: &str) {
    let new = path.with_extension("new");
    fs::write(&new, contents).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&new, path).unwrap();
}

impl Rig {
    /// An auth that knows `joe` and `ann`, both with the password `secret`.
    pub fn new(change: impl FnOnce(&mut AuthConfig)) -> Self {
        let ids = ids();
        let users =
            format!("joe:{CHEAP_HASH}:{ids}:/home/joe\nann:{CHEAP_HASH}:{ids}\nout:!:{ids}\n");
        Self::with_users(&users, change)
    }

    /// An auth with this users file.
    pub fn with_users(users: &str, change: impl FnOnce(&mut AuthConfig)) -> Self {
        Self::confined(users, testing::as_caller(), change)
    }

    /// An auth with this users file that confines itself so.
    pub fn confined(
        users: &str,
        confinement: Confinement,
        change: impl FnOnce(&mut AuthConfig),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        write_private(&directory.path().join("users"), users);
        let mut configuration = configuration(directory.path());
        change(&mut configuration);

        let role = testing::start(role_auth::run, confinement, configuration);
        let (control, log, pid) = (role.control, role.log, role.pid);
        testing::await_ready(&control);
        let (session_spawner, theirs) = Channel::pair().unwrap();
        control
            .send(&ToAuth::SessionSpawner, &[theirs.as_fd()])
            .unwrap();
        let (spawner, theirs) = Channel::pair().unwrap();
        control.send(&ToAuth::Spawner, &[theirs.as_fd()]).unwrap();
        Self {
            control,
            log,
            session_spawner,
            spawner,
            pid,
            directory,
            next_id: 1,
        }
    }

    /// A new session of a client.
    pub fn session(&mut self) -> Session {
        self.session_at("192.0.2.99:110", None)
    }

    /// A new session of a client with this address.
    pub fn session_of(&mut self, peer: Option<&str>) -> Session {
        let peer = peer.map(|peer| peer.parse().unwrap());
        self.announce(peer, "192.0.2.99:110", None)
    }

    /// A new session of a client that connected to `local` and was greeted with `apop_timestamp`.
    pub fn session_at(&mut self, local: &str, apop_timestamp: Option<&str>) -> Session {
        let peer = Some("192.0.2.1:1024".parse().unwrap());
        self.announce(peer, local, apop_timestamp)
    }

    fn announce(
        &mut self,
        peer: Option<SocketAddr>,
        local: &str,
        apop_timestamp: Option<&str>,
    ) -> Session {
        let lease = rustix::pipe::pipe().unwrap();
        self.announce_with(lease, peer, local, apop_timestamp)
    }

    /// A session whose lease is this pipe.
    pub fn session_with_lease(&mut self, lease: OwnedFd, holder: OwnedFd) -> Session {
        let peer = Some("192.0.2.1:1024".parse().unwrap());
        self.announce_with((lease, holder), peer, "192.0.2.99:110", None)
    }

    fn announce_with(
        &mut self,
        (lease, holder): (OwnedFd, OwnedFd),
        peer: Option<SocketAddr>,
        local: &str,
        apop_timestamp: Option<&str>,
    ) -> Session {
        let id = SessionId(self.next_id);
        self.next_id += 1;
        let (channel, theirs) = Channel::pair().unwrap();
        let announced = NewSession {
            id,
            peer,
            local: Some(local.parse().unwrap()),
            apop_timestamp: apop_timestamp.map(str::to_owned),
        };
        self.session_spawner
            .send(&announced, &[theirs.as_fd(), holder.as_fd()])
            .unwrap();
        Session { channel, lease, id }
    }

    /// The next record with this event; those before it are skipped.
    pub fn log(&self, event: &str) -> Record {
        loop {
            let record = receive::<Record>(&self.log);
            if record.event == event {
                return record;
            }
        }
    }

    /// What the spawner is told, with its end of the stream and the lease.
    pub fn started(&self) -> (StartMaildrop, UnixStream, OwnedFd) {
        let (start, descriptors) = receive_with(&self.spawner);
        let [stream, lease] = descriptors.into_array().unwrap();
        (start, stream.into(), lease)
    }

    /// One login from beginning to end: the account, if it was accepted.
    pub fn log_in(&mut self, user: &str, password: &str) -> Result<Account, Denial> {
        let session = self.session();
        session.send(user, password);
        session.verdict()?;
        Ok(self.started().0.account)
    }

    /// What auth and its workers have computed so far.
    pub fn processor_time(&self) -> Duration {
        let workers = children(self.pid).into_iter().map(processor_time);
        processor_time(self.pid) + workers.sum::<Duration>()
    }

    /// What its one worker has computed so far.
    pub fn worker_time(&self) -> Duration {
        let [worker] = children(self.pid)[..] else {
            panic!("not one worker")
        };
        processor_time(worker)
    }

    /// Asserts that auth still serves.
    pub fn assert_serves(&mut self) {
        assert_eq!(self.log_in("joe", "secret").unwrap().name, "joe");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // A test that closed the control channel and waited has nothing left to be killed.
        let _ = rustix::process::kill_process(self.pid, rustix::process::Signal::KILL);
        let _ = process::wait(self.pid);
    }
}

impl Session {
    /// Sends USER and PASS.
    pub fn send(&self, user: &str, password: &str) {
        let attempt = Attempt::Password {
            user: user.as_bytes().to_vec(),
            password: Secret::copied_from(password.as_bytes()),
        };
        self.channel.send(&attempt, &[]).unwrap();
    }

    /// Sends APOP.
    pub fn send_apop(&self, user: &str, digest: &str) {
        let attempt = Attempt::Apop {
            user: user.as_bytes().to_vec(),
            digest: Secret::copied_from(digest.as_bytes()),
        };
        self.channel.send(&attempt, &[]).unwrap();
    }

    /// Waits for the verdict: the stream to the maildrop process, or why not.
    pub fn verdict(&self) -> Result<UnixStream, Denial> {
        match receive_with(&self.channel) {
            (Verdict::Accepted, descriptors) => {
                let [stream] = descriptors.into_array().unwrap();
                Ok(stream.into())
            }
            (Verdict::Denied(denial), _) => Err(denial),
            (Verdict::Challenge(octets), _) => panic!("challenge: {}", octets.escape_ascii()),
            (Verdict::ServerRandom(_), _) => panic!("a random number"),
        }
    }

    /// Sends AUTH.
    pub fn start(&self, mechanism: SaslMechanism, initial_response: Option<&[u8]>) {
        self.start_over(mechanism, initial_response, None);
    }

    /// Sends AUTH, claiming TLS.
    pub fn start_over(
        &self,
        mechanism: SaslMechanism,
        initial_response: Option<&[u8]>,
        tls: Option<TlsFacts>,
    ) {
        let attempt = Attempt::SaslStart {
            mechanism,
            initial_response: initial_response.map(Secret::copied_from),
            tls,
        };
        self.channel.send(&attempt, &[]).unwrap();
    }

    /// Answers a challenge.
    pub fn respond(&self, octets: &[u8]) {
        let attempt = Attempt::SaslResponse(Secret::copied_from(octets));
        self.channel.send(&attempt, &[]).unwrap();
    }

    /// Asks for the random number of its handshake.
    pub fn server_random(&self) -> ServerRandom {
        self.channel.send(&Attempt::ServerRandom, &[]).unwrap();
        match receive_with(&self.channel) {
            (Verdict::ServerRandom(random), _) => random,
            (verdict, _) => panic!("no random number: {verdict:?}"),
        }
    }

    /// Claims that this handshake has taken place.
    pub fn show(&self, handshake: Handshake) {
        let handshake = Attempt::Handshake(handshake);
        self.channel.send(&handshake, &[]).unwrap();
    }

    /// Gives an exchange up.
    pub fn cancel(&self) {
        self.channel.send(&Attempt::SaslCancel, &[]).unwrap();
    }

    /// Waits for a challenge, and nothing else.
    pub fn challenge(&self) -> Vec<u8> {
        match receive_with(&self.channel) {
            (Verdict::Challenge(octets), _) => octets,
            (verdict, _) => panic!("no challenge: {verdict:?}"),
        }
    }

    /// Asserts that auth has noted a login in the lease, once.
    pub fn assert_login_noted(&self) {
        wait_for(&self.lease);
        let mut noted = [0; 2];
        assert_eq!(rustix::io::read(&self.lease, &mut noted), Ok(1));
        assert_eq!(noted[..1], LOGGED_IN);
    }

    /// Asserts that auth has closed this session's channel and lease, without another verdict, and without having noted a login
    /// that is not to be expected.
    pub fn assert_ended(&self) {
        wait_for(&self.channel);
        match self.channel.try_receive::<Verdict>() {
            Ok(Some(Received::Closed)) => {}
            other => panic!("the session goes on: {other:?}"),
        }
        assert_released(&self.lease);
    }

    /// Asserts that nothing has come yet.
    pub fn assert_waits(&self) {
        assert!(matches!(self.channel.try_receive::<Verdict>(), Ok(None)));
    }
}

/// Asserts that the last holder of a lease has closed it.
pub fn assert_released(lease: &OwnedFd) {
    wait_for(lease);
    let mut octet = [0];
    assert_eq!(rustix::io::read(lease, &mut octet), Ok(0));
}

/// Asserts that what goes in at one end comes out at the other.
pub fn assert_connected(mut one: UnixStream, mut other: UnixStream) {
    one.write_all(b"+OK\r\n").unwrap();
    drop(one);
    let mut octets = Vec::new();
    other.read_to_end(&mut octets).unwrap();
    assert_eq!(octets, b"+OK\r\n");
}

/// Asserts that refusing a wrong password costs the same processor time for one name as for another: the least that each has
/// ever cost differs by less than a tenth. (Elapsed time would be what an attacker sees, but on a busy machine also what
/// everybody else does.) Neighbours who use the processor's caches and units only add to it, half as much again for minutes, so
/// that the least tells what the work itself costs, once every name has had a quiet moment; names are taken in turn, as often
/// as that needs. Work that is left out for a name, or done twice, never evens out. The rig has one worker, and the hash takes
/// some milliseconds.
pub fn assert_same_cost(rig: &mut Rig, names: &[&str]) {
    const ROUNDS: usize = 31;
    const MAX_ROUNDS: usize = 20 * ROUNDS;
    // The first attempt loads libraries.
    names.iter().for_each(|name| refuse(rig, name));
    let [worker] = children(rig.pid)[..] else {
        panic!("not one worker")
    };
    let mut costs = vec![Duration::MAX; names.len()];
    for round in 1..=MAX_ROUNDS {
        for (name, cost) in names.iter().zip(&mut costs) {
            let before = processor_time(worker);
            refuse(rig, name);
            *cost = (processor_time(worker) - before).min(*cost);
        }
        let (least, most) = (*costs.iter().min().unwrap(), *costs.iter().max().unwrap());
        if round >= ROUNDS && most < least * 11 / 10 {
            println!("    {names:?}: {costs:?} in {round} rounds");
            assert!(least > Duration::from_millis(2), "too cheap to tell");
            return;
        }
    }
    panic!("{names:?}: {costs:?}");
}

fn refuse(rig: &mut Rig, name: &str) {
    assert_eq!(rig.log_in(name, "guess"), Err(Denial::Credentials));
    rig.log("login failed");
}

/// The processes whose parent is `parent`.
pub fn children(parent: Pid) -> Vec<Pid> {
    let is_child = |stat: &str| {
        // Behind the name in parentheses: state, parent.
        let behind = stat.rsplit_once(')')?.1;
        let number: i32 = behind.split_whitespace().nth(1)?.parse().ok()?;
        (number == parent.as_raw_nonzero().get()).then_some(())
    };
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let stat = fs::read_to_string(format!("/proc/{name}/stat")).ok()?;
            is_child(&stat)?;
            Pid::from_raw(name.parse().ok()?)
        })
        .collect()
}

/// What a process has computed up to where it waits again: it may have answered and not be there yet.
fn processor_time(process: Pid) -> Duration {
    let number = process.as_raw_nonzero();
    let read = |name| fs::read_to_string(format!("/proc/{number}/{name}")).unwrap();
    let computed = || -> u64 {
        let schedstat = read("schedstat");
        let nanoseconds = schedstat.split_whitespace().next().unwrap();
        nanoseconds.parse().unwrap()
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let nanoseconds = computed();
        let stat = read("stat");
        let waits = stat.rsplit_once(')').unwrap().1.starts_with(" S");
        if waits && computed() == nanoseconds {
            return Duration::from_nanos(nanoseconds);
        }
        assert!(Instant::now() < deadline, "never waits: {stat}");
        std::thread::yield_now();
    }
}

/// The value of a field.
pub fn field<'a>(record: &'a Record, key: &str) -> Option<&'a str> {
    let found = record.fields.iter().find(|(name, _)| name == key);
    found.map(|(_, value)| value.as_str())
}
