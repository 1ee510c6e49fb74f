//! What is linked into which role is the privilege table: a crate that comes into a role that holds a secret, or
//! meets the network, comes there on purpose. The lists are in `tests/dependencies`, one a crate; a change that is meant
//! is written there by `UPDATE_DEPENDENCIES=1 cargo test -p system-tests --test dependencies`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every crate of the product, so that a new one cannot be without a list.
fn crates() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates");
    let entries = std::fs::read_dir(directory).expect("the crates");
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn lists() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dependencies")
}

/// The crates linked into `package` in a build of it alone, itself left out.
fn linked(package: &str) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}",
    ]);
    // The lists are about Linux; a table for all targets would name what is never built.
    cargo.args(["--target", "x86_64-unknown-linux-gnu", "--package", package]);
    let output = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("names");
    let names = text.lines().filter_map(|line| line.split(' ').next());
    names
        .filter(|name| !name.is_empty() && *name != package)
        .map(str::to_owned)
        .collect()
}

#[test]
fn each_crate_is_linked_with_what_its_list_says() {
    let mut differences = Vec::new();
    for package in crates() {
        let path = lists().join(format!("{package}.txt"));
        let linked = linked(&package);
        if std::env::var_os("UPDATE_DEPENDENCIES").is_some() {
            let text: String = linked.iter().map(|name| format!("{name}\n")).collect();
            std::fs::write(&path, text).expect("a list");
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let listed: BTreeSet<String> = text.lines().map(str::to_owned).collect();
        for name in linked.difference(&listed) {
            differences.push(format!("{package} is now linked with {name}"));
        }
        for name in listed.difference(&linked) {
            differences.push(format!("{package} is no longer linked with {name}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What may be linked into no role but these: it parses what is foreign, or holds what is secret.
const ONLY: [(&str, &[&str]); 6] = [
    ("rustls", &["role-session", "role-token"]),
    (
        "ring",
        &["role-session", "role-keyholder", "role-token", "role-auth"],
    ),
    ("ureq", &["role-token"]),
    ("sasl", &["role-session", "role-auth"]),
    // The master checks the configured location, and opens no mail.
    ("maildrop", &["role-maildrop", "role-master"]),
    ("toml", &["role-master"]),
];

#[test]
fn what_parses_and_what_holds_secrets_is_linked_into_the_roles_it_is_for() {
    for role in crates().iter().filter(|name| name.starts_with("role-")) {
        let linked = linked(role);
        for (name, roles) in ONLY {
            let may = roles.contains(&role.as_str());
            assert!(
                may || !linked.contains(name),
                "{role} is linked with {name}"
            );
        }
    }
}
