//! The first thing a visitor types: a server with scratch mail, and the commands it prints.

use net_pop3::blocking::Pop3;
use net_pop3::{Credentials, Security, TlsOptions};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use system_tests::processes::Process;
use system_tests::run;
use system_tests::site::{Setup, Site};

fn start(site: &Site<'_>) -> (Child, String) {
    let mut demo = site
        .bare_command()
        .arg("--demo")
        .env("TMPDIR", &site.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the demo");
    let text = instructions(demo.stdout.take().expect("its output"));
    (demo, text)
}

/// What it prints, as far as the line that tells how to end it.
fn instructions(output: ChildStdout) -> String {
    let mut text = String::new();
    for line in BufReader::new(output).lines() {
        text.push_str(&line.expect("text"));
        text.push('\n');
        if text.contains("^C") {
            return text;
        }
    }
    panic!("it has ended: {text}");
}

/// The word that begins with this, without the stop after it.
fn word<'t>(text: &'t str, start: &str) -> &'t str {
    text.split_whitespace()
        .find(|word| word.starts_with(start))
        .unwrap_or_else(|| panic!("{start} in {text}"))
        .trim_end_matches('.')
}

#[test]
fn the_demo_serves_mail_to_the_commands_it_prints_and_cleans_up() {
    Setup::new().as_ordinary_user(|site| {
        assert!(
            run::is_installed("curl"),
            "curl is missing: apt-get install curl"
        );
        let (mut demo, text) = start(site);
        let commands: Vec<Vec<&str>> = text
            .lines()
            .filter_map(|line| line.split('#').next())
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|words| words.first() == Some(&"curl"))
            .collect();
        let answers: Vec<Vec<u8>> = commands
            .iter()
            .map(|words| {
                run::to_end(Command::new("curl").arg("-sS").args(&words[1..]), b"")
                    .expect_success("curl")
            })
            .collect();
        let [list, message, at_once, by_stls] = answers.as_slice() else {
            panic!("{text}");
        };
        assert!(list.starts_with(b"1 "), "{}", list.escape_ascii());
        assert!(message.starts_with(b"Return-Path:"));
        assert_eq!((at_once, by_stls), (message, message));
        assert!(commands[2].iter().any(|word| word.starts_with("pop3s://")));
        assert!(commands[3].contains(&"--ssl-reqd"));
        // It is the certificate that they believe.
        let without = ["-sS", "-u", "demo:demo", word(&text, "pop3s://")];
        let refused = run::to_end(Command::new("curl").args(without), b"");
        assert!(!refused.status.success());

        let directory = word(&text, "/").trim_end_matches("/demo-certificate.pem");
        let mailbox = Path::new(directory).join("mail/demo");
        assert!(mailbox.exists(), "{text}");
        Process::numbered(demo.id()).signal(rustix::process::Signal::INT);
        assert!(demo.wait().expect("its end").success());
        assert!(!Path::new(directory).exists(), "it is removed");
    });
}

#[test]
fn the_demo_is_trusted_by_rustls_for_its_certificate_or_its_fingerprint() {
    Setup::new().as_ordinary_user(|site| {
        let (mut demo, text) = start(site);
        let url = word(&text, "pop3s://").trim_start_matches("pop3s://");
        let address: SocketAddr = url.trim_end_matches("/1").parse().expect("an address");
        let certificate = fs::read(word(&text, "/")).expect("the certificate");
        let fingerprint = word(&text, "sha256:").parse().expect("a fingerprint");
        let enter = |host: &str, trusted: TlsOptions| {
            Pop3::builder()
                .host(host)
                .port(address.port())
                .security(Security::Tls)
                .tls(trusted)
                .connect()?
                .login(&Credentials::password("demo", "demo"))?
                .stat()
        };
        let given = TlsOptions::nobody()
            .add_ca_pem(&certificate)
            .expect("a certificate");
        for host in ["localhost", "127.0.0.1"] {
            let stat = enter(host, given.clone()).expect("the given certificate");
            assert_eq!(stat.messages, 4);
        }
        let pinned = TlsOptions::nobody().pin_sha256(fingerprint);
        assert_eq!(enter("127.0.0.1", pinned).expect("its pin").messages, 4);
        assert!(enter("127.0.0.1", TlsOptions::nobody()).is_err());
        Process::numbered(demo.id()).signal(rustix::process::Signal::INT);
        assert!(demo.wait().expect("its end").success());
    });
}
