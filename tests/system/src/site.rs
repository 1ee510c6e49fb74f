//! A place where the server can run: configuration, users and maildrops, on a private machine as root or as an
//! ordinary user. Where the tests are not root, only the latter exists, on the real machine in a scratch directory.

use crate::inetd::{self, Session};
use crate::machine::{self, Machine};
use crate::pop::Pop;
use crate::program::Program;
use crate::run;
use crate::server::Server;
use crate::users::{self, User};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// The configuration a test wants; what it does not set is as in [`Setup::new`].
#[derive(Clone, Debug, Default)]
pub struct Setup {
    tables: BTreeMap<String, BTreeMap<String, String>>,
}

impl Setup {
    /// The log on standard error, so that a test can read it; and room for tests that try again and again until a
    /// session before theirs has ended.
    pub fn new() -> Setup {
        Setup::default().set("log", "target", r#""stderr""#).set(
            "limits",
            "sessions_per_source",
            "10000",
        )
    }

    /// Sets a key of a table, `""` being the top of the file, to a TOML value.
    pub fn set(mut self, table: &str, key: &str, value: &str) -> Setup {
        self.tables
            .entry(table.to_owned())
            .or_default()
            .insert(key.to_owned(), value.to_owned());
        self
    }

    /// As [`Setup::set`], unless the test has set the key itself.
    fn or_set(self, table: &str, key: &str, value: &str) -> Setup {
        let known = self
            .tables
            .get(table)
            .is_some_and(|keys| keys.contains_key(key));
        if known {
            self
        } else {
            self.set(table, key, value)
        }
    }

    /// The configuration file.
    pub fn toml(&self) -> String {
        let mut text = String::new();
        for (table, keys) in &self.tables {
            if !table.is_empty() {
                text += &format!("[{table}]\n");
            }
            for (key, value) in keys {
                text += &format!("{key} = {value}\n");
            }
        }
        text
    }

    /// Runs `body` at a site where the server is started as root and the people are system users.
    /// Where there is no root, tells so by the test's name.
    pub fn as_root(self, body: impl FnOnce(&Site) + Send) {
        if !machine::is_possible() {
            return run::skipped("needs root");
        }
        machine::enter(|machine| body(&Site::of_root(machine, self)));
    }

    /// Runs `body` at a site where one ordinary user starts the server and owns every maildrop.
    pub fn as_ordinary_user(self, body: impl FnOnce(&Site) + Send) {
        if machine::is_possible() {
            machine::enter(|machine| body(&Site::of_operator(machine, self)));
        } else {
            let scratch = tempfile::tempdir().expect("a temporary directory");
            body(&Site::of_this_user(scratch.path(), self));
        }
    }
}

/// Configuration, users and maildrops for one server.
pub struct Site<'m> {
    /// The private machine, unless the tests run as an ordinary user.
    pub machine: Option<&'m Machine>,
    /// Where the server listens.
    pub address: SocketAddr,
    /// A directory of the server's user for whatever a test needs.
    pub directory: PathBuf,
    /// The server to start.
    pub program: Program,
    configuration: PathBuf,
    setup: Setup,
    /// The user who starts the server, if not the one who runs the tests.
    operator: Option<u32>,
    mail: PathBuf,
}

impl<'m> Site<'m> {
    fn of_root(machine: &'m Machine, setup: Setup) -> Site<'m> {
        let address = (Ipv4Addr::LOCALHOST, 110).into();
        let setup = setup
            .or_set("", "listen", &format!(r#"["{address}"]"#))
            .or_set("auth", "backends", r#"["shadow"]"#);
        Site {
            machine: Some(machine),
            address,
            directory: machine.directory("server", 0),
            program: Program {
                path: machine.program(),
                ..Program::under_test()
            },
            configuration: PathBuf::new(),
            setup,
            operator: None,
            mail: "/var/mail".into(),
        }
        .prepared()
    }

    fn of_operator(machine: &'m Machine, setup: Setup) -> Site<'m> {
        let directory = machine.directory("server", users::OPERATOR_ID);
        let mut site = Site::of_ordinary(&directory, (Ipv4Addr::LOCALHOST, 1110).into(), setup);
        site.machine = Some(machine);
        site.operator = Some(users::OPERATOR_ID);
        site.program.path = machine.program();
        site.prepared()
    }

    fn of_this_user(directory: &Path, setup: Setup) -> Site<'m> {
        let free =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        Site::of_ordinary(directory, free.expect("a free port"), setup).prepared()
    }

    fn of_ordinary(directory: &Path, address: SocketAddr, setup: Setup) -> Site<'m> {
        let quoted = |name: &str| format!(r#""{}""#, directory.join(name).display());
        let setup = setup
            .or_set("", "listen", &format!(r#"["{address}"]"#))
            .or_set("auth", "backends", r#"["users-file"]"#)
            .or_set("auth", "users_file", &quoted("users"))
            .or_set("", "state_directory", &quoted("state"))
            .or_set(
                "maildrop",
                "location",
                &format!(r#""mbox:{}/mail/%u""#, directory.display()),
            );
        Site {
            machine: None,
            address,
            directory: directory.to_owned(),
            program: Program::under_test(),
            configuration: PathBuf::new(),
            setup,
            operator: None,
            mail: directory.join("mail"),
        }
    }

    /// Writes the files that the server will look for.
    fn prepared(mut self) -> Site<'m> {
        self.configuration = self.directory.join("popa3d.toml");
        fs::write(&self.configuration, self.setup.toml()).expect("the configuration");
        if self.mail.starts_with(&self.directory) {
            for name in ["mail", "home"] {
                fs::create_dir(self.directory.join(name)).expect("a directory");
                self.give_to_operator(&self.directory.join(name), 0o700);
            }
            let users = self.directory.join("users");
            let lines = users::PEOPLE.map(|user| format!("{}:{}\n", user.name, user.hash));
            fs::write(&users, lines.concat()).expect("the users file");
            self.give_to_operator(&users, 0o600);
        }
        self
    }

    fn give_to_operator(&self, path: &Path, mode: u32) {
        if let Some(operator) = self.operator {
            chown(path, Some(operator), Some(operator)).expect("an owner");
        }
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
    }

    /// Changes the configuration file; the server sees it when it reads it again.
    pub fn reconfigure(&self, change: impl FnOnce(Setup) -> Setup) {
        self.write_configuration(&change(self.setup.clone()).toml());
    }

    /// Replaces the configuration file by `text`.
    pub fn write_configuration(&self, text: &str) {
        fs::write(&self.configuration, text).expect("the configuration");
    }

    /// The server, with this site's configuration and nothing of the tests' environment.
    pub fn command(&self) -> Command {
        let mut command = self.bare_command();
        if !self.program.is_original {
            command.arg("-c").arg(&self.configuration);
        }
        command
    }

    /// As [`Site::command`], without arguments.
    pub fn bare_command(&self) -> Command {
        let mut command = Command::new(&self.program.path);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/");
        if self.mail.starts_with(&self.directory) {
            command.env("HOME", self.directory.join("home"));
        }
        if let Some(operator) = self.operator {
            command.uid(operator).gid(operator);
        }
        command
    }

    /// Starts the daemon and waits until it is ready.
    pub fn serve(&self) -> Server {
        let mut command = self.command();
        if self.program.is_original {
            return Server::start_original(command, &self.directory, self.address);
        }
        command.args(["-D", "-f"]);
        Server::start(command, &self.directory)
    }

    /// Starts one session on a socket pair.
    pub fn inetd(&self) -> Session {
        inetd::start(self.command())
    }

    /// A connection to the daemon, its greeting read.
    pub fn connect(&self) -> Pop {
        Pop::connect(self.address)
    }

    /// A connection to the daemon in the TRANSACTION state.
    pub fn login(&self, user: User) -> Pop {
        let mut pop = self.connect();
        pop.login(user.name, user.password);
        pop
    }

    /// Where the mailbox of `user` is, unless the test configured another place.
    pub fn mailbox(&self, user: User) -> PathBuf {
        self.mail.join(user.name)
    }

    /// Makes `octets` the mailbox of `user`, as if delivered a while ago.
    pub fn deliver(&self, user: User, octets: &[u8]) {
        let path = self.mailbox(user);
        // Another mailbox, and not the same one rewritten: nothing that is remembered of that applies to it.
        drop(fs::remove_file(&path));
        fs::write(&path, octets).expect("a mailbox");
        if self.mail.starts_with(&self.directory) {
            self.give_to_operator(&path, 0o600);
        } else {
            chown(&path, Some(user.id), Some(machine::mail_group())).expect("a mailbox");
            fs::set_permissions(&path, Permissions::from_mode(0o660)).expect("a mailbox");
        }
        age(&path);
    }
}

/// Sets the modification time back: the original waits until a mailbox is a second old, so that no change escapes
/// its look at the time.
pub fn age(path: &Path) {
    let while_ago = SystemTime::now() - Duration::from_secs(3600);
    let file = File::options().append(true).open(path).expect("a mailbox");
    file.set_modified(while_ago).expect("a modification time");
}
