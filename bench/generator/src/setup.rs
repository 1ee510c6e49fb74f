//! What is set up before something is measured: who has mail, which, and the servers started on it.

use crate::accounts::{self, Account};
use crate::client::Client;
use crate::machine::{Machine, Plan};
use crate::mail::{Contents, Format, Mailbox};
use crate::servers::{self, Server, Site};
use crate::transport::Transport;
use crate::{Outcome, options::Options};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest wait for a server to greet.
const MAX_START: Duration = Duration::from_secs(30);

/// Mailboxes of the idle, and of those whose sessions are counted.
pub const POLLED: usize = 100;

/// Mailboxes of the realistic mix.
pub const MIXED: usize = 4;

/// Accounts among which a flood has valid passwords.
pub const FLOODED: usize = 100;

/// The user of the large mailbox.
pub const LARGE: &str = "large";

/// Who has mail. Servers are started anew for each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetUp {
    /// The mailboxes of ordinary users.
    Everyday,
    /// One user, whose mailbox each turn makes anew.
    Large,
    /// As many users as sessions, with one small message each.
    Crowd(usize),
    /// The polite client and the accounts that a flood knows, with the limits that servers have by default.
    Flood,
}

impl SetUp {
    fn users(self) -> Vec<String> {
        match self {
            SetUp::Everyday => {
                let polled = (0..POLLED).map(polled);
                let mixed = (0..MIXED).map(mixed);
                let one = ["retr50k", "retr5m"].map(str::to_owned);
                polled.chain(mixed).chain(one).collect()
            }
            SetUp::Large => vec![LARGE.to_owned()],
            SetUp::Crowd(count) => (0..count).map(|n| format!("crowd{n}")).collect(),
            SetUp::Flood => (0..FLOODED).map(flooded).chain([polled(0)]).collect(),
        }
    }

    fn contents(self, user: &str) -> Option<Contents> {
        match self {
            SetUp::Everyday => Some(everyday_contents(user)),
            SetUp::Large => None,
            SetUp::Crowd(_) => Some(Contents::uniform(1, 1024)),
            SetUp::Flood if user == polled(0) => Some(everyday_contents(user)),
            SetUp::Flood => Some(Contents::uniform(1, 5_000_000)),
        }
    }
}

/// The name of a user with a small mailbox.
pub fn polled(number: usize) -> String {
    format!("poll{number}")
}

/// The name of a user with the realistic mix.
pub fn mixed(number: usize) -> String {
    format!("mix{number}")
}

/// The name of a user whose password a flood knows.
pub fn flooded(number: usize) -> String {
    format!("flood{number}")
}

/// What is in a mailbox of [`SetUp::Everyday`].
pub fn everyday_contents(user: &str) -> Contents {
    match user {
        "retr50k" => Contents::uniform(200, 50_000),
        "retr5m" => Contents::uniform(8, 5_000_000),
        mixed if mixed.starts_with("mix") => Contents::realistic(),
        _ => Contents::uniform(40, 4_096),
    }
}

/// A server that runs, with its mail.
pub struct Instance {
    /// Which.
    pub server: &'static Server,
    /// Of the mail.
    pub format: Format,
    /// Where it runs.
    pub machine: Machine,
    accounts: Vec<Account>,
    rested: Instant,
}

impl Instance {
    /// Sets up a machine, delivers the mail, starts the server and waits until it greets.
    ///
    /// # Errors
    /// It does not, with what it has said.
    pub fn start(
        server: &'static Server,
        format: Format,
        set_up: SetUp,
        options: &Options,
    ) -> Outcome<Instance> {
        let accounts = accounts::named(set_up.users());
        let owner = server.one_owner.then_some(accounts::COMMON_OWNER);
        let machine = Machine::new(Plan {
            name: format!("{}-{}", server.name, format.name()),
            package: server.package.map(|name| options.packages.join(name)),
            accounts: accounts.clone(),
            owner,
            disk: options.disk.clone(),
            files: files(options)?,
        })?;
        let instance = Instance {
            server,
            format,
            machine,
            accounts,
            rested: Instant::now(),
        };
        for account in &instance.accounts {
            if server.name != servers::CEILING
                && let Some(contents) = set_up.contents(&account.name)
            {
                let mailbox = instance.mailbox(&account.name)?;
                instance.machine.run(move || mailbox.fill(&contents))?;
            }
        }
        let site = Site {
            format,
            default_limits: set_up == SetUp::Flood,
        };
        for command in instance.machine.run(move || (server.configure)(&site))? {
            instance.machine.start(&command)?;
        }
        instance.await_greeting()?;
        Ok(instance)
    }

    fn await_greeting(&self) -> Outcome<()> {
        let greeted = self.machine.run(|| {
            let end = Instant::now() + MAX_START;
            loop {
                match Client::connect(Transport::Plain) {
                    Ok(mut client) => return client.ask("QUIT"),
                    Err(error) if Instant::now() > end => return Err(error),
                    Err(_) => std::thread::sleep(Duration::from_millis(20)),
                }
            }
        });
        greeted.map_err(|error| format!("{error}\n{}", self.machine.said()).into())
    }

    /// The mailbox of `user`.
    ///
    /// # Errors
    /// There is no such user.
    pub fn mailbox(&self, user: &str) -> Outcome<Mailbox> {
        let account = self.accounts.iter().find(|account| account.name == user);
        let account = account.ok_or("no such user")?;
        Ok(Mailbox {
            user: account.name.clone(),
            owner: if self.server.one_owner {
                accounts::COMMON_OWNER
            } else {
                account.uid
            },
            format: self.format,
        })
    }

    /// Waits as long as the server wants between two turns.
    pub fn rest(&mut self) {
        std::thread::sleep(self.rested.saturating_duration_since(Instant::now()));
    }

    /// Remembers that a turn has just ended.
    pub fn tire(&mut self) {
        self.rested = Instant::now() + self.server.rest;
    }

    /// Runs `work` inside; returns what it took beside what it returns.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn measure<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Outcome<T> + Send + 'static,
    ) -> Outcome<(Cost, T)> {
        let cgroup = &self.machine.cgroup;
        cgroup.settle();
        let before = cgroup.cpu();
        let (elapsed, result) = self.machine.run(move || {
            let start = Instant::now();
            let result = work()?;
            Ok((start.elapsed(), result))
        })?;
        cgroup.settle();
        let cpu = cgroup.cpu().saturating_sub(before);
        Ok((Cost { elapsed, cpu }, result))
    }
}

fn files(options: &Options) -> Outcome<Vec<(PathBuf, PathBuf)>> {
    let mut files = vec![
        (std::env::current_exe()?, "bench".into()),
        (options.certificate.clone(), "certificate.pem".into()),
        (options.key.clone(), "key.pem".into()),
    ];
    files.extend(installed(&options.program, servers::OURS)?);
    if let Some(other) = &options.other {
        files.extend(installed(other, servers::OTHER)?);
    }
    Ok(files)
}

/// The files of a server of ours, and where they are in the machine, below a directory of this name: its executable, and
/// its others where it is part of an installation.
fn installed(program: &Path, name: &str) -> Outcome<Vec<(PathBuf, PathBuf)>> {
    let place = Path::new(name);
    let mut files = vec![(program.to_owned(), place.join("sbin/popa3d"))];
    let inner = Path::new("libexec/popa3d");
    let directory = program.parent().and_then(Path::parent);
    if let Ok(entries) = directory.unwrap_or(Path::new("/")).join(inner).read_dir() {
        for entry in entries {
            let entry = entry?;
            files.push((entry.path(), place.join(inner).join(entry.file_name())));
        }
    }
    Ok(files)
}

/// What a piece of work took.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// On the clock, as the client sees it.
    pub elapsed: Duration,
    /// Of all processors, by the server's processes.
    pub cpu: Duration,
}
