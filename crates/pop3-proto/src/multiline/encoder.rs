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
        let (place, room) = std::mem::take(&mut self.room).split_at_mut(fits);
        if let Some(octets) = octets.get(..fits) {
            place.copy_from_slice(octets);
        }
        self.room = room;
        self.produced = self.produced.saturating_add(fits);
        fits
    }

    /// As [`Output::copy`], with `?` for what is not ASCII.
    fn copy_ascii(&mut self, octets: &[u8]) -> usize {
        let fits = self.room.len().min(octets.len());
        let (place, room) = std::mem::take(&mut self.room).split_at_mut(fits);
        for (place, octet) in place.iter_mut().zip(octets) {
            *place = if octet.is_ascii() { *octet } else { b'?' };
        }
        self.room = room;
        self.produced = self.produced.saturating_add(fits);
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
