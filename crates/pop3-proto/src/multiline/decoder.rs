//! The octets of a multi-line reply without what the wire added: the client's side.

use memchr::{memchr, memmem};

/// Decodes one multi-line reply, from behind its first line to the final dot, without copying.
///
/// A line ends with CRLF alone, unless the server is one that ends lines with a lone LF: were both taken for line ends, a
/// mail with a lone LF in it could feign the end of the message and smuggle a reply in behind.
///
/// ```
/// use pop3_proto::multiline::{Decoder, LineEnds};
///
/// let mut decoder = Decoder::new(LineEnds::Lf, false);
/// let (mut input, mut message) = (&b"a: b\r\n\r\n..\r\n.\r\n+OK"[..], Vec::new());
/// loop {
///     let decoded = decoder.decode(input);
///     message.extend_from_slice(decoded.data);
///     input = &input[decoded.consumed..];
///     if decoded.end {
///         break;
///     }
/// }
/// assert_eq!((&message[..], input), (&b"a: b\n\n.\n"[..], &b"+OK"[..]));
/// ```
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    line_ends: LineEnds,
    lone_lf: bool,
}

/// How lines of a decoded message end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnds {
    /// As the server sent them: CRLF.
    AsSent,
    /// With LF.
    Lf,
}

/// What a call has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Octets taken from the input; the next call begins behind them. Less than all unless the input is used up.
    pub consumed: usize,
    /// Octets of the message; there may be none.
    pub data: &'a [u8],
    /// The final dot has been consumed. The next octet is another reply's.
    pub end: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the first octet of a line.
    Start,
    /// Behind the dot that begins a line; it is not part of the message.
    Dot,
    /// Behind that dot and a CR.
    DotCr,
    /// Within a line.
    Text,
    /// Within a line, behind a CR that has not been handed out: a LF may follow.
    Cr,
    /// At the LF of a CRLF whose CR is left out.
    Lf,
    End,
}

impl Decoder {
    /// For one reply. `lone_lf` says that this server ends lines with a lone LF, as the reply's first line did.
    pub fn new(line_ends: LineEnds, lone_lf: bool) -> Decoder {
        Decoder {
            state: State::Start,
            line_ends,
            lone_lf,
        }
    }

    /// Decodes octets as received, up to some point that suits; call it again with the rest until the input is used up or
    /// the reply is at its [`end`](Decoded::end).
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Decoded<'a> {
        let mut rest = input;
        let mut data: &[u8] = b"";
        while data.is_empty() && self.state != State::End {
            let Some((first, behind)) = rest.split_first() else {
                break;
            };
            match (self.state, *first) {
                (State::Start, b'.') => (self.state, rest) = (State::Dot, behind),
                (State::Dot, b'\r') => (self.state, rest) = (State::DotCr, behind),
                (State::DotCr, b'\n') => (self.state, rest) = (State::End, behind),
                (State::Dot, b'\n') if self.lone_lf => (self.state, rest) = (State::End, behind),
                (State::DotCr, _) => (self.state, data) = (State::Text, b"\r"),
                (State::Cr, b'\n') => {
                    data = match self.line_ends {
                        LineEnds::AsSent => b"\r\n",
                        LineEnds::Lf => b"\n",
                    };
                    (self.state, rest) = (State::Start, behind);
                }
                (State::Cr, _) => (self.state, data) = (State::Text, b"\r"),
                (State::Lf, _) => (self.state, data, rest) = self.line_end(rest, behind),
                (State::Start | State::Dot | State::Text, _) => {
                    (self.state, data, rest) = self.text(rest);
                }
                (State::End, _) => break,
            }
        }
        Decoded {
            consumed: input.len().saturating_sub(rest.len()),
            data,
            end: self.state == State::End,
        }
    }

    /// Decodes octets as received to the end of `message`: all of them, or up to the reply's end. Returns how many were taken,
    /// and whether that is the end.
    pub fn decode_to(&mut self, input: &[u8], message: &mut Vec<u8>) -> (usize, bool) {
        let mut rest = input;
        while !rest.is_empty() && self.state != State::End {
            let decoded = self.decode(rest);
            message.extend_from_slice(decoded.data);
            rest = rest.get(decoded.consumed..).unwrap_or_default();
        }
        let consumed = input.len().saturating_sub(rest.len());
        (consumed, self.state == State::End)
    }

    /// The longest piece of a line, or of several, that can be handed out; then the state and the input behind it.
    fn text<'a>(&self, input: &'a [u8]) -> (State, &'a [u8], &'a [u8]) {
        match self.line_ends {
            LineEnds::AsSent => {
                let (before_dot, end): (&[u8], &[u8]) = if self.lone_lf {
                    (b"\n.", b"\n")
                } else {
                    (b"\r\n.", b"\r\n")
                };
                if let Some(at) = memmem::find(input, before_dot) {
                    let (data, rest) =
                        input.split_at(at.saturating_add(end.len()).min(input.len()));
                    return (State::Start, data, rest);
                }
                if input.ends_with(end) {
                    return (State::Start, input, b"");
                }
            }
            LineEnds::Lf if self.lone_lf => {
                if let Some(at) = memchr(b'\n', input) {
                    let (line, rest) = input.split_at(at);
                    return match line.strip_suffix(b"\r") {
                        Some(line) => (State::Lf, line, rest),
                        None => {
                            let (data, rest) =
                                input.split_at(at.saturating_add(1).min(input.len()));
                            (State::Start, data, rest)
                        }
                    };
                }
            }
            LineEnds::Lf => {
                // A search for both octets would take longer to begin than most lines take.
                let mut searched = 0;
                while let Some(at) = input.get(searched..).and_then(|rest| memchr(b'\n', rest)) {
                    let lf = at.saturating_add(searched);
                    let (line, rest) = input.split_at(lf);
                    if let Some(line) = line.strip_suffix(b"\r") {
                        return (State::Lf, line, rest);
                    }
                    searched = lf.saturating_add(1);
                }
            }
        }
        match input.strip_suffix(b"\r") {
            Some(data) => (State::Cr, data, b""),
            None => (State::Text, input, b""),
        }
    }

    /// Like [`text`](Decoder::text), from the LF that ends a line: with the next line in the same piece if that has no
    /// dot.
    fn line_end<'a>(&self, input: &'a [u8], behind: &'a [u8]) -> (State, &'a [u8], &'a [u8]) {
        match behind.first() {
            None | Some(b'.') => {
                let (end, rest) = input.split_at(1.min(input.len()));
                (State::Start, end, rest)
            }
            Some(_) => {
                let (state, text, rest) = self.text(behind);
                let data = input
                    .get(..text.len().saturating_add(1))
                    .unwrap_or_default();
                (state, data, rest)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message, and what of the input lies behind the reply.
    fn decoded(
        wire: &[u8],
        line_ends: LineEnds,
        lone_lf: bool,
        piece: usize,
    ) -> (Vec<u8>, Option<usize>) {
        let mut decoder = Decoder::new(line_ends, lone_lf);
        let mut message = Vec::new();
        let mut consumed = 0;
        for mut piece in wire.chunks(piece) {
            while !piece.is_empty() {
                let decoded = decoder.decode(piece);
                assert!(
                    decoded.consumed > 0 || !decoded.data.is_empty(),
                    "no progress"
                );
                message.extend_from_slice(decoded.data);
                piece = &piece[decoded.consumed..];
                consumed += decoded.consumed;
                if decoded.end {
                    return (message, Some(consumed));
                }
            }
        }
        (message, None)
    }

    /// The same in one go for each piece.
    fn decoded_to(
        wire: &[u8],
        line_ends: LineEnds,
        lone_lf: bool,
        piece: usize,
    ) -> (Vec<u8>, Option<usize>) {
        let mut decoder = Decoder::new(line_ends, lone_lf);
        let mut message = Vec::new();
        let mut consumed = 0;
        for piece in wire.chunks(piece) {
            let (taken, is_end) = decoder.decode_to(piece, &mut message);
            consumed += taken;
            if is_end {
                return (message, Some(consumed));
            }
            assert_eq!(taken, piece.len());
        }
        (message, None)
    }

    fn check(wire: &[u8], as_sent: &[u8], lf: &[u8], lone_lf: bool) {
        for piece in 1..=wire.len() {
            for (line_ends, message) in [(LineEnds::AsSent, as_sent), (LineEnds::Lf, lf)] {
                let mut wire = wire.to_vec();
                let end = wire.len();
                wire.extend_from_slice(b"+OK\r\n");
                let (got, consumed) = decoded(&wire, line_ends, lone_lf, piece);
                assert_eq!(got, message, "{} by {piece}", wire.escape_ascii());
                assert_eq!(consumed, Some(end), "{} by {piece}", wire.escape_ascii());
                let in_one_go = decoded_to(&wire, line_ends, lone_lf, piece);
                assert_eq!(in_one_go, (got, consumed), "{}", wire.escape_ascii());
            }
        }
    }

    #[test]
    fn dots_are_removed_and_the_end_is_found_wherever_the_input_is_cut() {
        check(b".\r\n", b"", b"", false);
        check(b"\r\n.\r\n", b"\r\n", b"\n", false);
        check(
            b"a\r\n..\r\n...b\r\n.c\r\n.\r\n",
            b"a\r\n.\r\n..b\r\nc\r\n",
            b"a\n.\n..b\nc\n",
            false,
        );
    }

    #[test]
    fn cr_and_lf_alone_are_data() {
        check(
            b"a\rb\r\r\n\rc\n.\nd\r\n.\r\n",
            b"a\rb\r\r\n\rc\n.\nd\r\n",
            b"a\rb\r\n\rc\n.\nd\n",
            false,
        );
        check(b"..\r\r\n.\r\n", b".\r\r\n", b".\r\n", false);
    }

    #[test]
    fn a_lone_lf_cannot_feign_the_end() {
        check(
            b"a\n.\n+OK\r\n.\r\n",
            b"a\n.\n+OK\r\n",
            b"a\n.\n+OK\n",
            false,
        );
        check(
            b"a\r\n.\n+OK\r\n.\r\n",
            b"a\r\n\n+OK\r\n",
            b"a\n\n+OK\n",
            false,
        );
    }

    #[test]
    fn a_server_that_ends_lines_with_a_lone_lf_is_understood() {
        check(b"a\n..b\n\n.\n", b"a\n.b\n\n", b"a\n.b\n\n", true);
        check(b"a\n..b\r\n.\n", b"a\n.b\r\n", b"a\n.b\n", true);
        check(b".\n", b"", b"", true);
    }

    #[test]
    fn without_the_final_dot_there_is_no_end() {
        for cut in [&b""[..], b"a\r\n", b"a\r\n.", b"a\r\n.\r", b"a\r\n.x\r\n"] {
            assert_eq!(decoded(cut, LineEnds::AsSent, false, 1).1, None);
        }
    }

    #[test]
    fn long_runs_are_handed_out_whole() {
        let mut decoder = Decoder::new(LineEnds::AsSent, false);
        let input = b"one\r\ntwo\r\n\r\nthree\r\n";
        assert_eq!(
            decoder.decode(input),
            Decoded {
                consumed: input.len(),
                data: input,
                end: false
            }
        );
    }
}
