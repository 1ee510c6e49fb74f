//! Messages as RETR and TOP send them.

use memchr::memchr;

use super::line_state::LineState;
use crate::LineCount;

/// Encodes one message for RETR or TOP, from any pieces of it into buffers of any size.
///
/// ```
/// use pop3_proto::multiline::Encoder;
///
/// let mut output = [0; 64];
/// let mut encoder = Encoder::retr();
/// let body = encoder.encode(b"Subject: x\n\n.\n", &mut output);
/// assert_eq!(body.consumed, 14);
/// let end = encoder.finish(&mut output[body.produced..]);
/// assert!(end.done);
/// assert_eq!(&output[..body.produced + end.produced], b"Subject: x\r\n\r\n..\r\n.\r\n");
/// ```
#[derive(Clone, Debug)]
pub struct Encoder {
    line: LineState,
    in_header: bool,
    /// The header is sent in ASCII.
    ascii_header: bool,
    /// Lines of the body still to be sent; `None` for all.
    lines_left: Option<u64>,
    /// What found no room in the output yet.
    pending: &'static [u8],
    finished: bool,
}

/// What a call has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Octets taken from the input.
    pub consumed: usize,
    /// Octets written to the beginning of the output.
    pub produced: usize,
    /// From [`Encoder::encode`]: no more of the message is wanted, call [`Encoder::finish`]. From `finish`: all has been
    /// written.
    pub done: bool,
}

impl Encoder {
    /// The whole message.
    pub fn retr() -> Encoder {
        Encoder::new(None)
    }

    /// The header, the empty line, and `lines` lines of the body (RFC 1939 section 7).
    pub fn top(lines: LineCount) -> Encoder {
        Encoder::new(Some(lines.0))
    }

    /// The same with `?` in the place of each octet of the header that is not ASCII: a surrogate for clients that know nothing of
    /// RFC 6532. It has as many octets as the message, so that what [`Counter`](super::Counter) has counted stays true.
    #[must_use]
    pub fn with_ascii_header(mut self) -> Encoder {
        self.ascii_header = true;
        self
    }

    fn new(lines_left: Option<u64>) -> Encoder {
        Encoder {
            line: LineState::Start,
            in_header: true,
            ascii_header: false,
            lines_left,
            pending: b"",
            finished: false,
        }
    }

    /// Encodes octets of the stored message. Stops when `input` or the room in `output` is used up, or when TOP has all its
    /// lines; what was not consumed is given again next time.
    pub fn encode(&mut self, input: &[u8], output: &mut [u8]) -> Progress {
        let mut input = Input::new(input);
        let mut output = Output::new(output);
        while output.write_pending(&mut self.pending)
            && !output.room.is_empty()
            && !input.rest.is_empty()
            && !self.is_done()
        {
            if self.takes_whole_lines() && output.copy_lines(&mut input) {
                continue;
            }
            if self.line == LineState::Start && input.rest.first() == Some(&b'.') {
                self.pending = output.write(b"..");
                self.line = LineState::Text;
                input.skip(1);
                continue;
            }
            let (run, ends_line) = input.run();
            let copied = if self.ascii_header && self.in_header {
                output.copy_ascii(run)
            } else {
                output.copy(run)
            };
            self.line = self.line.then(run.get(..copied).unwrap_or_default());
            input.skip(copied);
            if ends_line && copied == run.len() {
                input.skip(1);
                self.end_line(&mut output);
            }
        }
        Progress {
            consumed: input.consumed,
            produced: output.produced,
            done: self.is_done(),
        }
    }

    /// Appends what is missing at the end of the message and the final dot. Call it again with more room until it is
    /// [`done`](Progress::done).
    pub fn finish(&mut self, output: &mut [u8]) -> Progress {
        let mut output = Output::new(output);
        while output.write_pending(&mut self.pending) && !self.finished {
            if self.line != LineState::Start {
                self.pending = b"\r\n";
                self.line = LineState::Start;
            } else if self.in_header {
                self.pending = b"\r\n";
                self.in_header = false;
            } else {
                self.pending = b".\r\n";
                self.finished = true;
            }
        }
        Progress {
            consumed: 0,
            produced: output.produced,
            done: self.finished && self.pending.is_empty(),
        }
    }

    fn end_line(&mut self, output: &mut Output<'_>) {
        let end: &'static [u8] = if self.line.has_cr() { b"\n" } else { b"\r\n" };
        self.pending = output.write(end);
        if self.in_header {
            self.in_header = !self.line.is_empty_line();
        } else if let Some(lines) = &mut self.lines_left {
            *lines = lines.saturating_sub(1);
        }
        self.line = LineState::Start;
    }

    /// Nothing is to be known of the next lines but where they end: RETR is at the beginning of a line of the body.
    fn takes_whole_lines(&self) -> bool {
        self.line == LineState::Start && !self.in_header && self.lines_left.is_none()
    }

    /// TOP has all its lines.
    fn is_done(&self) -> bool {
        !self.in_header && self.lines_left == Some(0)
    }
}

/// The octets to encode.
struct Input<'a> {
    rest: &'a [u8],
    consumed: usize,
}

impl<'a> Input<'a> {
    fn new(input: &'a [u8]) -> Input<'a> {
        Input {
            rest: input,
            consumed: 0,
        }
    }

    /// The octets up to the next LF, and whether there is one behind them.
    fn run(&self) -> (&'a [u8], bool) {
        match memchr(b'\n', self.rest) {
            Some(end) => (self.rest.get(..end).unwrap_or_default(), true),
            None => (self.rest, false),
        }
    }

    fn skip(&mut self, octets: usize) {
        self.rest = self.rest.get(octets..).unwrap_or_default();
        self.consumed = self.consumed.saturating_add(octets);
    }
}

/// The caller's buffer.
struct Output<'a> {
    room: &'a mut [u8],
    produced: usize,
}

impl<'a> Output<'a> {
    fn new(output: &'a mut [u8]) -> Output<'a> {
        Output {
            room: output,
            produced: 0,
        }
    }

    /// Copies as much of `octets` as there is room for, and says how much that was.
    fn copy(&mut self, octets: &[u8]) -> usize {
        let fits = self.room.len().min(octets.len());
        if let (Some(place), Some(octets)) = (self.room.get_mut(..fits), octets.get(..fits)) {
            place.copy_from_slice(octets);
        }
        self.skip(fits);
        fits
    }

    /// Copies whole lines, as RETR sends them, while each has room whatever it takes. Nearly every octet of mail goes through
    /// here. `false` if it was none.
    fn copy_lines(&mut self, input: &mut Input<'_>) -> bool {
        let before = self.produced;
        while let Some((octets, written)) = copy_line(input.rest, self.room) {
            input.skip(octets);
            self.skip(written);
        }
        self.produced > before
    }

    /// What comes next is there already.
    fn skip(&mut self, octets: usize) {
        self.room = std::mem::take(&mut self.room)
            .get_mut(octets..)
            .unwrap_or_default();
        self.produced = self.produced.saturating_add(octets);
    }

    /// As [`Output::copy`], with `?` for what is not ASCII.
    fn copy_ascii(&mut self, octets: &[u8]) -> usize {
        let fits = self.room.len().min(octets.len());
        for (place, octet) in self.room.iter_mut().zip(octets) {
            *place = if octet.is_ascii() { *octet } else { b'?' };
        }
        self.skip(fits);
        fits
    }

    /// Writes `octets`, and returns those for which there was no room.
    fn write(&mut self, octets: &'static [u8]) -> &'static [u8] {
        let copied = self.copy(octets);
        octets.get(copied..).unwrap_or_default()
    }

    /// Writes what is pending; `false` if there was not enough room.
    fn write_pending(&mut self, pending: &mut &'static [u8]) -> bool {
        if !pending.is_empty() {
            *pending = self.write(pending);
        }
        pending.is_empty()
    }
}

/// Octets copied and looked through together: two registers of every processor.
const BLOCK: usize = 32;

/// Copies the first line as RETR sends it; says how many octets it has and how many were written. `None` where it does not end
/// among the blocks that both hold, or its end finds no room; what was written then means nothing.
fn copy_line(from: &[u8], to: &mut [u8]) -> Option<(usize, usize)> {
    let dots = usize::from(from.first() == Some(&b'.'));
    if dots > 0 {
        *to.first_mut()? = b'.';
    }
    let place = to.get_mut(dots..)?;
    let octets = copy_to_lf(from, place)?;
    let has_cr = octets
        .checked_sub(1)
        .is_some_and(|last| from.get(last) == Some(&b'\r'));
    let line_end = place.get_mut(octets..)?;
    let added = if has_cr {
        *line_end.first_mut()? = b'\n';
        1
    } else {
        *line_end.first_chunk_mut()? = *b"\r\n";
        2
    };
    let written = dots.checked_add(octets)?.checked_add(added)?;
    Some((octets.checked_add(1)?, written))
}

/// Copies the octets before the first LF, in whole blocks, and says how many they are; what the last block has behind them comes
/// along. For lines as mail has them this takes two thirds of the time of searching first and copying then.
fn copy_to_lf(from: &[u8], to: &mut [u8]) -> Option<usize> {
    let (from, _) = from.as_chunks::<BLOCK>();
    let (to, _) = to.as_chunks_mut::<BLOCK>();
    for (number, (from, to)) in from.iter().zip(to).enumerate() {
        *to = *from;
        // All of them, without a branch: the compiler makes a comparison or two of it.
        if from
            .iter()
            .fold(false, |found, octet| found | (*octet == b'\n'))
        {
            return number.checked_mul(BLOCK)?.checked_add(first_lf(from));
        }
    }
    None
}

/// Where the first LF of a block is that has one.
fn first_lf(block: &[u8; BLOCK]) -> usize {
    let (words, _) = block.as_chunks::<8>();
    (0..)
        .step_by(8)
        .zip(words)
        .find_map(|(before, word)| {
            let lfs = zeros(u64::from_le_bytes(*word) ^ LFS);
            (lfs != 0).then(|| before | (lfs.trailing_zeros() / 8) as usize)
        })
        .unwrap_or(BLOCK)
}

/// 1 in each octet.
const ONES: u64 = u64::MAX / 0xFF;

/// A LF in each octet.
const LFS: u64 = u64::from_le_bytes([b'\n'; 8]);

/// The highest bit of each octet that is 0. Only above the lowest one may a borrow make another octet look like one.
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & (ONES << 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The octets on the wire, made through an output of `room` octets from pieces of `piece` octets.
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

    #[test]
    fn lines_copied_in_blocks_are_those_copied_octet_by_octet() {
        let mut stored = b"Subject: x\n\n".to_vec();
        for octets in 0..3 * BLOCK {
            for (first, last) in [("", ""), (".", ""), ("", "\r"), (".", "\r")] {
                stored.extend_from_slice(first.as_bytes());
                // What a search by words might take for a LF: 0x8A, and 0x0B behind one.
                stored.extend(b"\x8Ax\r\x0B.".iter().cycle().take(octets));
                stored.extend_from_slice(last.as_bytes());
                stored.push(b'\n');
            }
        }
        let whole = encoded(Encoder::retr(), &stored, stored.len(), 2 * stored.len());
        assert_eq!(whole, encoded(Encoder::retr(), &stored, 1, 16));
        for room in [16, BLOCK, BLOCK + 1, BLOCK + 2, 100, 1000] {
            for piece in [BLOCK - 1, BLOCK, BLOCK + 1, 1000] {
                assert_eq!(whole, encoded(Encoder::retr(), &stored, piece, room));
            }
        }
    }

    fn retr(stored: &[u8]) -> String {
        String::from_utf8(encoded(Encoder::retr(), stored, usize::MAX, 1000)).unwrap()
    }

    fn top(stored: &[u8], lines: u64) -> String {
        let encoder = Encoder::top(LineCount(lines));
        String::from_utf8(encoded(encoder, stored, usize::MAX, 1000)).unwrap()
    }

    #[test]
    fn rule_02_every_line_ends_with_crlf_and_leading_dots_are_doubled() {
        assert_eq!(
            retr(b"a: b\n\n.\n..\nx.\n"),
            "a: b\r\n\r\n..\r\n...\r\nx.\r\n.\r\n"
        );
        assert_eq!(retr(b".a: b\r\n\r\n.\r\n"), "..a: b\r\n\r\n..\r\n.\r\n");
    }

    #[test]
    fn rule_02_the_final_dot_stands_on_a_line_of_its_own() {
        assert_eq!(retr(b"a: b\n\nc"), "a: b\r\n\r\nc\r\n.\r\n");
        assert_eq!(retr(b"a: b\n\n."), "a: b\r\n\r\n..\r\n.\r\n");
        assert_eq!(retr(b"a: b\n\nc\r"), "a: b\r\n\r\nc\r\r\n.\r\n");
    }

    #[test]
    fn the_empty_line_behind_a_header_is_always_sent() {
        assert_eq!(retr(b"a: b\n"), "a: b\r\n\r\n.\r\n");
        assert_eq!(retr(b"a: b"), "a: b\r\n\r\n.\r\n");
        assert_eq!(retr(b"a: b\n\n"), "a: b\r\n\r\n.\r\n");
        assert_eq!(retr(b""), "\r\n.\r\n");
        assert_eq!(top(b"a: b", 0), "a: b\r\n\r\n.\r\n");
    }

    #[test]
    fn a_cr_without_lf_and_nul_and_8_bit_octets_pass() {
        let stored = b"\n\r.\r\r\n\0\xff\r.\n";
        let wire = encoded(Encoder::retr(), stored, usize::MAX, 1000);
        assert_eq!(wire, b"\r\n\r.\r\r\n\0\xff\r.\r\n.\r\n");
    }

    #[test]
    fn rule_08_top_sends_the_header_the_empty_line_and_n_lines_of_the_body() {
        let stored = b"a: b\n c\n\n1\n\n.3\n4";
        assert_eq!(top(stored, 0), "a: b\r\n c\r\n\r\n.\r\n");
        assert_eq!(top(stored, 1), "a: b\r\n c\r\n\r\n1\r\n.\r\n");
        assert_eq!(top(stored, 2), "a: b\r\n c\r\n\r\n1\r\n\r\n.\r\n");
        assert_eq!(top(stored, 3), "a: b\r\n c\r\n\r\n1\r\n\r\n..3\r\n.\r\n");
        assert_eq!(top(stored, 4), retr(stored));
        assert_eq!(top(stored, u64::MAX), retr(stored));
    }

    #[test]
    fn top_asks_for_no_more_input_than_it_needs() {
        let mut output = [0; 100];
        let progress = Encoder::top(LineCount(1)).encode(b"a: b\n\n1\n2\n3\n", &mut output);
        assert_eq!(
            progress,
            Progress {
                consumed: 8,
                produced: 11,
                done: true
            }
        );
    }

    #[test]
    fn pieces_and_room_of_any_size_give_the_same_octets() {
        let stored = b"a: b\r\n.c\n\n.\n\r\n\r\r\n..x\ry";
        for encoder in [Encoder::retr(), Encoder::top(LineCount(2))] {
            let whole = encoded(encoder.clone(), stored, usize::MAX, 1000);
            for piece in 1..stored.len() {
                for room in 1..12 {
                    assert_eq!(
                        encoded(encoder.clone(), stored, piece, room),
                        whole,
                        "{piece} {room}"
                    );
                }
            }
        }
    }

    #[test]
    fn without_room_nothing_is_consumed() {
        let progress = Encoder::retr().encode(b"abc", &mut []);
        assert_eq!(
            progress,
            Progress {
                consumed: 0,
                produced: 0,
                done: false
            }
        );
    }

    #[test]
    fn rule_20_a_surrogate_differs_in_the_header_alone_and_has_as_many_octets() {
        let stored = "Subject: \u{e9}\u{4e2d}\r\n.\u{e9}: x\n\nb\u{f6}dy\n".as_bytes();
        let expected = [
            b"Subject: ?????\r\n..??: x\r\n\r\nb".as_slice(),
            "\u{f6}dy\r\n.\r\n".as_bytes(),
        ]
        .concat();
        let plain = encoded(Encoder::retr(), stored, stored.len(), 100);
        for piece in 1..=stored.len() {
            for room in [1, 2, 3, 100] {
                let surrogate = encoded(Encoder::retr().with_ascii_header(), stored, piece, room);
                assert_eq!(
                    surrogate.escape_ascii().to_string(),
                    expected.escape_ascii().to_string()
                );
                assert_eq!(surrogate.len(), plain.len());
            }
        }
    }
}
