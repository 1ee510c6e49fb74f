//! Against GNU SASL's command `gsasl` (Debian package of that name), as client and as server, over its standard input and output.
//!
//! `tests/run` installs the package. Where it is missing, the tests say so and prove nothing.

mod common;

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use common::{PASSWORD, Settled, USER, nonce, settle};
use sasl::client::{Client, Credentials};
use sasl::scram::{Hash, Verifier};
use sasl::{Mechanism, Secret, base64, server};

/// Whether there is a `gsasl` to run.
fn is_there() -> bool {
    let runs = Command::new("gsasl").arg("--version").output();
    let there = runs.is_ok_and(|ended| ended.status.success());
    if !there {
        println!("skipped, needs Debian's gsasl: not tested against it");
    }
    there
}

/// A running `gsasl`, speaking base64 a line.
struct Gsasl {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Gsasl {
    fn start(mechanism: Mechanism, side: &str, password: &str) -> Self {
        // A disagreement on whose turn it is must not last for ever.
        let mut child = Command::new("timeout")
            .args([
                "30",
                "gsasl",
                "--quiet",
                side,
                "--no-cb",
                "-m",
                mechanism.name(),
            ])
            .args(["-a", USER, "-p", password])
            .args(["--service", "pop", "--hostname", "localhost"])
            .args(["--iteration-count", "4096", "--disable-cleartext-validate"])
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut gsasl = Self {
            child,
            input,
            output,
        };
        // It begins with the mechanism's name.
        assert_eq!(gsasl.line().as_deref(), Some(mechanism.name()));
        gsasl
    }

    fn line(&mut self) -> Option<String> {
        self.output.next().map(Result::unwrap)
    }

    /// The next message; `None` once it has ended.
    fn receive(&mut self) -> Option<Vec<u8>> {
        let line = self.line()?;
        Some(base64::decode(line.as_bytes(), 4096).unwrap().to_vec())
    }

    fn send(&mut self, message: &[u8]) {
        // It may have ended: what it thinks of the exchange is in its exit status.
        let input = self.input.as_mut().unwrap();
        let _ = writeln!(input, "{}", *base64::encode(message));
    }

    /// Whether it is content. It reads one more line, whatever it says, before it ends.
    fn ends_well(mut self) -> bool {
        self.send(b"");
        drop(self.input.take());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Gsasl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether gsasl's client gets in, and is content with it.
fn their_client(mechanism: Mechanism, password: &str) -> bool {
    let mut gsasl = Gsasl::start(mechanism, "--client", password);
    // LOGIN too: it sends the name at once.
    let initial = gsasl.receive().unwrap();
    let mut state = settle(server::start(mechanism, Some(&initial), &[]), &nonce(2));
    loop {
        match state {
            Settled::Authenticated(user) => return user == USER && gsasl.ends_well(),
            Settled::Failed(_) => return false,
            Settled::Challenge(challenge) => {
                gsasl.send(challenge.octets());
                let Some(answer) = gsasl.receive() else {
                    return false;
                };
                state = settle(challenge.answer(&answer), &nonce(2));
            }
        }
    }
}

/// In CRAM-MD5 gsasl prepares the password by SASLprep; RFC 2195 knows no such thing, and other servers do not.
fn right_password(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::CramMd5 => "pencil",
        _ => PASSWORD,
    }
}

/// Whether our client gets in at gsasl's server, and is content with it.
fn our_client(mechanism: Mechanism, password: &str) -> bool {
    let mut gsasl = Gsasl::start(mechanism, "--server", password);
    let credentials = Credentials::Password {
        user: USER.to_owned(),
        password: Secret::copied(right_password(mechanism).as_bytes()),
        authzid: None,
    };
    let mut client = Client::new(mechanism, &credentials, None, &nonce(1)).unwrap();
    let mut asked = false;
    while let Some(challenge) = gsasl.receive() {
        // It begins with an empty line where the client is to speak first, and ends with one if it is content.
        if asked && challenge.is_empty() {
            break;
        }
        asked = true;
        let Ok(answer) = client.respond(&challenge) else {
            return false;
        };
        gsasl.send(answer.as_bytes());
        // Nothing is left to be said behind SCRAM's last message.
        if answer.as_bytes().is_empty() {
            break;
        }
    }
    gsasl.ends_well() && client.finish().is_ok()
}

#[test]
fn gsasls_client_gets_in() {
    if !is_there() {
        return;
    }
    for mechanism in [
        Mechanism::Login,
        Mechanism::Plain,
        Mechanism::ScramSha1,
        Mechanism::ScramSha256,
    ] {
        assert!(their_client(mechanism, PASSWORD), "{mechanism}");
        assert!(!their_client(mechanism, "wrong"), "{mechanism}");
    }
}

#[test]
fn our_client_gets_in_at_gsasls_server() {
    if !is_there() {
        return;
    }
    for mechanism in [
        Mechanism::Login,
        Mechanism::Plain,
        Mechanism::CramMd5,
        Mechanism::ScramSha1,
        Mechanism::ScramSha256,
    ] {
        assert!(
            our_client(mechanism, right_password(mechanism)),
            "{mechanism}"
        );
        assert!(!our_client(mechanism, "wrong"), "{mechanism}");
    }
}

#[test]
fn verifiers_are_those_that_gsasl_makes() {
    if !is_there() {
        return;
    }
    for hash in [Hash::Sha1, Hash::Sha256] {
        let output = Command::new("gsasl")
            .args(["--mkpasswd", "--mechanism", hash.scheme()])
            .args(["--password", PASSWORD, "--iteration-count", "5000"])
            .args(["--salt", &base64::encode(&[3; 16])])
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let derived = Verifier::derive(hash, PASSWORD.as_bytes(), &[3; 16], 5000);
        assert_eq!(Verifier::parse(text.trim_end()), derived, "{text}");
    }
}
