//! Journals that are not believed: of a mailbox that has changed, another's, damaged ones.

use proptest::prelude::*;

use super::*;

#[test]
fn a_mailbox_that_another_program_changed_is_left_alone() {
    type Change = fn(&Bench);
    let changes: [(&str, Change); 5] = [
        ("rewritten", |bench| {
            let content = [message(1, 180), message(7, 2_000)].concat();
            fs::write(bench.directory.path().join("box"), content).unwrap();
        }),
        ("shortened", |bench| {
            let size = bench.mailbox.metadata().unwrap().len();
            bench.mailbox.set_len(size - 1).unwrap();
        }),
        ("emptied", |bench| bench.mailbox.set_len(0).unwrap()),
        ("an octet of what is moved", |bench| {
            bench.mailbox.write_all_at(b"y", 30).unwrap();
        }),
        ("an octet of what is to be moved", |bench| {
            let size = bench.mailbox.metadata().unwrap().len();
            bench.mailbox.write_all_at(b"y", size - 9).unwrap();
        }),
    ];
    for (what, change) in changes {
        let bench = Bench::new();
        bench.update_until(&|number, _, _| number == 3);
        let journal = bench.journal_octets();
        change(&bench);
        let content = bench.content();
        let told = bench.recover();
        assert!(
            matches!(&told[..], [_, reason, _] if reason.contains("mailbox")),
            "{what}: {told:?}"
        );
        assert!(bench.content() == content, "{what}");
        let aside = fs::read(bench.directory.path().join("aside")).unwrap();
        assert!(aside == journal, "{what}: the journal is kept");
        bench.assert_idle();
    }
}

#[test]
fn a_mailbox_changed_before_the_cut_is_left_alone() {
    let bench = Bench::new();
    bench.update_until(&|_, _, _| false);
    bench.mailbox.write_all_at(b"y", 30).unwrap();
    let content = bench.content();
    let told = bench.recover();
    assert_eq!(told[0], "updating");
    assert!(told[1].contains("changed"));
    assert!(bench.content() == content);
}

#[test]
fn anothers_journal_is_never_applied() {
    let bench = Bench::new();
    bench.update_until(&|number, _, _| number == 3);
    let contents = [
        Vec::new(),
        message(5, 10),
        message(5, 4_000),
        messages().concat(),
    ];
    for content in contents {
        let other = Bench::with(&content);
        let journal = bench.journal_octets();
        fs::write(other.directory.path().join("journal"), journal).unwrap();
        assert_eq!(other.recover().len(), 3);
        assert!(other.content() == content);
        other.assert_idle();
    }
}

#[test]
fn a_journal_that_cannot_be_made_out_is_set_aside() {
    let bench = Bench::new();
    bench.update_until(&|number, _, _| number == 3);
    let file = bench.steward.file().unwrap();
    for slot in 0..2 {
        file.write_all_at(b"?", slot * SLOT as u64 + 99).unwrap();
    }
    let content = bench.content();
    assert_eq!(bench.recover(), ["the journal is damaged", "settled"]);
    assert!(bench.content() == content);
}

#[test]
fn a_path_too_long_for_a_record_is_left_out() {
    let bench = Bench::new();
    let mut path = std::path::PathBuf::from("/");
    path.extend(std::iter::repeat_n("x".repeat(200), 20));
    let location = crate::testing::mbox_at(&path);
    let file = bench.steward.file().unwrap();
    let mut journal = Journal::new(file, &location, Box::new(bench.steward.clone()));
    let size = messages().concat().len() as u64;
    let (job, _) = journal
        .begin(&bench.held(), &bench.mailbox, 0, bench.extents(), size)
        .unwrap();
    journal.record(State::Final(job)).unwrap();
    let file = bench.steward.file().unwrap();
    assert_eq!(Journal::unfinished(&file).unwrap(), None);
    assert!(!records_in(&file).is_empty());
}

/// Octets at an offset, to be put over a journal.
fn scratches() -> impl Strategy<Value = Vec<(usize, Vec<u8>)>> {
    let scratch = (
        0..20_000_usize,
        proptest::collection::vec(any::<u8>(), 1..40),
    );
    proptest::collection::vec(scratch, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_scratched_journal_is_carried_out_or_does_nothing(crashed_at in 0..8_usize, scratches in scratches()) {
        let bench = Bench::new();
        bench.update_until(&|number, _, _| number == crashed_at);
        let mut octets = bench.journal_octets();
        for (at, scratch) in scratches {
            for (place, octet) in octets.iter_mut().skip(at).zip(scratch) {
                *place = octet;
            }
        }
        fs::write(bench.directory.path().join("journal"), octets).unwrap();
        let before = bench.content();
        let told = bench.recover();
        if told == FINISHED {
            prop_assert!(bench.content() == kept());
        } else {
            prop_assert!(bench.content() == before);
        }
        bench.assert_idle();
    }

    #[test]
    fn any_octets_for_a_journal_change_no_mailbox(octets in proptest::collection::vec(any::<u8>(), 0..20_000)) {
        let bench = Bench::new();
        fs::write(bench.directory.path().join("journal"), octets).unwrap();
        bench.recover();
        prop_assert!(bench.content() == messages().concat());
        bench.assert_idle();
    }
}
