//! App passwords and the rights that go with them, with real clients: who gets in, from where, and what they may do.

use app_passwords::Hash;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use system_tests::pop::Pop;
use system_tests::run;
use system_tests::server::Server;
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;

const PASSWORD: &str = "mzxw-6ytb-mzxw-6ytb-mzxw-6ytb";
const READER: &str = "read-6ytb-mzxw-6ytb-mzxw-6ytb";

const MAIL: &[u8] = b"From a Thu Jan  1 00:00:00 1970\nSubject: one\n\nlooking-glass\n\n\
    From b Thu Jan  1 00:00:00 1970\nSubject: two\n\nwhite rabbit\n";

/// Fetches everything and deletes it, as download-and-delete users do, and says what came of it.
const DOWNLOAD_AND_DELETE: &str = r#"
import poplib, sys
pop = poplib.POP3(sys.argv[1], int(sys.argv[2]), timeout=60)
pop.user(sys.argv[3])
pop.pass_(sys.argv[4])
for number in range(1, pop.stat()[0] + 1):
    pop.retr(number)
    try:
        pop.dele(number)
        print("deleted")
    except poplib.error_proto as error:
        print(error.args[0].decode())
print(pop.stat()[0])
pop.quit()
"#;

/// Alice is a user of the system, who has two: one that may do everything from 127.0.0.0/8, and one that may only read.
fn with_server(location: &str, body: impl FnOnce(&Site, &mut Server) + Send) {
    Setup::new()
        .set("auth", "backends", "[\"shadow\"]")
        .set("auth", "failure_delay", "\"1ms\"")
        .set("auth", "app_passwords", "\"/etc/popa3d-app-passwords\"")
        .set("maildrop", "location", location)
        .as_root(|site| {
            let hash = |password: &str| Hash::of(password.as_bytes(), &[7; 16]);
            let lines = format!(
                "alice:desk:{}:::127.0.0.1/32\nalice:reader:{}:read-only\n",
                hash(PASSWORD),
                hash(READER)
            );
            let path = "/etc/popa3d-app-passwords";
            fs::write(path, lines).expect("the file");
            fs::set_permissions(path, Permissions::from_mode(0o640)).expect("its mode");
            let status = Command::new("/usr/bin/chgrp")
                .args(["popa3d-auth", path])
                .status();
            assert!(status.expect("chgrp").success());
            body(site, &mut site.serve());
        });
}

fn curl(site: &Site, password: &str, from: &str) -> run::Outcome {
    let mut curl = Command::new("/usr/bin/curl");
    curl.env_clear()
        .args(["--silent", "--show-error", "--interface", from])
        .args(["--user", &format!("{}:{password}", ALICE.name)])
        .arg(format!("pop3://{}/1", site.address));
    run::to_end(&mut curl, b"")
}

#[test]
fn curl_gets_in_by_an_app_password_from_its_network_and_from_no_other() {
    with_server("\"mbox:/var/mail/%u\"", |site, server| {
        site.deliver(ALICE, MAIL);
        let fetched = curl(site, PASSWORD, "127.0.0.1").expect_success("curl");
        assert!(fetched.ends_with(b"looking-glass\r\n"), "{fetched:?}");
        server.await_log("the login", |line| {
            line.starts_with("login: ")
                && line.contains("user=alice ")
                && line.contains("backend=shadow credential=desk")
        });
        let refused = curl(site, PASSWORD, "127.0.0.2");
        assert!(refused.errors.contains("denied"), "{refused:?}");
        let line = server.await_log("the refusal", |line| line.starts_with("login failed: "));
        let reason = r#"reason="app password desk is not for this network""#;
        assert!(
            line.contains(reason) && line.contains("user=alice "),
            "{line}"
        );
        // To the client it is any wrong password.
        let mut pop = Pop::connect(site.address);
        pop.ok("USER alice");
        let wrong = pop.ask("PASS wrong");
        assert_eq!(wrong.code(), Some("AUTH"));
        assert!(!server.log().contains("6ytb"));
    });
}

fn download_and_delete(site: &Site, password: &str) -> String {
    let mut python = Command::new("/usr/bin/python3");
    let (host, port) = (
        site.address.ip().to_string(),
        site.address.port().to_string(),
    );
    python.env_clear().args(["-c", DOWNLOAD_AND_DELETE]);
    python.args([host.as_str(), &port, ALICE.name, password]);
    String::from_utf8(run::to_end(&mut python, b"").expect_success("poplib")).expect("words")
}

#[test]
fn poplib_may_read_and_not_delete_and_a_full_one_deletes() {
    for location in ["\"mbox:/var/mail/%u\"", "\"maildir:%h/Maildir\""] {
        with_server(location, |site, server| {
            let maildir = location.contains("maildir:");
            if maildir {
                for (name, text) in [
                    ("1.a.x", "Subject: one\n\n1\n"),
                    ("2.b.x", "Subject: two\n\n2\n"),
                ] {
                    put_in_maildir(name, text);
                }
            } else {
                site.deliver(ALICE, MAIL);
            }
            let refused = "-ERR this login may not delete messages\n";
            let expected = format!("{refused}{refused}2\n");
            assert_eq!(download_and_delete(site, READER), expected, "{location}");
            server.await_log("the end of the session", |line| {
                line.starts_with("session ended: ")
                    && line.contains("end=quit retr=2 ")
                    && line.contains(" deleted=0 ")
                    && line.contains(" left=2 ")
            });
            let left = download_and_delete(site, PASSWORD);
            assert_eq!(left, "deleted\ndeleted\n0\n", "{location}");
        });
    }
}

/// As a mail transfer agent delivers it.
fn put_in_maildir(name: &str, text: &str) {
    let home = std::path::Path::new("/home/alice/Maildir");
    for directory in ["", "new", "cur", "tmp"] {
        fs::create_dir_all(home.join(directory)).expect("a Maildir");
        own(&home.join(directory));
    }
    fs::write(home.join("new").join(name), text).expect("a message");
    own(&home.join("new").join(name));
}

fn own(path: &std::path::Path) {
    std::os::unix::fs::chown(path, Some(ALICE.id), Some(ALICE.id)).expect("an owner");
}
