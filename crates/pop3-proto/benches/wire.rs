//! The loops that every octet of a message and every command goes through: `cargo bench -p pop3-proto`.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use pop3_proto::command::Command;
use pop3_proto::line::{LineBuffer, MAX_COMMAND};
use pop3_proto::multiline::{Counter, Decoder, Encoder, LineEnds};

fn main() {
    divan::main();
}

/// Octets of a benchmark's message: what one read of a mailbox brings.
const OCTETS: usize = 64 * 1024;

/// Mail as stored, by what its lines are like.
#[derive(Clone, Copy, Debug)]
enum Mail {
    /// Lines of 76 octets, as of an attachment.
    Base64,
    /// Lines of 0 to 70 octets.
    Text,
    /// Every line begins with a dot.
    Dots,
    /// No line end at all.
    OneLine,
}

const MAILS: [Mail; 4] = [Mail::Base64, Mail::Text, Mail::Dots, Mail::OneLine];

fn stored(mail: Mail) -> Vec<u8> {
    // The header is at its end: nearly all octets of mail are in bodies.
    let mut octets = b"Subject: x\n\n".to_vec();
    let mut line = 0;
    while octets.len() < OCTETS {
        match mail {
            Mail::Base64 => octets.extend([b'A'; 76]),
            Mail::Text => octets.extend(vec![b't'; line * 37 % 71]),
            Mail::Dots => octets.extend(b".signature"),
            Mail::OneLine => octets.extend([b'x'; 1024]),
        }
        if !matches!(mail, Mail::OneLine) {
            octets.push(b'\n');
        }
        line += 1;
    }
    octets.truncate(OCTETS);
    octets
}

/// All of a message, as RETR puts it on the wire.
fn on_the_wire(stored: &[u8], output: &mut [u8]) -> usize {
    let mut encoder = Encoder::retr();
    let (mut read, mut written) = (0, 0);
    while read < stored.len() {
        let progress = encoder.encode(&stored[read..], &mut output[written..]);
        read += progress.consumed;
        written += progress.produced;
    }
    written + encoder.finish(&mut output[written..]).produced
}

#[divan::bench(args = MAILS)]
fn encode(bencher: Bencher<'_, '_>, mail: Mail) {
    let stored = stored(mail);
    let mut output = vec![0; 4 * OCTETS];
    bencher
        .counter(BytesCount::new(OCTETS))
        .bench_local(|| on_the_wire(black_box(&stored), &mut output));
}

#[divan::bench(args = MAILS)]
fn decode(bencher: Bencher<'_, '_>, mail: Mail) {
    let mut wire = vec![0; 4 * OCTETS];
    let octets = on_the_wire(&stored(mail), &mut wire);
    wire.truncate(octets);
    let mut message = Vec::with_capacity(wire.len());
    bencher.counter(BytesCount::new(octets)).bench_local(|| {
        message.clear();
        let mut decoder = Decoder::new(LineEnds::AsSent, false);
        let mut read = 0;
        loop {
            let (consumed, is_end) = decoder.decode_to(black_box(&wire[read..]), &mut message);
            read += consumed;
            if is_end {
                return message.len();
            }
        }
    });
}

#[divan::bench(args = MAILS)]
fn count(bencher: Bencher<'_, '_>, mail: Mail) {
    let stored = stored(mail);
    bencher.counter(BytesCount::new(OCTETS)).bench_local(|| {
        let mut counter = Counter::new();
        counter.count(black_box(&stored));
        counter.finish()
    });
}

/// Commands of a client that sends them ahead.
#[divan::bench]
fn parse_commands(bencher: Bencher<'_, '_>) {
    let commands =
        b"STAT\r\nUIDL\r\nLIST\r\nRETR 1\r\nDELE 1\r\nTOP 20000 10\r\nNOOP\r\n".repeat(20);
    let mut lines = LineBuffer::new(MAX_COMMAND);
    bencher.counter(ItemsCount::new(140_usize)).bench_local(|| {
        let (mut sent, mut parsed) = (0, 0);
        while sent < commands.len() {
            sent += lines.push(black_box(&commands[sent..]));
            while let Some(line) = lines.next_line() {
                let command = Command::parse(line.unwrap(), 64).unwrap();
                black_box(&command);
                parsed += 1;
            }
        }
        assert_eq!(parsed, 140);
    });
}
