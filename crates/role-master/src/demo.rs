//! `--demo`: a server on loopback with scratch mail, for whoever wants to see it work before reading further.
//!
//! It serves one user with a known password, with a certificate made when it starts, and is an ordinary user whoever started
//! it. Its directory goes with it.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use confine::identity::{self, Identity};
use confine::users;

use crate::configuration::{Configuration, Runner};
use crate::executables::Executables;
use crate::{Start, runner, text};

/// The port tried first; any other if it is taken.
const PORT: u16 = 1110;

/// The same for TLS at once.
const TLS_PORT: u16 = 1995;

/// Makes a self-signed certificate of this host and its key, in new files; returns the certificate's SHA-256 in hexadecimal
/// digits. It is the keyholder's: the master is linked with nothing that signs. Only in the demo does a master's process come by
/// a key like this, one that is worth nothing and ends with it.
pub type MakeCertificate = fn(certificate: &Path, key: &Path) -> io::Result<String>;

/// Names in the scratch directory.
const CERTIFICATE: &str = "demo-certificate.pem";
const KEY: &str = "demo-key.pem";

/// `demo` with crypt(3)'s SHA-512 scheme: no secret.
const USERS: &str = "demo:$6$popa3ddemo$FqNH7VTbAIb3oEu6UfzrIGNjmzGsCv/xN3Ng21FpNWj8xrjiX8GdfWttuOBS5ZoXeb7QUfPYjtTCyN1ntUeuH.\n";

/// Runs until it is interrupted.
///
/// # Errors
/// One sentence for standard error.
pub fn run(make_certificate: MakeCertificate) -> Result<(), String> {
    let executables = Executables::open()?;
    let runner = match runner::find().map_err(text)? {
        Runner::Root => become_nobody()?,
        ordinary => ordinary,
    };
    let directory = Scratch::make().map_err(|error| format!("scratch directory: {error}"))?;
    let at = directory.0.as_path();
    let in_directory = |error| format!("{}: {error}", at.display());
    furnish(at).map_err(in_directory)?;
    let fingerprint =
        make_certificate(&at.join(CERTIFICATE), &at.join(KEY)).map_err(in_directory)?;
    let configuration =
        Configuration::parse(&file(at), runner, "localhost".into()).map_err(text)?;
    let unchanged = configuration.clone();
    Start {
        configuration,
        reread: Box::new(move || Ok(unchanged.clone())),
        executables,
        foreground: true,
    }
    .serve(|sockets| {
        if let [plain, tls] = sockets {
            let text = instructions(plain.address, tls.address, at, &fingerprint);
            // Whoever has closed standard output does not want it.
            drop(io::stdout().write_all(text.as_bytes()));
        }
    })
}

/// What to type.
fn instructions(plain: SocketAddr, tls: SocketAddr, directory: &Path, fingerprint: &str) -> String {
    let directory = directory.display();
    format!(
        "\npopa3d is serving scratch mail on {plain} to user demo, password demo. Try\n\n    \
         curl -u demo:demo pop3://{plain}/      # the list of messages\n    \
         curl -u demo:demo pop3://{plain}/1     # the first of them\n\n\
         With TLS at once, and by STLS:\n\n    \
         curl -u demo:demo --cacert {directory}/{CERTIFICATE} pop3s://{tls}/1\n    \
         curl -u demo:demo --cacert {directory}/{CERTIFICATE} --ssl-reqd pop3://{plain}/1\n\n\
         The certificate in that file was made just now; its fingerprint is\n\
         sha256:{fingerprint}.\n\
         The mailbox is {directory}/mail/demo. Both are removed when you press ^C.\n\n"
    )
}

/// Root has no mail to give away: from here on the process is nobody, for good.
fn become_nobody() -> Result<Runner, String> {
    let nobody = users::by_name("nobody")
        .map_err(text)?
        .ok_or("there is no user nobody; run the demo as an ordinary user")?;
    let not_root = |_| "nobody must not be root".to_owned();
    let uid = nobody.uid.try_into().map_err(not_root)?;
    let gid = nobody
        .gid
        .try_into()
        .map_err(|_| "nobody must not have root's group")?;
    identity::drop_to(&Identity {
        uid,
        gid,
        groups: vec![gid],
    })
    .map_err(text)?;
    runner::find().map_err(text)
}

/// A directory of our own that is removed with all that is in it.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("popa3d-demo-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left then, the system's own cleaning of temporary files takes.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn furnish(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .create(directory.join("mail"))?;
    write(&directory.join("users"), USERS)?;
    write(&directory.join("mail/demo"), include_str!("demo/mail.mbox"))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))
}

fn file(directory: &Path) -> String {
    let directory = directory.display();
    let [plain, tls] = [PORT, TLS_PORT].map(free_address);
    format!(
        "listen = [\"{plain}\"]\n\
         listen_tls = [\"{tls}\"]\n\
         state_directory = \"{directory}/state\"\n\
         [tls]\ncertificate = \"{directory}/{CERTIFICATE}\"\nkey = \"{directory}/{KEY}\"\n\
         [auth]\nusers_file = \"{directory}/users\"\n\
         [maildrop]\nlocation = \"mbox:{directory}/mail/%u\"\n\
         [log]\ntarget = \"stderr\"\n",
    )
}

/// On loopback, on the usual port if it is free; else the system finds one.
fn free_address(usual: u16) -> SocketAddr {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, usual));
    match TcpListener::bind(address) {
        Ok(_) => address,
        Err(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}
