//! The program as an administrator's script runs it: the password on standard input.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use sasl::scram::Verifier;

fn popa3ctl(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_popa3ctl"))
        .arg("user")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn ok(arguments: &[&str], input: &str) -> String {
    let output = popa3ctl(arguments, input);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn refused(arguments: &[&str], input: &str) -> String {
    let output = popa3ctl(arguments, input);
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn verifies(file: &Path, name: &str, password: &[u8]) -> bool {
    let text = fs::read_to_string(file).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let hash = line
        .unwrap()
        .splitn(4, ':')
        .take(3)
        .collect::<Vec<_>>()
        .join(":");
    Verifier::parse(&hash).unwrap().verify_password(password)
}

#[test]
fn a_user_comes_changes_the_password_is_listed_and_goes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    let file = path.to_str().unwrap();
    let add = [
        "add",
        file,
        "joe",
        "--iterations",
        "4096",
        "--uid",
        "1000",
        "--gid",
        "1000",
    ];
    ok(&add, "first secret \r\nnot read\n");
    assert!(verifies(&path, "joe", b"first secret "));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert!(refused(&add, "x\n").contains("there already"));
    assert_eq!(ok(&["list", file], ""), "joe\tSCRAM-SHA-256 4096\n");

    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    ok(&["passwd", file, "joe", "--iterations", "4096"], "second\n");
    assert!(verifies(&path, "joe", b"second"));
    assert!(!verifies(&path, "joe", b"first secret "));
    assert!(
        fs::read_to_string(&path)
            .unwrap()
            .ends_with("=:1000:1000\n")
    );
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);

    ok(&["del", file, "joe"], "");
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
    assert!(refused(&["del", file, "joe"], "").contains("no user joe"));
    // Nothing is left beside it.
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn what_nobody_could_log_in_with_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    let file = path.to_str().unwrap();
    let before = "ann:!:1:1\n";
    fs::write(&path, before).unwrap();
    let long = "x".repeat(513);
    for (arguments, input) in [
        (vec!["add", file, "joe"], ""),
        (vec!["add", file, "joe"], "\n"),
        (vec!["add", file, "joe"], long.as_str()),
        (vec!["add", file, "a:b"], "x\n"),
        (vec!["add", file, "#joe"], "x\n"),
        (vec!["add", file, ""], "x\n"),
        (vec!["add", file, "j\u{ad}oe"], "x\n"),
        (vec!["add", file, "joe", "--iterations", "4095"], "x\n"),
        (vec!["add", file, "joe", "--uid", "0", "--gid", "0"], "x\n"),
        (vec!["add", file, "joe", "--uid", "1"], "x\n"),
        (vec!["add", file, "joe", "--maildrop", "/m"], "x\n"),
        (vec!["passwd", file, "joe"], "x\n"),
        (vec!["passwd", file, "ann"], "a\0b\n"),
        (vec!["add", file, "joe", "password"], "x\n"),
    ] {
        refused(&arguments, input);
        assert_eq!(fs::read_to_string(&path).unwrap(), before, "{arguments:?}");
    }
}

#[test]
fn an_app_password_is_drawn_printed_once_listed_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app-passwords");
    let file = path.to_str().unwrap();
    let add = |label: &str, more: &[&str], input: &str| {
        let arguments = ["app-password", "add", file, "joe", "--label", label];
        popa3ctl(&[&arguments, more].concat(), input)
    };
    let limits = [
        "--expires",
        "2999-01-31",
        "--networks",
        "192.0.2.0/24,::1",
        "--rights",
        "read-only",
    ];
    let printed = add("phone", &limits, "");
    assert!(printed.status.success(), "{printed:?}");
    let printed = String::from_utf8(printed.stdout).unwrap();
    let password = printed.trim_end();
    assert!(app_passwords::is_generated(password), "{printed:?}");
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains(password));
    let entry = app_passwords::AppPassword::parse(text.trim_end());
    assert!(entry.unwrap().unwrap().hash.is_of(password.as_bytes()));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);

    // The same again for another label, from elsewhere; not a person's own.
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let given = add("desk", &["--stdin"], &printed);
    assert!(
        given.status.success() && given.stdout.is_empty(),
        "{given:?}"
    );
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
    for (label, more, input) in [
        ("mine", &["--stdin"][..], "correct horse battery staple\n"),
        ("phone", &[], ""),
        ("my phone", &[], ""),
        ("x", &["--expires", "yesterday"], ""),
        ("x", &["--networks", "here"], ""),
        ("x", &["--rights", "full"], ""),
    ] {
        let refused = add(label, more, input);
        assert!(!refused.status.success() && refused.stdout.is_empty());
    }
    assert_eq!(
        ok(&["app-password", "list", file], ""),
        "joe\tphone\tread-only\t2999-01-31\t192.0.2.0/24,::1/128\njoe\tdesk\tfull\tnever\teverywhere\n"
    );
    assert_eq!(ok(&["app-password", "list", file, "ann"], ""), "");
    let delete = ["app-password", "del", file, "joe", "--label", "phone"];
    ok(&delete, "");
    refused(&delete, "");
    let left = ok(&["app-password", "list", file, "joe"], "");
    assert_eq!(left, "joe\tdesk\tfull\tnever\teverywhere\n");
}

#[test]
fn rights_go_into_the_users_line_ahead_of_the_maildrop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    let file = path.to_str().unwrap();
    let cheap = ["--iterations", "4096", "--rights", "no-delete"];
    ok(&[&["add", file, "joe"], &cheap[..]].concat(), "secret\n");
    let with_maildrop = ["--maildrop", "maildir:/m"];
    ok(
        &[&["add", file, "ann"], &cheap[..], &with_maildrop].concat(),
        "secret\n",
    );
    let text = fs::read_to_string(&path).unwrap();
    let ends: Vec<&str> = text
        .lines()
        .map(|line| line.split_once("=::::").unwrap().1)
        .collect();
    assert_eq!(ends, ["no-delete", "no-delete:maildir:/m"]);
}
