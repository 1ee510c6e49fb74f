use proptest::prelude::*;

use super::reference::Scratch;
use super::*;
use crate::testing::strings;

#[test]
fn the_scan_agrees_with_the_reference_on_all_short_files() {
    let scratch = Scratch::new();
    for text in strings(b"From \n\ra", 5) {
        scratch.agrees(&text, &[BLOCK]);
        scratch.agrees(&[b"From ", &*text].concat(), &[BLOCK]);
    }
}

#[test]
fn the_scan_agrees_with_the_reference_on_all_short_sequences_of_lines() {
    // One letter stands for each piece, so that the sequences can be longer.
    let pieces: [&[u8]; 6] = [b"\n", b"From ", b"\r\n", b"a", b"Date: 1\n", b" "];
    let scratch = Scratch::new();
    for sequence in strings(&[0, 1, 2, 3, 4, 5], 6) {
        let text: Vec<&[u8]> = sequence.iter().map(|&at| pieces[usize::from(at)]).collect();
        let mbox = [b"From x", &*text.concat()].concat();
        scratch.agrees(&mbox, &[BLOCK]);
    }
}

#[test]
fn messages_are_found_wherever_blocks_end() {
    let mbox = b"From a\nDate: 1\r\nReceived: 2\n\t3\n\nbody\r\n\n\nFrom b\n\nFrom c\n\n\n\nFrom d\n\nFrom \n\
        X-Delivery-ID: 5\n\nFrom\n\nFro\n\nFrom e\r\n\r\n\nFrom f";
    let blocks: Vec<usize> = (1..=mbox.len() + 1).collect();
    let scratch = Scratch::new();
    scratch.agrees(mbox, &blocks);
    assert_eq!(scratch.scan(mbox, 1).unwrap().len(), 7);
}

/// What Debian 12's popa3d 1.0.3 served (octets and unique-ids) of these files; of those only that it accepts and that
/// have no CR, whose meaning differs, and end in a line end. Obtained as those in `digest.rs`.
#[test]
fn messages_end_where_popa3d_ends_them() {
    let none = "d98c1dd404b2008f";
    let date = "e3ada8857fe9ebcf";
    type Served<'a> = &'a [(u64, &'a str)];
    let cases: [(&[u8], Served<'_>); 9] = [
        (
            b"From x\nS: a\n\n\nFrom y\nS: b\n\nbody\n\n",
            &[(8, none), (14, none)],
        ),
        (
            b"From x\nS: a\n\nbody\n\n\nFrom y\nS: b\n\nbody\n",
            &[(16, none), (14, none)],
        ),
        (b"From x\nS: a\nFrom y\nS: b\n\n", &[(22, none)]),
        (b"From x\n\nFrom y\n\n", &[(2, none), (2, none)]),
        (b"From x\nDate: 1\n\n", &[(11, date)]),
        (b"From x\nS: a\n\nb\n\n\n", &[(13, none)]),
        (b"From x\nS: a\n\n\n", &[(8, none)]),
        (b"From x\n\n\n\n", &[(4, none)]),
        (
            b"From x\nDate: 1\n\nFrom y\nDate: 1\n\n",
            &[(11, date), (11, date)],
        ),
    ];
    let scratch = Scratch::new();
    for (mbox, expected) in cases {
        let found: Vec<(u64, String)> = scratch
            .scan(mbox, BLOCK)
            .unwrap()
            .into_iter()
            .map(|plain| (plain.octets, plain.id))
            .collect();
        let expected: Vec<(u64, String)> = expected
            .iter()
            .map(|&(octets, id)| (octets, id.into()))
            .collect();
        assert_eq!(found, expected, "{}", mbox.escape_ascii());
    }
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(vec![
        "From ",
        "Date:",
        "dATE: ",
        "Received: ",
        "RECEIVED:",
        "Delivered-To: a",
        "Message-ID: <",
        "X-Delivery-ID:",
        "x-delivery-id:",
        " ",
        "\t",
        ">From ",
        "From",
        "Subject: ",
        "",
        "",
    ]);
    let rest = prop::collection::vec(any::<u8>(), 0..20);
    let end = prop::sample::select(vec!["\n", "\r\n", "\r", "\n\n", "\n\nFrom ", ""]);
    (name, prop::bool::ANY, rest, end).prop_map(|(name, with_rest, rest, end)| {
        let rest: &[u8] = if with_rest { &rest } else { b"" };
        [name.as_bytes(), rest, end.as_bytes()].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn the_scan_agrees_with_the_reference(
        lines in prop::collection::vec(line(), 0..40),
        block in prop::sample::select(vec![1, 2, 7, 64, 511, BLOCK]),
    ) {
        let mbox = [b"From ", &*lines.concat()].concat();
        Scratch::new().agrees(&mbox, &[block]);
    }
}
