//! How fast messages are encoded, counted and decoded on one core: `cargo run --release --example throughput`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use pop3_proto::multiline::{Counter, Decoder, Encoder, LineEnds};

/// What a maildrop process reads and sends at a time.
const BUFFER: usize = 64 * 1024;

fn main() {
    for (name, line) in [
        ("base64, LF", format!("{}\n", "QUJD".repeat(19))),
        (
            "text, LF",
            "A line of prose, as long as lines of prose tend to be.\n".to_owned(),
        ),
        (
            "text, CRLF",
            "A line of prose, as long as lines of prose tend to be.\r\n".to_owned(),
        ),
        ("dots, LF", ". dots lead, and each is doubled\n".to_owned()),
        ("empty lines", "\n".to_owned()),
    ] {
        let mut stored = b"Subject: throughput\n\n".to_vec();
        while stored.len() < 64 * 1024 * 1024 {
            stored.extend_from_slice(line.as_bytes());
        }
        let wire = encode(&stored);
        report(name, "encode", stored.len(), || encode_only(&stored));
        report(name, "count", stored.len(), || count(&stored));
        report(name, "decode", wire.len(), || {
            decode(&wire, LineEnds::AsSent)
        });
        report(name, "decode to LF", wire.len(), || {
            decode(&wire, LineEnds::Lf)
        });
    }
}

/// The best of five runs.
fn report(name: &str, what: &str, octets: usize, mut run: impl FnMut()) {
    let best = (0..5)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .min()
        .unwrap_or(Duration::MAX);
    let rate = octets as f64 / best.as_secs_f64() / 1e9;
    println!("{name:12} {what:13} {rate:6.2} GB/s");
}

fn encode_only(stored: &[u8]) {
    let mut output = vec![0; BUFFER];
    let mut encoder = Encoder::retr();
    for mut piece in stored.chunks(BUFFER) {
        while !piece.is_empty() {
            let progress = encoder.encode(piece, &mut output);
            black_box(&output[..progress.produced]);
            piece = &piece[progress.consumed..];
        }
    }
    black_box(encoder.finish(&mut output));
}

fn encode(stored: &[u8]) -> Vec<u8> {
    let mut wire = vec![0; stored.len() * 2 + 16];
    let mut encoder = Encoder::retr();
    let body = encoder.encode(stored, &mut wire);
    let end = encoder.finish(&mut wire[body.produced..]);
    wire.truncate(body.produced + end.produced);
    wire
}

fn count(stored: &[u8]) {
    let mut counter = Counter::new();
    for piece in stored.chunks(BUFFER) {
        counter.count(piece);
    }
    black_box(counter.finish());
}

fn decode(wire: &[u8], line_ends: LineEnds) {
    let mut decoder = Decoder::new(line_ends, false);
    let mut message = Vec::with_capacity(BUFFER);
    for mut piece in wire.chunks(BUFFER) {
        message.clear();
        while !piece.is_empty() {
            let decoded = decoder.decode(piece);
            message.extend_from_slice(decoded.data);
            piece = &piece[decoded.consumed..];
        }
        black_box(&message);
    }
}
