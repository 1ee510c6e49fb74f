//! Where popget runs, and what it has delivered and said.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use scripted_server::Server;
use tempfile::TempDir;

pub struct Site {
    pub directory: TempDir,
    pub url: String,
}

impl Site {
    pub fn new(server: &Server) -> Site {
        Site {
            directory: tempfile::tempdir().unwrap(),
            url: format!("pop3://mrose@127.0.0.1:{}", server.port()),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_popget"));
        command
            .env("HOME", self.directory.path())
            .env_remove("XDG_STATE_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("CREDENTIALS_DIRECTORY")
            .env_remove("NETRC")
            .stdin(Stdio::null());
        command
    }

    /// With the URL and a password.
    pub fn popget(&self, action: &str, arguments: &[&str]) -> Output {
        self.command()
            .args([
                action,
                &self.url,
                "--plain",
                "--password-command",
                "echo tanstaaf",
            ])
            .args(arguments)
            .output()
            .unwrap()
    }

    pub fn fetch(&self, arguments: &[&str]) -> Output {
        let maildir = self.path("Mail");
        let place = ["--maildir", maildir.to_str().unwrap()];
        self.popget("fetch", &[&place, arguments].concat())
    }

    pub fn delivered(&self) -> Vec<Vec<u8>> {
        files(&self.path("Mail/new"))
    }
}

pub fn files(directory: &Path) -> Vec<Vec<u8>> {
    let names: BTreeMap<_, _> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    let mut contents: Vec<Vec<u8>> = names.into_values().collect();
    contents.sort();
    contents
}

pub fn with_lf(octets: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(octets)
        .replace("\r\n", "\n")
        .into_bytes()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}
