//! Clients that leave mail on the server and keep a list of what they have seen: popget and fetchmail.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use system_tests::site::Site;
use system_tests::users::{ALICE, READER_ID};
use system_tests::{program, rivals, run};

/// A person with both, who fetches Alice's mail.
pub struct Clients {
    directory: PathBuf,
}

impl Clients {
    /// Who has seen nothing.
    pub fn new(site: &Site) -> Clients {
        let machine = site.machine.expect("a private machine");
        let clients = Clients {
            directory: machine.directory("clients", READER_ID),
        };
        let [address, port] = [
            rivals::ADDRESS.0.map(|octet| octet.to_string()).join("."),
            rivals::ADDRESS.1.to_string(),
        ];
        let configuration = format!(
            "set invisible\n\
             poll {address} service {port} protocol pop3 uidl auth password no dns\n\
             user \"{}\" password \"{}\" keep no rewrite sslproto \"\"\n\
             mda \"/bin/sh -c 'cat >/dev/null; echo >>fetched'\"\n",
            ALICE.name, ALICE.password,
        );
        let path = clients.directory.join("fetchmailrc");
        fs::write(&path, configuration).expect("a file");
        chown(&path, Some(READER_ID), Some(READER_ID)).expect("an owner");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        clients
    }

    /// Both fetch what is new to them: how many messages that is.
    pub fn fetch(&self) -> [usize; 2] {
        [self.popget(), self.fetchmail()]
    }

    fn popget(&self) -> usize {
        let before = self.popget_has();
        let url = format!("pop3://{}@127.0.0.1:{}", ALICE.name, rivals::ADDRESS.1);
        let mut popget = self.command(&program::tool("popget").display().to_string());
        popget.args([
            "fetch",
            &url,
            "--plain",
            "--password-stdin",
            "--maildir",
            "mail",
        ]);
        run::to_end(&mut popget, format!("{}\n", ALICE.password).as_bytes())
            .expect_success("popget");
        self.popget_has() - before
    }

    fn popget_has(&self) -> usize {
        let new = fs::read_dir(self.directory.join("mail/new"));
        new.map_or(0, Iterator::count)
    }

    fn fetchmail(&self) -> usize {
        let before = self.fetchmail_has();
        let mut fetchmail = self.command("fetchmail");
        fetchmail.args([
            "--fetchmailrc",
            "fetchmailrc",
            "--idfile",
            "ids",
            "--pidfile",
            "pid",
        ]);
        let outcome = run::to_end(&mut fetchmail, b"");
        // 1: there was nothing new.
        assert!(
            matches!(outcome.status.code(), Some(0 | 1)),
            "{}",
            outcome.errors
        );
        self.fetchmail_has() - before
    }

    fn fetchmail_has(&self) -> usize {
        let lines = fs::read_to_string(self.directory.join("fetched"));
        lines.map_or(0, |lines| lines.lines().count())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.directory)
            .env("LC_ALL", "C")
            .current_dir(&self.directory)
            .uid(READER_ID)
            .gid(READER_ID);
        command
    }
}
