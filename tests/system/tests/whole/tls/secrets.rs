//! Where the private key is, and where not: looked for in memory itself, as root.

use super::{Openssl, furnish, setup, tls_address};
use std::fs;
use system_tests::certificates::Kind;
use system_tests::corpus;
use system_tests::users::{ALICE, SERVICE};

/// Octets of a key that are looked for: more than chance finds, and less than a whole private number.
const PART: usize = 16;

/// The private number of a key on P-256 in PKCS #8, as rcgen writes it: 32 octets behind `04 20`.
fn private_number(secret: &[u8]) -> &[u8] {
    let at = secret
        .windows(2)
        .position(|pair| pair == [0x04, 0x20])
        .expect("a private number");
    &secret[at + 2..at + 34]
}

#[test]
fn no_process_but_the_keyholder_holds_the_key() {
    setup().as_root(|site| {
        let (_, pair) = furnish(Kind::P256, 0);
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        let server = site.serve();
        let mut waiting = Openssl::to(tls_address()).greeted();
        waiting.pop.ok("CAPA");
        waiting.pop.lines();
        let mut serving = Openssl::by_stls(site.address).connect();
        serving.pop.login(ALICE.name, ALICE.password);
        let number = private_number(&pair.secret);
        // As written, and as ring keeps it: least significant octet first.
        let reversed: Vec<u8> = number.iter().rev().copied().collect();
        let pem = fs::read_to_string(&pair.key).expect("the key");
        let base64 = pem.lines().nth(2).expect("a line of it").as_bytes();
        let forms = [&number[..PART], &reversed[..PART], base64];
        let mut seen = 0;
        for process in server.processes() {
            let title = process.title();
            let found = process.first_held(&forms).is_some();
            if title == "popa3d: keyholder" {
                assert!(found, "the test finds a key where there is one");
            } else {
                assert!(!found, "{title}");
                seen += 1;
            }
        }
        assert!(seen >= 7, "master, four roles, two sessions: {seen}");
        serving.pop.ok("QUIT");
    });
}

#[test]
fn the_keyholder_is_its_own_user_without_files() {
    setup().as_root(|site| {
        furnish(Kind::P256, 0);
        let server = site.serve();
        let keyholder = server.role("keyholder");
        let (_, id, _) = SERVICE[3];
        assert_eq!(keyholder.user(), Some(id));
        let status = |key: &str| keyholder.status(key).expect("its status");
        assert_eq!(status("CapEff"), "0000000000000000");
        assert_eq!(status("Seccomp"), "2");
        assert_eq!(status("NoNewPrivs"), "1");
        let root = fs::read_link(keyholder.file("root")).expect("its root");
        assert_eq!(root, std::path::Path::new("/var/empty"));
        for entry in fs::read_dir(keyholder.file("fd"))
            .expect("its descriptors")
            .flatten()
        {
            let Ok(target) = fs::read_link(entry.path()) else {
                continue;
            };
            let target = target.display().to_string();
            let own = ["socket:", "anon_inode:", "/dev/null"];
            let log = entry.file_name() == "2";
            assert!(
                log || own.iter().any(|kind| target.starts_with(kind)),
                "{target}"
            );
        }
    });
}

#[test]
fn a_killed_keyholder_is_replaced_and_handshakes_go_on() {
    setup().as_root(|site| {
        furnish(Kind::P256, 0);
        let server = site.serve();
        server.role("keyholder").kill();
        server.await_log("its end", |line| {
            line.starts_with("role ") && line.contains("role=keyholder")
        });
        let shaken = || {
            let mut client = Openssl::to(tls_address()).connect();
            let greeting = client.pop.try_reply();
            greeting.filter(|greeting| greeting.ok)
        };
        system_tests::poll::until("a handshake with its successor", shaken);
    });
}
