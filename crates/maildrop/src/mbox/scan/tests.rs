use md5::{Digest, Md5};
use proptest::prelude::*;

use super::*;
use crate::testing::{strings, wire};

/// A message found by the slow and obvious parser.
#[derive(Debug, PartialEq, Eq)]
struct Plain {
    from: usize,
    message: Vec<u8>,
    octets: u64,
    id: String,
}

/// Reads an mbox line by line, as the description of the original does.
fn reference(mbox: &[u8]) -> Option<Vec<Plain>> {
    let mut found: Vec<(usize, Vec<&[u8]>)> = Vec::new();
    let mut offset = 0;
    let mut before: &[u8] = b"\n";
    for line in mbox.split_inclusive(|&octet| octet == b'\n') {
        if line.starts_with(b"From ") && before == b"\n" {
            found.push((offset, Vec::new()));
        } else {
            found.last_mut()?.1.push(line);
        }
        offset += line.len();
        before = line;
    }
    let plain = |(from, mut lines): (usize, Vec<&[u8]>)| {
        let empty = |line: &&[u8]| matches!(*line, b"\n" | b"\r\n");
        let header = lines
            .iter()
            .position(empty)
            .map_or(lines.len(), |at| at + 1);
        let id = reference_id(&lines);
        if lines.len() > header && lines.last() == Some(&&b"\n"[..]) {
            lines.pop();
        }
        let message = lines.concat();
        let octets = wire(&message).len() as u64;
        Plain {
            from,
            message,
            octets,
            id,
        }
    };
    Some(found.into_iter().map(plain).collect())
}

fn reference_id(lines: &[&[u8]]) -> String {
    let mut hashed = Vec::new();
    let (mut received, mut choice) = (false, false);
    for line in lines.iter().take_while(|line| **line != b"\n") {
        let lower = line.to_ascii_lowercase();
        if lower.starts_with(b"received:") {
            choice = !received;
            received = true;
        } else if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            choice = lower.starts_with(b"delivered-to:")
                || (lower.starts_with(b"x-delivery-id:") && line.starts_with(b"X"))
                || (!received
                    && (lower.starts_with(b"date:") || lower.starts_with(b"message-id:")));
        }
        if choice {
            hashed.extend_from_slice(line);
        }
    }
    let digest = Md5::digest(&hashed);
    [3, 2, 1, 0, 7, 6, 5, 4]
        .map(|at| format!("{:02x}", digest[at]))
        .concat()
}

/// Runs the scanner over one file after another without making a file for each.
struct Scratch(File);

impl Scratch {
    fn new() -> Self {
        Scratch(tempfile::tempfile().unwrap())
    }

    fn scan(&self, mbox: &[u8], block: usize) -> Option<Vec<Plain>> {
        self.0.set_len(0).unwrap();
        self.0.write_all_at(mbox, 0).unwrap();
        let mut messages = Vec::new();
        let result = scan(&self.0, 0..mbox.len() as u64, block, |message| {
            messages.push(message);
            ControlFlow::Continue(())
        });
        match result {
            Ok(()) => {}
            Err(ScanError::NotMbox) => return None,
            Err(error) => panic!("{error:?}"),
        }
        let plain = |message: Message| {
            let start = message.start as usize;
            Plain {
                from: message.from as usize,
                message: mbox[start..start + message.stored as usize].to_vec(),
                octets: message.octets,
                id: message.unique_id().unwrap().to_string(),
            }
        };
        Some(messages.into_iter().map(plain).collect())
    }

    fn agrees(&self, mbox: &[u8], blocks: &[usize]) {
        let expected = reference(mbox);
        for &block in blocks {
            let found = self.scan(mbox, block);
            assert_eq!(found, expected, "{} at {block}", mbox.escape_ascii());
        }
    }
}

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
