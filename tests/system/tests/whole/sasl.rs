//! AUTH (RFC 5034) as clients meet it: the dialogue, and real clients by every mechanism that they know.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use system_tests::certificates::{Authority, HOST, Kind};
use system_tests::pop::Pop;
use system_tests::server::Server;
use system_tests::site::{Setup, Site};
use system_tests::users::{ALICE, BOB, OPERATOR_ID};
use system_tests::{mpop, run};

/// Of Alice's password, with 4096 iterations; made with Python's hashlib.
const ALICE_VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdC1vZi1hbGljZS4uLg==$fnLl3ROCuF0wrIj90waUBTe/opAWzaW4lt0Zakc4AZQ=:s6FryZ23SreSfHVL8cOaMvHSt5IyN3WGCnRzi25tdK4=";

/// The same by the older hash.
const ALICE_VERIFIER_SHA_1: &str = "SCRAM-SHA-1$4096:c2FsdC1vZi1hbGljZS4uLg==$6hH2rR40FmHTSNrxV3OYaLxGQe8=:OqLSG0UtxNxlOZW9uqayfXjjbGk=";

/// `\0alice\0wonderland`, `alice`, `wonderland`, and `\0alice\0x`, in base64.
const PLAIN: &str = "AGFsaWNlAHdvbmRlcmxhbmQ=";
const NAME: &str = "YWxpY2U=";
const PASSWORD: &str = "d29uZGVybGFuZA==";
const WRONG: &str = "AGFsaWNlAHg=";

const MAIL: &[u8] = b"From a Thu Jan  1 00:00:00 1970\nSubject: one\n\nlooking-glass\n";

const TLS_PORT: u16 = 2995;

/// Alice has a verifier, Bob a hash of crypt(3).
fn with_verifiers(site: &Site) {
    let users = format!(
        "{}:{ALICE_VERIFIER}\n{}:{}\n",
        ALICE.name, BOB.name, BOB.hash
    );
    // Written over, so that owner and mode stay.
    fs::write(site.directory.join("users"), users).expect("the users file");
    site.deliver(ALICE, MAIL);
}

fn with_server(body: impl FnOnce(&Site, &mut Server) + Send) {
    Setup::new()
        .set("limits", "login_attempts", "100")
        .set("auth", "failure_delay", "\"0s\"")
        .as_ordinary_user(|site| {
            with_verifiers(site);
            body(site, &mut site.serve());
        });
}

/// The line of a capability.
fn capability(pop: &mut Pop, tag: &str) -> Option<String> {
    pop.list("CAPA")
        .into_iter()
        .find(|line| line.starts_with(tag))
}

#[test]
fn every_form_of_auth_logs_in_and_capa_says_the_same_before_and_after() {
    with_server(|site, server| {
        let plain = format!("AUTH PLAIN {PLAIN}");
        let login = format!("AUTH LOGIN {NAME}");
        for (lines, method) in [
            (vec![plain.as_str()], "PLAIN"),
            (vec!["auth plain", PLAIN], "PLAIN"),
            (vec!["AUTH LOGIN", NAME, PASSWORD], "LOGIN"),
            (vec![&login, PASSWORD], "LOGIN"),
        ] {
            let mut pop = site.connect();
            let before = capability(&mut pop, "SASL");
            assert_eq!(before.as_deref(), Some("SASL SCRAM-SHA-256 PLAIN LOGIN"));
            let (last, others) = lines.split_last().expect("a line");
            for line in others {
                pop.challenge(line);
            }
            pop.ok(last);
            assert_eq!(capability(&mut pop, "SASL"), before);
            assert!(pop.ok("STAT").starts_with("1 "));
            // Nothing may follow a success (RFC 5034 section 4).
            pop.err(&plain);
            pop.ok("QUIT");
            let wanted = format!("method={method} ");
            server.await_log("the login", |line| {
                line.starts_with("login: ") && line.contains(&wanted)
            });
        }
    });
}

#[test]
fn a_bare_auth_lists_the_mechanisms() {
    with_server(|site, _| {
        let mut pop = site.connect();
        assert_eq!(pop.list("AUTH"), ["SCRAM-SHA-256", "PLAIN", "LOGIN"]);
    });
}

#[test]
fn what_is_no_exchange_is_refused_and_leaves_no_trace() {
    with_server(|site, server| {
        let mut pop = site.connect();
        pop.err("AUTH CRAM-MD5");
        pop.err("AUTH SCRAM-SHA-256-PLUS");
        // Not base64, in both places; the exchange is over.
        for line in ["=AAA", "AAA=BBB", "AAA", "A B"] {
            pop.err(&format!("AUTH PLAIN {line}"));
            pop.challenge("AUTH PLAIN");
            pop.err(line);
        }
        // Base64, but no PLAIN: `=` is an empty initial response.
        pop.err("AUTH PLAIN =");
        pop.challenge("AUTH PLAIN");
        pop.err("*");
        pop.err("STAT");
        pop.challenge("AUTH LOGIN");
        pop.challenge(NAME);
        pop.err("*");
        let refused = pop.ask(&format!("AUTH PLAIN {WRONG}"));
        let by_pass = {
            pop.ok("USER alice");
            pop.ask("PASS x")
        };
        assert_eq!(refused, by_pass);
        assert_eq!(refused.code(), Some("AUTH"));
        server.await_log("the refusal", |line| {
            line.starts_with("login failed: ") && line.contains("method=PLAIN")
        });
        pop.ok(&format!("AUTH PLAIN {PLAIN}"));
    });
}

#[test]
fn a_line_of_64_kib_is_read_and_a_longer_one_refused() {
    with_server(|site, _| {
        let mut pop = site.connect();
        for octets in [60_000, 65_532, 70_000, 200_000] {
            pop.challenge("AUTH PLAIN");
            pop.err(&"A".repeat(octets));
        }
        pop.ok(&format!("AUTH PLAIN {PLAIN}"));
    });
}

#[test]
fn curl_logs_in_by_plain_and_login() {
    with_server(|site, server| {
        for mechanism in ["PLAIN", "LOGIN"] {
            let mut curl = client("/usr/bin/curl");
            curl.args(["--silent", "--show-error", "--login-options"])
                .arg(format!("AUTH={mechanism}"))
                .args(["--user", &format!("{}:{}", ALICE.name, ALICE.password)])
                .arg(format!("pop3://{}/1", site.address));
            assert_fetched(&mut curl);
            await_method(server, mechanism);
        }
    });
}

/// EXTERNAL is among what is shown of client certificates, OAUTHBEARER and XOAUTH2 of access tokens. Of what else mpop knows
/// the server offers nothing: CRAM-MD5, DIGEST-MD5 and NTLM ask for plaintext equivalents, GSSAPI for Kerberos.
#[test]
fn mpop_logs_in_by_each_mechanism_that_it_shares() {
    with_server(|site, server| {
        for mechanism in ["plain", "login", "scram-sha-256"] {
            assert_fetched(&mut mpop(site, mechanism));
            await_method(server, &mechanism.to_ascii_uppercase());
        }
    });
}

#[test]
fn mpop_logs_in_by_scram_sha_1_where_that_is_wanted() {
    let setup = Setup::new().set("auth", "mechanisms", "[\"SCRAM-SHA-1\"]");
    setup.as_ordinary_user(|site| {
        let users = format!("{}:{ALICE_VERIFIER_SHA_1}\n", ALICE.name);
        fs::write(site.directory.join("users"), users).expect("the users file");
        site.deliver(ALICE, MAIL);
        let server = site.serve();
        assert_fetched(&mut mpop(site, "scram-sha-1"));
        await_method(&server, "SCRAM-SHA-1");
    });
}

fn mpop(site: &Site, mechanism: &str) -> Command {
    let settings = format!(
        "host {}\nport {}\ntls off\nauth {mechanism}\nuser {}\npassword {}",
        site.address.ip(),
        site.address.port(),
        ALICE.name,
        ALICE.password,
    );
    mpop::fetching(&site.directory, &settings)
}

#[test]
fn gnu_sasl_logs_in_by_scram_and_is_refused_with_a_wrong_password() {
    if !Path::new("/usr/bin/gsasl").exists() {
        return run::skipped("needs Debian's gsasl");
    }
    with_server(|site, server| {
        gsasl(site, ALICE.password).ok("STAT");
        await_method(server, "SCRAM-SHA-256");
        let mut refused = gsasl(site, "looking-glass");
        refused.err("STAT");
        refused.ok("QUIT");
    });
}

/// A connection on which gsasl has spoken SCRAM, as far as the server let it.
fn gsasl(site: &Site, password: &str) -> Pop {
    let mut command = client("/usr/bin/gsasl");
    command
        .args(["--quiet", "--client", "--no-cb", "-m", "SCRAM-SHA-256"])
        .args(["-a", ALICE.name, "-p", password])
        .args(["--service", "pop", "--hostname", "localhost"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut gsasl = command.spawn().expect("gsasl");
    let mut input = gsasl.stdin.take().expect("a pipe");
    let output = BufReader::new(gsasl.stdout.take().expect("a pipe"));
    let mut output = output.lines().map(|line| line.expect("a line"));
    let mut pop = site.connect();
    let mechanism = output.next().expect("the mechanism's name");
    let first = output.next().expect("its first message");
    let mut received = pop.challenge(&format!("AUTH {mechanism} {first}"));
    writeln!(input, "{received}").expect("gsasl");
    let proof = output.next().expect("its proof");
    if password == ALICE.password {
        received = pop.challenge(&proof);
        writeln!(input, "{received}").expect("gsasl");
        // It has verified the server's signature, and has nothing more to say.
        pop.ok(&output.next().expect("its last message"));
    } else {
        assert_eq!(pop.ask(&proof).code(), Some("AUTH"));
    }
    drop(input);
    gsasl.kill().expect("gsasl");
    gsasl.wait().expect("gsasl");
    pop
}

#[test]
fn scram_from_pythons_hashlib_logs_in() {
    with_server(|site, server| {
        let said = scram(site, "none", site.address.port(), ALICE.password);
        assert!(said.expect_success("python3").starts_with(b"+OK 1 "));
        await_method(server, "SCRAM-SHA-256");
        let refused = scram(site, "none", site.address.port(), "looking-glass");
        assert!(refused.errors.starts_with("-ERR [AUTH]"), "{refused:?}");
    });
}

#[test]
fn over_tls_scram_is_bound_to_the_channel() {
    let tls_address = SocketAddr::from((Ipv4Addr::LOCALHOST, TLS_PORT));
    let file = |name: &str| format!("\"/etc/popa3d-tls/{name}\"");
    let setup = Setup::new()
        .set("", "listen_tls", &format!("[\"{tls_address}\"]"))
        .set("tls", "certificate", &file("mail.pem"))
        .set("tls", "key", &file("mail.key"))
        .set("auth", "cleartext", "\"never\"");
    setup.as_ordinary_user(|site| {
        if site.machine.is_none() {
            return run::skipped("needs a machine of its own");
        }
        let authority = Authority::new();
        authority.issue("mail", &[HOST], Kind::P256, 90, OPERATOR_ID);
        with_verifiers(site);
        let server = site.serve();
        for binding in ["tls-exporter", "tls-server-end-point"] {
            let said = scram(site, binding, TLS_PORT, ALICE.password);
            assert!(said.expect_success("python3").starts_with(b"+OK 1 "));
            await_method(&server, "SCRAM-SHA-256-PLUS");
        }
        // And by GNU SASL's library, which mpop is linked with.
        let said = gnu_sasl_plus(site, ALICE.password);
        assert!(said.expect_success("python3").starts_with(b"+OK 1 "));
        await_method_times(&server, "SCRAM-SHA-256-PLUS", 3);
        let refused = gnu_sasl_plus(site, "looking-glass");
        assert!(refused.errors.starts_with("-ERR [AUTH]"), "{refused:?}");
        // In the clear there is nothing.
        let mut pop = site.connect();
        assert_eq!(capability(&mut pop, "SASL"), None);
        assert_eq!(capability(&mut pop, "USER"), None);
        pop.err(&format!("AUTH PLAIN {PLAIN}"));
    });
}

#[test]
fn a_user_of_the_system_may_use_scram_after_plain_over_tls_until_the_password_changes() {
    let tls_address = SocketAddr::from((Ipv4Addr::LOCALHOST, TLS_PORT));
    let file = |name: &str| format!("\"/etc/popa3d-tls/{name}\"");
    let mechanisms = r#"["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]"#;
    Setup::new()
        .set("", "listen_tls", &format!("[\"{tls_address}\"]"))
        .set("tls", "certificate", &file("mail.pem"))
        .set("tls", "key", &file("mail.key"))
        .set("auth", "backends", "[\"shadow\"]")
        .set("auth", "mechanisms", mechanisms)
        .set("auth", "derive_verifiers", "true")
        .set("auth", "failure_delay", "\"0s\"")
        .as_root(|site| {
            let authority = Authority::new();
            authority.issue("mail", &[HOST], Kind::P256, 90, 0);
            site.deliver(ALICE, MAIL);
            let server = site.serve();
            let binding = "tls-exporter";
            let early = scram(site, binding, TLS_PORT, ALICE.password);
            assert!(early.errors.starts_with("-ERR [AUTH]"), "{early:?}");
            let mut curl = client("/usr/bin/curl");
            curl.args(["--silent", "--show-error", "--login-options", "AUTH=PLAIN"])
                .args(["--user", &format!("{}:{}", ALICE.name, ALICE.password)])
                .args(["--resolve", &format!("{HOST}:{TLS_PORT}:127.0.0.1")])
                .arg("--cacert")
                .arg(authority.file())
                .arg(format!("pop3s://{HOST}:{TLS_PORT}/1"));
            assert_fetched(&mut curl);
            await_method(&server, "PLAIN");
            for (binding, port, method) in [
                (binding, TLS_PORT, "SCRAM-SHA-256-PLUS"),
                ("none", site.address.port(), "SCRAM-SHA-256"),
            ] {
                let said = scram(site, binding, port, ALICE.password);
                assert!(said.expect_success("python3").starts_with(b"+OK 1 "));
                await_method(&server, method);
            }
            // Her password becomes Bob's.
            let shadow = fs::read_to_string("/etc/shadow").expect("/etc/shadow");
            fs::write("/etc/shadow", shadow.replace(ALICE.hash, BOB.hash)).expect("/etc/shadow");
            let refused = scram(site, binding, TLS_PORT, ALICE.password);
            assert!(refused.errors.starts_with("-ERR [AUTH]"), "{refused:?}");
            let log = server.log();
            assert!(!log.contains("store unusable"), "{log}");
        });
}

#[test]
fn a_stranger_is_told_the_same_salt_before_and_after_a_restart() {
    // `n,,n=NAME,r=abc`
    let names = ["biwsbj1ub2JvZHkscj1hYmM=", "biwsbj1hbGljZSxyPWFiYw=="];
    let salts = |site: &Site| {
        names.map(|first| {
            let mut pop = site.connect();
            let first = pop.challenge(&format!("AUTH SCRAM-SHA-256 {first}"));
            pop.err("*");
            first
        })
    };
    with_server(|site, _| {
        let [stranger, alice] = salts(site);
        assert_eq!(stranger.len(), alice.len());
        assert_ne!(stranger, alice);
    });
    Setup::new().as_ordinary_user(|site| {
        with_verifiers(site);
        let salt = |server: Server| {
            // Everything behind the nonce, which is the same length each time: 3 octets of ours and 24 of the server's.
            let [stranger, _] = salts(site);
            drop(server);
            stranger.get(40..).map(str::to_owned)
        };
        let before = salt(site.serve());
        assert!(before.is_some());
        assert_eq!(salt(site.serve()), before);
    });
}

fn client(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C");
    command
}

fn assert_fetched(client: &mut Command) {
    let name = client.get_program().to_string_lossy().into_owned();
    let said = run::to_end(client, b"").expect_success(&name);
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("looking-glass"), "{said}");
}

fn await_method(server: &Server, mechanism: &str) {
    let wanted = format!(" method={mechanism} ");
    server.await_log("the login", |line| {
        line.starts_with("login: ") && line.contains(&wanted)
    });
}

/// SCRAM-SHA-256-PLUS over TLS 1.3.
fn gnu_sasl_plus(site: &Site, password: &str) -> run::Outcome {
    let script = site.directory.join("gsasl.py");
    fs::write(&script, include_str!("gsasl.py")).expect("the script");
    let mut python = client("/usr/bin/python3");
    python
        .arg(script)
        .args([&TLS_PORT.to_string(), ALICE.name, password])
        .arg("/etc/popa3d-tls/authority.pem");
    run::to_end(&mut python, b"")
}

/// Waits for so many logins by a mechanism.
fn await_method_times(server: &Server, mechanism: &str, times: usize) {
    let wanted = format!(" method={mechanism} ");
    server.await_log("the logins", |_| {
        let log = server.log();
        let is_one = |line: &&str| line.starts_with("login: ") && line.contains(&wanted);
        log.lines().filter(is_one).count() == times
    });
}

fn scram(site: &Site, binding: &str, port: u16, password: &str) -> run::Outcome {
    let script = site.directory.join("scram.py");
    fs::write(&script, include_str!("scram.py")).expect("the script");
    let mut python = client("/usr/bin/python3");
    python
        .arg(script)
        .args([binding, &port.to_string(), ALICE.name, password])
        .arg("/etc/popa3d-tls/authority.pem");
    run::to_end(&mut python, b"")
}
