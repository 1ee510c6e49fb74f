//! The same mailboxes served by Debian's popa3d and by ours: the same counts, octets and unique-ids, for every
//! mailbox, but for the differences that `rules` names.

mod generator;
mod rules;
mod view;

use rules::Rule;
use std::collections::BTreeMap;
use std::sync::Mutex;
use system_tests::machine;
use system_tests::program::Program;
use system_tests::run;
use system_tests::site::{Setup, Site};
use system_tests::users::{ALICE, BOB, CAROL, User};

/// Mailboxes compared; each is named by its seed.
const MAILBOXES: u64 = 1_200;

/// One after the other for each of them, so that the machine's processors are busy.
const SERVED_BY: [User; 3] = [ALICE, BOB, CAROL];

#[test]
fn generated_mailboxes_are_served_as_the_original_serves_them() {
    let Some(original) = Program::original() else {
        assert!(
            !machine::is_possible(),
            "popa3d is missing: apt-get install popa3d"
        );
        return run::skipped("needs Debian's popa3d");
    };
    // The log would be the same two thousand lines for each.
    Setup::new()
        .set("log", "target", r#""syslog""#)
        .as_root(|site| {
            let explained = Mutex::new(BTreeMap::<Rule, usize>::new());
            std::thread::scope(|scope| {
                for (user, first) in SERVED_BY.into_iter().zip(0..) {
                    let (original, explained) = (&original, &explained);
                    scope.spawn(move || {
                        for seed in (first..MAILBOXES).step_by(SERVED_BY.len()) {
                            for rule in compare(site, original, user, seed) {
                                *explained
                                    .lock()
                                    .expect("the count")
                                    .entry(rule)
                                    .or_default() += 1;
                            }
                        }
                    });
                }
            });
            let explained = explained.into_inner().expect("the count");
            println!("differences in {MAILBOXES} mailboxes, by rule: {explained:?}");
            for rule in rules::ALL {
                assert!(explained.contains_key(&rule), "no mailbox needed {rule:?}");
            }
        });
}

/// Serves the mailbox of `seed` both ways; returns the rules that explain how the answers differ.
fn compare(site: &Site, original: &Program, user: User, seed: u64) -> Vec<Rule> {
    let mailbox = generator::mailbox(seed);
    site.deliver(user, &mailbox);
    let theirs = view::of(std::process::Command::new(&original.path), user);
    let ours = view::of(site.command(), user);
    let (wanted, used) = rules::expected(&mailbox, theirs);
    if let Err(difference) = rules::same(&wanted, &ours) {
        let path = std::env::temp_dir().join(format!("popa3d-differs-{seed}"));
        std::fs::write(&path, &mailbox).expect("the mailbox that differs");
        panic!(
            "mailbox of seed {seed}, kept as {}: {difference}",
            path.display()
        );
    }
    used
}
