//! LIST's octets, RETR's octets and what a client makes of them agree for every message.

use pop3_proto::LineCount;
use pop3_proto::multiline::{Counter, Decoder, Encoder, LineEnds};
use proptest::prelude::*;

/// What RETR has to send of `stored`, dots not stuffed: slow and obvious.
fn reference(stored: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut header_ended = false;
    let mut lines: Vec<&[u8]> = stored.split(|octet| *octet == b'\n').collect();
    // Behind the last LF there is no line.
    if lines.last() == Some(&&b""[..]) {
        lines.pop();
    }
    let unended = if stored.ends_with(b"\n") {
        usize::MAX
    } else {
        lines.len().wrapping_sub(1)
    };
    for (place, line) in lines.into_iter().enumerate() {
        let line = if place == unended {
            line
        } else {
            line.strip_suffix(b"\r").unwrap_or(line)
        };
        header_ended |= line.is_empty();
        wire.extend_from_slice(line);
        wire.extend_from_slice(b"\r\n");
    }
    if !header_ended {
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

/// What TOP has to send: the lines of RETR up to the empty one, and `lines` more.
fn reference_top(stored: &[u8], lines: usize) -> Vec<u8> {
    let whole = reference(stored);
    let mut rest = &whole[..];
    let mut left = None;
    while !rest.is_empty() && left != Some(0) {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
        // Only a CRLF of the encoder's ends a line; within the reference a CR LF pair is never anything else.
        left = match left {
            Some(left) => Some(left - 1),
            None if end == 2 => Some(lines),
            None => None,
        };
        rest = &rest[end..];
    }
    whole[..whole.len() - rest.len()].to_vec()
}

fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

fn encoded(mut encoder: Encoder, stored: &[u8], piece: usize, room: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut output = vec![0; room];
    'message: for mut piece in stored.chunks(piece) {
        while !piece.is_empty() {
            let progress = encoder.encode(piece, &mut output);
            wire.extend_from_slice(&output[..progress.produced]);
            piece = &piece[progress.consumed..];
            if progress.done {
                break 'message;
            }
        }
    }
    loop {
        let progress = encoder.finish(&mut output);
        wire.extend_from_slice(&output[..progress.produced]);
        if progress.done {
            return wire;
        }
    }
}

fn decoded(wire: &[u8], line_ends: LineEnds, piece: usize) -> Vec<u8> {
    let mut decoder = Decoder::new(line_ends, false);
    let mut message = Vec::new();
    let mut ended = false;
    for mut piece in wire.chunks(piece) {
        while !piece.is_empty() {
            assert!(!ended, "octets behind the end");
            let decoded = decoder.decode(piece);
            message.extend_from_slice(decoded.data);
            piece = &piece[decoded.consumed..];
            ended = decoded.end;
        }
    }
    assert!(ended, "no end");
    message
}

fn counted(stored: &[u8], piece: usize) -> u64 {
    let mut counter = Counter::new();
    for piece in stored.chunks(piece) {
        counter.count(piece);
    }
    counter.finish().0
}

/// All that must hold for one message, with the input cut into pieces and the output into buffers.
fn check(stored: &[u8], piece: usize, room: usize) {
    let expected = reference(stored);
    let wire = encoded(Encoder::retr(), stored, piece, room);
    let shown = stored.escape_ascii();
    assert_eq!(wire, stuffed(&expected), "{shown}");
    assert_eq!(counted(stored, piece), expected.len() as u64, "{shown}");
    assert_eq!(decoded(&wire, LineEnds::AsSent, room), expected, "{shown}");
    let lf = String::from_utf8_lossy(&expected).replace("\r\n", "\n");
    let got = decoded(&wire, LineEnds::Lf, room);
    assert_eq!(String::from_utf8_lossy(&got), lf, "{shown}");
    for lines in 0..3 {
        let top = encoded(Encoder::top(LineCount(lines as u64)), stored, piece, room);
        assert_eq!(
            top,
            stuffed(&reference_top(stored, lines)),
            "{shown} TOP {lines}"
        );
    }
}

/// T-DOT: every string of up to six octets of those that matter.
#[test]
fn rule_07_list_equals_retr_for_all_short_messages() {
    const OCTETS: [u8; 5] = [b'\r', b'\n', b'.', 0, b'F'];
    let mut messages = 0;
    for length in 0..=6u32 {
        for choice in 0..5usize.pow(length) {
            let stored: Vec<u8> = (0..length)
                .map(|place| OCTETS[choice / 5usize.pow(place) % 5])
                .collect();
            check(&stored, usize::MAX, 64);
            // The same as a body.
            check(&[b"F\n\n", &stored[..]].concat(), usize::MAX, 64);
            messages += 1;
        }
    }
    assert_eq!(messages, 19_531);
}

#[test]
fn short_messages_are_the_same_however_they_are_cut() {
    const OCTETS: [u8; 4] = [b'\r', b'\n', b'.', b'F'];
    for length in 0..=5u32 {
        for choice in 0..4usize.pow(length) {
            let stored: Vec<u8> = (0..length)
                .map(|place| OCTETS[choice / 4usize.pow(place) % 4])
                .collect();
            for piece in 1..=3 {
                for room in 1..=4 {
                    check(&stored, piece, room);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn messages_are_the_same_however_they_are_cut(
        stored in prop::collection::vec(
            prop_oneof![3 => Just(b'\n'), 2 => Just(b'\r'), 2 => Just(b'.'), 1 => Just(0u8), 6 => any::<u8>()], 0..300),
        room in 1usize..40,
    ) {
        for piece in 1..=stored.len().clamp(1, 60) {
            check(&stored, piece, room);
        }
    }
}
