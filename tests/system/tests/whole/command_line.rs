//! Options, configuration errors, and reading the configuration anew.

use std::process::Command;
use system_tests::pop::Pop;
use system_tests::run::{self, Outcome};
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;

fn run(site: &Site, arguments: &[&str]) -> Outcome {
    let mut command: Command = site.bare_command();
    run::to_end(command.args(arguments), b"")
}

/// The configuration file's name, as the command line gives it.
fn configuration(site: &Site) -> String {
    site.command()
        .get_args()
        .nth(1)
        .expect("-c FILE")
        .display()
        .to_string()
}

#[test]
fn version_and_date_are_printed() {
    Setup::new().as_ordinary_user(|site| {
        let outcome = run(site, &["-V"]);
        let text = String::from_utf8(outcome.expect_success("popa3d -V")).expect("text");
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(
            text.starts_with("popa3d version ") && text.ends_with(")\n"),
            "{text:?}"
        );
        assert!(words.len() == 4 && words[3].starts_with('('), "{text:?}");
    });
}

#[test]
fn anything_else_is_answered_with_the_usage_and_status_1() {
    Setup::new().as_ordinary_user(|site| {
        for arguments in [
            &["-x"][..],
            &["operand"],
            &["-D", "operand"],
            &["--version"],
            &["-c"],
            &["-DD"],
            &[""],
        ] {
            let outcome = run(site, arguments);
            assert_eq!(outcome.status.code(), Some(1), "{arguments:?}");
            assert!(outcome.output.is_empty(), "{arguments:?}");
            assert!(
                outcome.errors.to_lowercase().starts_with("usage: popa3d"),
                "{arguments:?}: {}",
                outcome.errors
            );
        }
    });
}

#[test]
fn a_configuration_is_checked_without_serving() {
    Setup::new().as_ordinary_user(|site| {
        let file = configuration(site);
        run(site, &["-t", "-c", &file]).expect_success("popa3d -t");
        let good = Setup::new().set("limits", "sessions", "1");
        for (text, column, hint) in [
            ("[limits]\nsession = 1\n", ":2:", "sessions"),
            ("[limits]\nsessions = \"many\"\n", ":2:", "expected"),
            ("[limits]\nidle_timeout = \"ten\"\n", ":2:", "10m"),
            ("listen = [\"localhost\"]\n", ":1:", "address"),
            ("[maildrop]\nlocation = \"pigeon:%h\"\n", "", "maildir:"),
            ("[auth]\nbackends = [\"ldap\"]\n", ":2:", "users-file"),
            ("[auth\n", ":1:", ""),
        ] {
            site.write_configuration(text);
            let outcome = run(site, &["-t", "-c", &file]);
            assert_eq!(outcome.status.code(), Some(1), "{text:?}");
            let errors = outcome.errors;
            assert!(
                errors.contains(&format!("{file}{column}")),
                "names file and line: {errors}"
            );
            assert!(errors.contains(hint), "says what is allowed: {errors}");
        }
        site.write_configuration(&good.toml());
        let outcome = run(site, &["-t", "-c", "/nonexistent/popa3d.toml"]);
        assert_eq!(outcome.status.code(), Some(1));
        assert!(
            outcome.errors.contains("/nonexistent/popa3d.toml"),
            "{}",
            outcome.errors
        );
    });
}

#[test]
fn a_daemon_that_cannot_start_says_why_and_fails() {
    Setup::new()
        .set("maildrop", "location", r#""mbox:%h/%h""#)
        .as_ordinary_user(|site| {
            let file = configuration(site);
            let outcome = run(site, &["-D", "-f", "-c", &file]);
            assert_eq!(outcome.status.code(), Some(1));
            assert!(outcome.errors.contains("location"), "{}", outcome.errors);
        });
}

#[test]
fn sighup_changes_limits_and_users_and_a_bad_file_changes_nothing() {
    let setup = Setup::new().set("limits", "source_hold", r#""0s""#);
    setup.as_ordinary_user(|site| {
        let mut server = site.serve();
        let mut held = site.login(ALICE);

        site.reconfigure(|setup| setup.set("limits", "sessions", "1"));
        server.reload();
        let mut refused = Pop::dial(site.address);
        assert!(!refused.reply().ok, "the new limit counts the old session");
        held.ok("NOOP");

        site.write_configuration("[limits]\nsessions = \"none\"\n");
        server.reload();
        server.await_log("the error", |line| {
            line.contains("sessions") || line.contains("integer")
        });
        assert!(
            !Pop::dial(site.address).reply().ok,
            "the old configuration stays"
        );
        held.ok("NOOP");

        site.reconfigure(|setup| setup.set("limits", "sessions", "10"));
        server.reload();
        assert!(Pop::dial(site.address).reply().ok);
        held.ok("QUIT");
        held.expect_closed();
    });
}

#[test]
fn the_users_file_is_read_for_each_login() {
    Setup::new()
        .set("auth", "failure_delay", r#""1ms""#)
        .as_ordinary_user(|site| {
            let _server = site.serve();
            site.login(ALICE).ok("QUIT");
            let users = site.directory.join("users");
            let text = std::fs::read_to_string(&users).expect("the users file");
            let without: String = text
                .lines()
                .filter(|line| !line.starts_with(ALICE.name))
                .map(|line| format!("{line}\n"))
                .collect();
            std::fs::write(&users, without).expect("the users file");
            let mut pop = site.connect();
            pop.ok(&format!("USER {}", ALICE.name));
            assert_eq!(
                pop.ask(&format!("PASS {}", ALICE.password)).code(),
                Some("AUTH")
            );
        });
}

#[test]
fn a_daemon_goes_into_the_background_when_it_listens() {
    Setup::new()
        .set("log", "target", r#""syslog""#)
        .as_ordinary_user(|site| {
            let Some(_machine) = site.machine else {
                return run::skipped("needs root"); // Nobody would end the daemon.
            };
            let mut command = site.command();
            let started = run::to_end(command.arg("-D"), b"");
            started.expect_success("popa3d -D");
            site.login(ALICE).ok("QUIT");
        });
}

#[test]
fn an_address_in_use_and_a_missing_user_are_named() {
    Setup::new().as_root(|site| {
        let file = configuration(site);
        let _taken = std::net::TcpListener::bind(site.address).expect("the address");
        let outcome = run(site, &["-D", "-f", "-c", &file]);
        assert_eq!(outcome.status.code(), Some(1));
        assert!(
            outcome.errors.contains(&site.address.to_string()),
            "{}",
            outcome.errors
        );
        site.reconfigure(|setup| setup.set("", "user", r#""nobody-of-that-name""#));
        let outcome = run(site, &["-D", "-f", "-c", &file]);
        assert_eq!(outcome.status.code(), Some(1));
        assert!(
            outcome.errors.contains("nobody-of-that-name"),
            "{}",
            outcome.errors
        );
    });
}
