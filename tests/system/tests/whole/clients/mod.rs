//! Real clients fetch the corpus; what they hand on equals the mailbox, but for what each is known to change itself.

mod curl;
mod fetchmail;
mod mpop;
mod mutt;
mod net_pop3;
mod poplib;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use system_tests::corpus::{self, Message};
use system_tests::site::{Setup, Site};
use system_tests::users::{ALICE, READER_ID};
use system_tests::{machine, run};

/// One client program.
pub struct Client {
    /// The program that must be there.
    pub program: &'static str,
    /// The Debian package that brings it.
    pub package: &'static str,
    /// Fetches Alice's messages, in their order.
    pub fetch: fn(&Reader) -> Vec<Vec<u8>>,
    /// What the client hands on when it is sent `message`; the comment there says what it changes.
    pub hands_on: fn(&Message) -> Vec<u8>,
    /// Messages that the client changes beyond telling, by name; each is explained where it is listed.
    pub rewrites: &'static [&'static str],
}

/// All of them.
pub const ALL: [&Client; 6] = [
    &curl::CURL,
    &fetchmail::FETCHMAIL,
    &mpop::MPOP,
    &mutt::MUTT,
    &net_pop3::NET_POP3,
    &poplib::POPLIB,
];

/// The person at the client: an ordinary user with a directory.
pub struct Reader {
    /// Where the server listens.
    pub server: SocketAddr,
    /// A directory of the client's own.
    pub directory: PathBuf,
    /// How many messages are to be fetched.
    pub messages: usize,
    id: Option<u32>,
}

impl Reader {
    fn of(site: &Site, client: &Client, server: SocketAddr, messages: usize) -> Reader {
        let name = format!("reader-{}-{}", client.program, server.port());
        let (directory, id) = match site.machine {
            Some(machine) => (machine.directory(&name, READER_ID), Some(READER_ID)),
            None => (site.directory.join(name), None),
        };
        fs::create_dir_all(&directory).expect("the client's directory");
        Reader {
            server,
            directory,
            messages,
            id,
        }
    }

    /// The program to be run as this person, in the directory, which is the home too.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.directory)
            .env("LC_ALL", "C")
            .current_dir(&self.directory);
        if let Some(id) = self.id {
            command.uid(id).gid(id);
        }
        command
    }

    /// Writes a file that only this person can read.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::{PermissionsExt, chown};
        let path = self.directory.join(name);
        fs::write(&path, text).expect("a client's file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
        chown(&path, self.id, self.id).expect("its owner");
        path
    }

    /// The files `1`, `2`, … of the directory.
    pub fn numbered_files(&self, prefix: &str) -> Vec<Vec<u8>> {
        (1..=self.messages)
            .map(|number| {
                let name = format!("{prefix}{number}");
                fs::read(self.directory.join(&name))
                    .unwrap_or_else(|error| panic!("{name}: {error}"))
            })
            .collect()
    }
}

/// LF line ends, for clients that hand on mail as Unix stores it.
pub fn with_lf(message: &Message) -> Vec<u8> {
    let mut octets = Vec::with_capacity(message.sent.len());
    for line in message.sent.split_inclusive(|octet| *octet == b'\n') {
        octets.extend_from_slice(line.strip_suffix(b"\r\n").unwrap_or(line));
        octets.push(b'\n');
    }
    octets
}

/// Has `client` fetch the corpus from a server at `address` of `site`.
pub fn fetches_the_corpus(client: &Client, site: &Site, address: SocketAddr) {
    let mut mail = corpus::nasty();
    mail.push(corpus::big());
    site.deliver(ALICE, &corpus::mbox(&mail));
    let reader = Reader::of(site, client, address, mail.len());
    let fetched = (client.fetch)(&reader);
    assert_eq!(
        fetched.len(),
        mail.len(),
        "messages that {} fetched",
        client.program
    );
    for (message, octets) in mail.iter().zip(&fetched) {
        if !client.rewrites.contains(&message.name) {
            same_octets(client, message, octets);
        }
    }
}

fn same_octets(client: &Client, message: &Message, octets: &[u8]) {
    let wanted = (client.hands_on)(message);
    if wanted == octets {
        return;
    }
    let at = wanted
        .iter()
        .zip(octets)
        .take_while(|(a, b)| a == b)
        .count();
    let around = |octets: &[u8]| {
        let from = at.saturating_sub(40).min(octets.len());
        octets[from..(at + 80).min(octets.len())]
            .escape_ascii()
            .to_string()
    };
    panic!(
        "{} got {} octets of {} as {}, from octet {at} on\n  wanted {}\n  got    {}",
        client.program,
        wanted.len(),
        message.name,
        octets.len(),
        around(&wanted),
        around(octets)
    );
}

/// True if the client is there. As root it must be; the test command installs it.
pub fn is_present(client: &Client) -> bool {
    if run::is_installed(client.program) {
        return true;
    }
    assert!(
        !machine::is_possible(),
        "{} is missing: apt-get install {}",
        client.program,
        client.package
    );
    run::skipped(&format!("needs Debian's {}", client.package));
    false
}

/// The test of every client: from the daemon, run by root and by an ordinary user.
fn from_the_daemon(client: &Client) {
    if is_present(client) {
        Setup::new().as_root(|site| {
            let _server = site.serve();
            fetches_the_corpus(client, site, site.address);
        });
    }
}
