//! TLS as clients meet it: STLS (RFC 2595) and TLS at once (RFC 8314).

mod activation;
mod certificates;
mod clients;
mod external;
mod filters;
mod flood;
mod handshakes;
mod passwords;
mod policy;
mod secrets;
mod wire;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use system_tests::certificates::{Authority, DIRECTORY, HOST, Kind, Pair};
use system_tests::pop::Pop;
use system_tests::site::{Setup, Site};
use system_tests::users::OPERATOR_ID;

/// POP3 over TLS as an ordinary user may serve it, and as root does.
const PORT: u16 = 2995;

fn tls_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, PORT).into()
}

/// The configuration of a server with a certificate in `mail.pem`.
fn setup() -> Setup {
    Setup::new()
        .set("", "listen_tls", &format!("[\"{}\"]", tls_address()))
        .set("tls", "certificate", &format!("\"{DIRECTORY}/mail.pem\""))
        .set("tls", "key", &format!("\"{DIRECTORY}/mail.key\""))
}

/// Makes an authority, the server's certificate of `kind`, and the server's name known.
fn furnish(kind: Kind, owner: u32) -> (Authority, Pair) {
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    fs::write("/etc/hosts", format!("127.0.0.1 {HOST}\n{hosts}")).expect("/etc/hosts");
    let authority = Authority::new();
    let pair = authority.issue("mail", &[HOST], kind, 90, owner);
    (authority, pair)
}

/// Runs `body` with a server of root's.
fn with_server(
    setup: Setup,
    kind: Kind,
    body: impl FnOnce(&Site, &mut system_tests::server::Server) + Send,
) {
    setup.as_root(|site| {
        furnish(kind, 0);
        let mut server = site.serve();
        body(site, &mut server);
    });
}

/// The same with a server of an ordinary user's.
fn with_users_server(
    setup: Setup,
    body: impl FnOnce(&Site, &mut system_tests::server::Server) + Send,
) {
    setup.as_ordinary_user(|site| {
        if site.machine.is_none() {
            return system_tests::run::skipped("needs a machine of its own");
        }
        furnish(Kind::P256, OPERATOR_ID);
        let mut server = site.serve();
        body(site, &mut server);
    });
}

/// What openssl's client is told besides.
struct Openssl(Command);

/// A connection by openssl's client, which verifies the server.
struct Connected {
    pop: Pop,
    child: Child,
}

impl Openssl {
    fn to(address: SocketAddr) -> Openssl {
        let mut command = Command::new("/usr/bin/openssl");
        command
            .args(["s_client", "-quiet", "-verify_return_error"])
            .args(["-verify_hostname", HOST, "-servername", HOST])
            .args(["-connect", &address.to_string()])
            .args(["-CAfile", &format!("{DIRECTORY}/authority.pem")]);
        Openssl(command)
    }

    fn by_stls(address: SocketAddr) -> Openssl {
        Openssl::to(address).with(&["-starttls", "pop3"])
    }

    fn with(mut self, arguments: &[&str]) -> Openssl {
        self.0.args(arguments);
        self
    }

    fn connect(mut self) -> Connected {
        let mut child = self
            .0
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl");
        let (output, input) = (child.stdout.take(), child.stdin.take());
        let pop = Pop::over_pair(
            output.expect("a pipe").into(),
            input.expect("a pipe").into(),
        );
        Connected { pop, child }
    }

    /// A connection to the TLS port, its greeting read.
    fn greeted(self) -> Connected {
        let mut connected = self.connect();
        assert!(connected.pop.reply().ok);
        connected
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}
