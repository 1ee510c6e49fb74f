//! Passwords are nowhere once their login is over: looked for in memory itself, as root.

use super::{Connected, Openssl, furnish, setup, tls_address};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;
use system_tests::certificates::{DIRECTORY, Kind};
use system_tests::pop::Pop;
use system_tests::server::Server;
use system_tests::site::Site;
use system_tests::users::{ALICE, SERVICE};
use system_tests::{corpus, run};

/// A password that is nowhere by chance, nor is a half of it.
const PASSWORD: &str = "Xq7vN2fR9wLk3TzB6mYp";

/// crypt(3) of it.
const HASH: &str = "$6$rounds=1000$alice$/wb6FwdMAzvQTmgTa5HClCSkL3wPnWKHRDBZFOLMfO0MTqJ0Un3rtf4lKZH/XgeNeAs9Qe5Lgqz0gKLPD4PMd/";

/// Its verifier, with 4096 iterations; made with Python's hashlib.
const VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdC1vZi1hbGljZS4uLg==$n5VH0cbkb/JsXgTNydujro2BSv+tjAlAuFjx1rPW68M=:M9C00tJ8/hCQ7b40+U+3tMHiwBIXylUu5KtSp+vhxh8=";

/// `\0alice\0` and the password, the name, and the password, in base64.
const PLAIN: &str = "AGFsaWNlAFhxN3ZOMmZSOXdMazNUekI2bVlw";
const NAME: &str = "YWxpY2U=";
const ALONE: &str = "WHE3dk4yZlI5d0xrM1R6QjZtWXA=";

/// Octets of a part that is looked for. An allocator writes over the first 16 of what it is given back, so that the whole
/// would not be found where most of it is.
const PART_OCTETS: usize = 10;

/// What must not be found.
fn parts() -> Vec<&'static [u8]> {
    [PASSWORD, PLAIN, ALONE]
        .iter()
        .flat_map(|form| form.as_bytes().chunks_exact(PART_OCTETS))
        // `AGFsaWNlAF` is only the name.
        .filter(|part| !PLAIN.as_bytes().starts_with(part))
        .collect()
}

/// How to log in.
type Way = fn(&mut Pop);

/// Every place where a part is, of every process of the server's.
fn search(server: &Server, when: &str, found: &mut Vec<String>) {
    let parts = parts();
    let processes = server.processes();
    assert!(processes.len() >= 6, "{processes:?}");
    for process in processes {
        if let Some(part) = process.first_held(&parts) {
            found.push(format!(
                "{when}: {}: {}",
                process.title(),
                part.escape_ascii()
            ));
        }
    }
}

fn by_pass(pop: &mut Pop) {
    pop.login(ALICE.name, PASSWORD);
}

fn by_plain(pop: &mut Pop) {
    pop.ok(&format!("AUTH PLAIN {PLAIN}"));
}

fn by_plain_in_two_lines(pop: &mut Pop) {
    pop.challenge("AUTH PLAIN");
    pop.ok(PLAIN);
}

fn by_login(pop: &mut Pop) {
    pop.challenge("AUTH LOGIN");
    pop.challenge(NAME);
    pop.ok(ALONE);
}

/// SCRAM over TLS, to its end. The password itself is never sent.
fn by_scram(site: &Site) {
    let script = site.directory.join("scram.py");
    fs::write(&script, include_str!("../scram.py")).expect("the script");
    let mut python = Command::new("/usr/bin/python3");
    python
        .arg(script)
        .args(["tls-exporter", &tls_address().port().to_string()])
        .args([ALICE.name, PASSWORD])
        .arg(format!("{DIRECTORY}/authority.pem"));
    run::to_end(&mut python, b"").expect_success("python3");
}

/// Gives Alice the password in both stores.
fn with_password() {
    let shadow = fs::read_to_string("/etc/shadow").expect("/etc/shadow");
    fs::write("/etc/shadow", shadow.replace(ALICE.hash, HASH)).expect("/etc/shadow");
    fs::create_dir_all("/etc/popa3d").expect("a directory");
    let users = "/etc/popa3d/users";
    fs::write(users, format!("{}:{VERIFIER}\n", ALICE.name)).expect("the users file");
    chown(users, Some(0), Some(SERVICE[1].1)).expect("its owner");
    fs::set_permissions(users, Permissions::from_mode(0o640)).expect("its mode");
}

fn after_logins_nobody_holds_the_password(backend: &str) {
    let setup = setup()
        .set("auth", "backends", &format!("[\"{backend}\"]"))
        .set("auth", "users_file", "\"/etc/popa3d/users\"");
    setup.as_root(|site| {
        furnish(Kind::P256, 0);
        with_password();
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        let server = site.serve();
        let mut found = Vec::new();
        let ways: [(&str, Way); 4] = [
            ("PASS", by_pass),
            ("PLAIN", by_plain),
            ("PLAIN in two lines", by_plain_in_two_lines),
            ("LOGIN", by_login),
        ];
        for (name, way) in ways {
            let mut clear = site.connect();
            way(&mut clear);
            assert!(clear.ok("STAT").starts_with("2 "));
            search(&server, &format!("{name} in the clear"), &mut found);
            clear.ok("QUIT");
            clear.expect_closed();
            for version in ["-tls1_2", "-tls1_3"] {
                let tls = Openssl::to(tls_address()).with(&[version]);
                let Connected { ref mut pop, .. } = tls.greeted();
                way(pop);
                // The session stays, as the relay.
                assert!(pop.ok("STAT").starts_with("2 "));
                assert_eq!(server.roles("session").len(), 1);
                search(&server, &format!("{name} {version}"), &mut found);
                pop.ok("QUIT");
                pop.expect_closed();
            }
        }
        if backend == "users-file" {
            by_scram(site);
            search(&server, "SCRAM", &mut found);
        }
        assert!(found.is_empty(), "{found:#?}");
    });
}

#[test]
fn no_process_holds_a_password_that_the_shadow_file_has_verified() {
    after_logins_nobody_holds_the_password("shadow");
}

#[test]
fn no_process_holds_a_password_that_pam_has_verified() {
    after_logins_nobody_holds_the_password("pam");
}

#[test]
fn no_process_holds_a_password_that_a_verifier_has_verified() {
    after_logins_nobody_holds_the_password("users-file");
}

#[test]
fn the_search_finds_a_password_where_it_still_is() {
    setup().as_root(|site| {
        furnish(Kind::P256, 0);
        let server = site.serve();
        let mut pop = site.connect();
        pop.ok("CAPA");
        pop.lines();
        // Half a line is kept until its end comes.
        pop.send(format!("PASS {PASSWORD}").as_bytes());
        system_tests::poll::until("the session to have read it", || {
            let mut found = Vec::new();
            search(&server, "in the middle", &mut found);
            (!found.is_empty()).then_some(())
        });
    });
}
