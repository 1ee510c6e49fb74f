//! The command itself: its other actions, its exit codes, its passwords, its manual page.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use scripted_server::Mailbox;

use crate::site::{Site, code, said};

#[test]
fn one_maildrop_can_be_looked_at() {
    let mailbox = Mailbox::sample();
    let site = Site::new(&mailbox.start());
    let stdout = |action: &str, arguments: &[&str]| {
        let output = site.popget(action, arguments);
        assert_eq!(code(&output), 0, "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(stdout("stat", &[]).starts_with("2 messages, "));
    assert_eq!(
        stdout("uidl", &[]),
        "1 whqtswO00WBw418f9t5JxYwZ\n2 QhdPYR:00WBw1Ph7x7\n"
    );
    assert!(
        stdout("list", &["--json"])
            .contains(r#"{"number":1,"octets":51,"uid":"whqtswO00WBw418f9t5JxYwZ"}"#)
    );
    assert_eq!(stdout("top", &["1"]), "Subject: one\r\n\r\n");
    assert_eq!(
        site.popget("retr", &["2"]).stdout,
        mailbox.messages()[1].octets
    );
    assert!(stdout("capa", &[]).contains("PIPELINING\n"));
    let output = site.popget("dele", &["2", "7"]);
    assert_eq!(
        (code(&output), said(&output).contains("2 deleted")),
        (1, true),
        "{output:?}"
    );
    assert_eq!(mailbox.messages().len(), 1);
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let mailbox = Mailbox::sample();
    let site = Site::new(&mailbox.start());
    let run = |arguments: &[&str]| code(&site.command().args(arguments).output().unwrap());
    assert_eq!(run(&["fetch", "nonsense", "--stdout"]), 2);
    assert_eq!(run(&["fetch"]), 2);
    assert_eq!(
        run(&[
            "stat",
            "pop3s://u@127.0.0.1:1",
            "--password-command",
            "echo x"
        ]),
        3
    );
    assert_eq!(
        run(&[
            "stat",
            &site.url,
            "--plain",
            "--password-command",
            "echo wrong"
        ]),
        4
    );
    // Neither STLS nor --plain: no password leaves this machine.
    assert_eq!(
        run(&["stat", &site.url, "--password-command", "echo tanstaaf"]),
        5
    );
    assert!(
        !mailbox
            .heard()
            .iter()
            .any(|line| line.contains("tanstaaf") && !line.contains("PLAIN"))
    );
}

#[test]
fn the_password_comes_from_where_it_is_said() {
    let mailbox = Mailbox::sample();
    let site = Site::new(&mailbox.start());
    let mut child = site
        .command()
        .args(["stat", &site.url, "--plain", "--password-stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"tanstaaf\n")
        .unwrap();
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(child.wait().unwrap().success() && text.starts_with("2 messages"));

    fs::write(site.path("mail"), "tanstaaf\n").unwrap();
    let output = site
        .command()
        .args(["stat", &site.url, "--plain", "--credential", "mail"])
        .env("CREDENTIALS_DIRECTORY", site.directory.path())
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{output:?}");

    let netrc = site.path(".netrc");
    fs::write(&netrc, "machine 127.0.0.1 login mrose password tanstaaf").unwrap();
    let stat = || {
        site.command()
            .args(["stat", &site.url, "--plain"])
            .output()
            .unwrap()
    };
    let permissions = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(&netrc, permissions(0o644)).unwrap();
    assert_eq!(code(&stat()), 2);
    fs::set_permissions(&netrc, permissions(0o600)).unwrap();
    assert_eq!(code(&stat()), 0);
}

#[test]
fn no_password_is_shown_by_verbose() {
    let mut mailbox = Mailbox::sample();
    for capabilities in [vec!["SASL PLAIN"], vec![]] {
        mailbox.capabilities = capabilities;
        let site = Site::new(&mailbox.start());
        let output = site.popget("stat", &["--verbose"]);
        let said = said(&output);
        assert!(said.contains("C: STAT"), "{said}");
        assert!(
            !said.contains("tanstaaf") && !said.contains("AG1yb3Nl"),
            "{said}"
        );
    }
}

#[test]
fn manual_page_and_completions_are_made() {
    for what in ["man", "bash", "fish", "zsh"] {
        let output = Command::new(env!("CARGO_BIN_EXE_popget"))
            .args(["generate", what])
            .output()
            .unwrap();
        assert_eq!(code(&output), 0);
        let text = String::from_utf8(output.stdout).unwrap();
        for word in ["keep-newest", "oauth2-token-command", "seen-now"] {
            assert!(
                text.contains(word) || text.contains(&word.replace('-', "\\-")),
                "{what}: {word}"
            );
        }
    }
}

#[test]
fn manual_page_and_completions_are_installed_with_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/popget/install");
    let installed = Command::new(script)
        .arg("/opt")
        .env("DESTDIR", directory.path())
        .env("POPGET", env!("CARGO_BIN_EXE_popget"))
        .status()
        .unwrap();
    assert!(installed.success());
    let root = directory.path().join("opt");
    let page = fs::read_to_string(root.join("share/man/man1/popget.1")).unwrap();
    assert!(
        page.contains(".TH") && page.contains("Exit codes"),
        "{page}"
    );
    for (file, word) in [
        ("share/bash-completion/completions/popget", "complete -F"),
        (
            "share/fish/vendor_completions.d/popget.fish",
            "complete -c popget",
        ),
        ("share/zsh/site-functions/_popget", "#compdef popget"),
    ] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        assert!(text.contains(word), "{file}");
    }
    let version = Command::new(root.join("bin/popget"))
        .arg("--version")
        .output()
        .unwrap();
    assert_eq!(code(&version), 0);
}
