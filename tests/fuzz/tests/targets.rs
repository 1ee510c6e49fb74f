//! Every target, on the generator's input: a few thousand each, or for `FUZZ_SECONDS`.

use std::collections::BTreeSet;
use std::path::Path;

use fuzzing::{Bound, TARGETS, run, target};

fn holds(name: &str) {
    let target = target(name).expect("a target of this name");
    match run(target, Bound::from_environment(), 1) {
        Ok(outcome) => println!("{name}: {outcome}"),
        Err(failure) => panic!("{name}: {failure}"),
    }
}

#[test]
fn handshakes_are_taken_apart_and_prove_nothing_without_an_authority() {
    holds("client-handshake");
}

#[test]
fn sasl_server_half_authenticates_nobody_unchecked() {
    holds("sasl-server");
}

#[test]
fn sasl_client_half_believes_no_server_without_the_password() {
    holds("sasl-client");
}

#[test]
fn sasl_readers_write_what_they_read() {
    holds("sasl-readers");
}

#[test]
fn proxy_headers_are_whole_or_not_there() {
    holds("proxy-header");
}

#[test]
fn commands_are_parsed_the_same_however_they_come() {
    holds("pop3-command");
}

#[test]
fn state_machines_answer_every_line_with_a_reply() {
    holds("pop3-server");
}

#[test]
fn messages_come_off_the_wire_as_they_were_announced() {
    holds("pop3-multiline");
}

#[test]
fn mbox_scan_agrees_with_the_reference() {
    holds("mbox-scan");
}

#[test]
fn a_damaged_journal_is_carried_out_or_does_nothing() {
    holds("journal");
}

#[test]
fn a_damaged_index_changes_no_reply() {
    holds("index");
}

#[test]
fn a_damaged_list_of_deleted_messages_is_what_it_was_before() {
    holds("deletions");
}

#[test]
fn messages_between_processes_decode_to_what_they_encode_to() {
    holds("messages");
}

#[test]
fn tokens_are_valid_only_if_they_are_signed() {
    holds("token");
}

#[test]
fn keys_of_tokens_verify_no_signature_that_is_none() {
    holds("token-keys");
}

#[test]
fn issuers_who_are_asked_name_users_that_have_names() {
    holds("token-introspection");
}

#[test]
fn app_passwords_write_what_they_read() {
    holds("app-passwords");
}

#[test]
fn every_target_has_a_harness_for_libfuzzer_and_a_test_here() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let harnesses: BTreeSet<String> = std::fs::read_dir(directory.join("fuzz_targets"))
        .expect("the harnesses")
        .flatten()
        .filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    let targets: BTreeSet<String> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    assert_eq!(harnesses, targets);
    let manifest = std::fs::read_to_string(directory.join("Cargo.toml")).expect("its manifest");
    for name in targets {
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
        assert!(
            include_str!("targets.rs").contains(&format!("holds(\"{name}\")")),
            "{name}"
        );
    }
}
