//! Which certificate is shown, and how it is changed under a running server.

use super::{Openssl, furnish, setup, tls_address, with_server};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use system_tests::certificates::{DIRECTORY, HOST, Kind};
use system_tests::users::ALICE;
use system_tests::{corpus, run};

/// What openssl's client says of the certificate it is shown: `subject=CN = NAME` and the like.
fn shown(arguments: &[&str]) -> String {
    let mut command = Command::new("/usr/bin/openssl");
    command
        .args(["s_client", "-connect", &tls_address().to_string()])
        .args(arguments);
    let outcome = run::to_end(&mut command, b"");
    String::from_utf8_lossy(&outcome.output).into_owned()
}

#[test]
fn the_name_and_the_kind_of_key_choose() {
    let listed = |name: &str| {
        format!("{{ certificate = \"{DIRECTORY}/{name}.pem\", key = \"{DIRECTORY}/{name}.key\" }}")
    };
    let more = format!("[{}, {}]", listed("second"), listed("other"));
    setup().set("tls", "certificates", &more).as_root(|site| {
        let (authority, _) = furnish(Kind::Rsa, 0);
        authority.issue("second", &[HOST], Kind::P256, 90, 0);
        authority.issue(
            "other",
            &["pop.example.net", "*.example.com"],
            Kind::P384,
            90,
            0,
        );
        let _server = site.serve();
        let rsa = ["-tls1_3", "-sigalgs", "RSA-PSS+SHA256"];
        for (name, sigalgs, expected) in [
            (HOST, &[][..], "CN = second"),
            (HOST, &rsa[..], "CN = mail"),
            ("pop.example.net", &[], "CN = other"),
            ("a.example.com", &[], "CN = other"),
            ("unknown.example", &[], "CN = second"),
        ] {
            let arguments = [&["-servername", name][..], sigalgs].concat();
            let text = shown(&arguments);
            assert!(
                text.contains(&format!("subject={expected}")),
                "{name}: {text}"
            );
        }
    });
}

#[test]
fn a_reload_shows_the_new_one_and_a_bad_one_leaves_the_old() {
    with_server(setup(), Kind::P256, |site, server| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        let mut under_way = Openssl::to(tls_address()).greeted();
        let serial = |text: &str| {
            let line = text.lines().find(|line| line.contains("a:PKEY"));
            line.map(str::to_owned)
        };
        let first = shown(&[]);
        assert!(first.contains("id-ecPublicKey"), "{first}");
        let (_, newer) = furnish(Kind::Rsa, 0);
        server.reload();
        server.await_log("the new one", |line| line.contains("key=Rsa"));
        let second = shown(&[]);
        assert!(second.contains("rsaEncryption"), "{second}");
        assert_ne!(serial(&first), serial(&second));
        // A session that was there before goes on.
        under_way.pop.login(ALICE.name, ALICE.password);
        under_way.pop.ok("QUIT");

        fs::write(&newer.key, "no key at all").expect("a file");
        server.reload();
        let line = server.await_log("the complaint", |line| {
            line.starts_with("certificate not changed")
        });
        assert!(line.contains("mail.key"), "{line}");
        assert!(shown(&[]).contains("rsaEncryption"));
        fs::write(&newer.certificate, "").expect("a file");
        fs::remove_file(&newer.key).expect("a file");
        server.reload();
        server.await_log("the complaint", |line| line.contains("No such file"));
        assert!(shown(&[]).contains("rsaEncryption"));
    });
}

#[test]
fn a_server_does_not_start_with_a_bad_pair_and_says_why() {
    setup().as_root(|site| {
        let (authority, pair) = furnish(Kind::P256, 0);
        let refused = |said: &str| {
            let mut command = site.command();
            command.args(["-D", "-f"]);
            let outcome = run::to_end(&mut command, b"");
            assert!(!outcome.status.success());
            assert!(outcome.errors.contains(said), "{}", outcome.errors);
        };
        fs::set_permissions(&pair.key, Permissions::from_mode(0o644)).expect("a mode");
        refused("mail.key: others than its owner and group may use it");
        fs::set_permissions(&pair.key, Permissions::from_mode(0o600)).expect("a mode");
        let other = authority.issue("other", &["x"], Kind::P256, 90, 0);
        fs::copy(&other.key, &pair.key).expect("a file");
        refused("the key is not the certificate's");
        fs::remove_file(&pair.certificate).expect("a file");
        refused("mail.pem: No such file");
    });
}

#[test]
fn the_log_warns_of_a_certificate_that_is_about_to_expire() {
    setup().as_root(|site| {
        let (authority, _) = furnish(Kind::P256, 0);
        authority.issue("mail", &[HOST], Kind::P256, 10, 0);
        let server = site.serve();
        let line = server.await_log("a warning", |line| line.starts_with("certificate expires"));
        assert!(
            line.contains("mail.pem") && line.contains("days_left="),
            "{line}"
        );
    });
}

#[test]
fn a_client_certificate_is_asked_for_only_if_authorities_are_known_and_must_hold() {
    let setup = setup().set(
        "tls",
        "client_ca",
        &format!("\"{DIRECTORY}/authority.pem\""),
    );
    setup.as_root(|site| {
        let (authority, _) = furnish(Kind::P256, 0);
        let own = authority.issue("client", &["alice"], Kind::P256, 90, 0);
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        let server = site.serve();
        // None is fine, too.
        let mut without = Openssl::to(tls_address()).greeted();
        without.pop.ok("QUIT");
        let of = |pair: &system_tests::certificates::Pair| {
            let path = |path: &std::path::Path| path.display().to_string();
            Openssl::to(tls_address()).with(&[
                "-cert",
                &path(&pair.certificate),
                "-key",
                &path(&pair.key),
            ])
        };
        let mut with = of(&own).greeted();
        with.pop.ok("QUIT");
        server.await_log("it was seen", |line| {
            line.contains("client_certificate=verified")
        });
        // Somebody else's authority: a new one, whose file the server has not read.
        let stranger = system_tests::certificates::Authority::new();
        let foreign = stranger.issue("foreign", &["alice"], Kind::P256, 90, 0);
        of(&foreign).connect().pop.rest();
        server.await_log("the refusal", |line| line.starts_with("connection lost"));
    });
}
