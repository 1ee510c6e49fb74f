//! Cuts command lines out of the octets received.
//!
//! Run by the session process and the maildrop process on what the client sent, in whatever pieces it comes. A line ends
//! with CRLF or a lone LF; a CR elsewhere is data, 8-bit octets pass. Memory is bounded whatever is sent: of a line that is
//! too long nothing is kept but the fact, so that no command is ever read from its middle.

/// The longest command line, line end included. RFC 2449 section 4 asks for 255 octets; twice that and a little leaves
/// room for a long password behind a mail address.
pub const MAX_COMMAND: usize = 512;

/// The longest line within a SASL exchange, and the longest that begins one, line end included. RFC 5034 section 4 sets no bound; the largest responses in
/// use are Kerberos tickets and OAuth tokens of some 10 KiB.
pub const MAX_SASL_LINE: usize = 64 * 1024;

/// Octets received at a time: room for a hundred pipelined commands in one system call.
const RECEIVE_OCTETS: usize = 4096;

/// Why a line is not a line. Each is one error to the client, and no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineError {
    /// Longer than the limit. Reported as soon as that is known; the rest of the line is dropped as it comes.
    TooLong,
    /// Holds a NUL octet.
    Nul,
}

/// The octets received and not yet parsed.
///
/// ```
/// use pop3_proto::line::{LineBuffer, MAX_COMMAND};
///
/// let mut lines = LineBuffer::new(MAX_COMMAND);
/// assert_eq!(lines.push(b"NOOP\r\nST"), 8);
/// assert_eq!(lines.next_line(), Some(Ok(&b"NOOP"[..])));
/// assert_eq!(lines.next_line(), None);
/// assert_eq!(lines.unparsed(), b"ST");
/// ```
///
/// Octets that were handed out are overwritten at the next call, as they may have been a password.
#[derive(Debug)]
pub struct LineBuffer {
    buffer: Vec<u8>,
    /// The first octet not handed out.
    start: usize,
    /// The first octet not known to be part of an unfinished line: no LF is sought twice in the same octets.
    searched: usize,
    /// The end of what was received.
    end: usize,
    limit: usize,
    /// Within the tail of a line that was too long.
    dropping: bool,
    /// Octets of lines without an end in sight.
    dropped: usize,
}

impl LineBuffer {
    /// An empty buffer for lines of at most `limit` octets, line end included.
    pub fn new(limit: usize) -> LineBuffer {
        LineBuffer {
            buffer: vec![0; limit.max(RECEIVE_OCTETS)],
            start: 0,
            searched: 0,
            end: 0,
            limit,
            dropping: false,
            dropped: 0,
        }
    }

    /// A buffer that begins with what another process had [left over](LineBuffer::unparsed).
    pub fn with_rest(limit: usize, rest: &[u8]) -> LineBuffer {
        let mut lines = LineBuffer::new(limit.max(rest.len()));
        lines.push(rest);
        lines.limit = limit;
        lines
    }

    /// Changes the limit for the lines that follow: longer ones within a SASL exchange, and back.
    pub fn set_limit(&mut self, limit: usize) {
        if limit > self.buffer.len() {
            // Not `resize`: moving to a new allocation would leave a copy behind.
            let mut larger = vec![0; limit];
            let unparsed = self.unparsed();
            if let Some(place) = larger.get_mut(..unparsed.len()) {
                place.copy_from_slice(unparsed);
            }
            self.end = unparsed.len();
            self.searched = self.searched.saturating_sub(self.start);
            self.start = 0;
            wipe(&mut self.buffer);
            self.buffer = larger;
        }
        self.limit = limit;
    }

    /// What has been received behind the last line: the beginning of the next; or, when the client has logged in, the commands
    /// that it has pipelined behind PASS, for the process that serves the next state.
    pub fn unparsed(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Where to receive into; tell [`filled`](LineBuffer::filled) how much came. Empty only while a whole line waits to be
    /// taken.
    pub fn space(&mut self) -> &mut [u8] {
        self.compact();
        self.buffer.get_mut(self.end..).unwrap_or_default()
    }

    /// `octets` were received into the beginning of [`space`](LineBuffer::space).
    pub fn filled(&mut self, octets: usize) {
        self.end = self.end.saturating_add(octets).min(self.buffer.len());
    }

    /// Copies in as much of `input` as there is room for, and says how much that was.
    pub fn push(&mut self, input: &[u8]) -> usize {
        let space = self.space();
        let fits = space.len().min(input.len());
        if let (Some(space), Some(input)) = (space.get_mut(..fits), input.get(..fits)) {
            space.copy_from_slice(input);
        }
        self.filled(fits);
        fits
    }

    /// The next line without its end; `None` if no whole line has been received.
    pub fn next_line(&mut self) -> Option<Result<&[u8], LineError>> {
        loop {
            let unsearched = self.buffer.get(self.searched..self.end)?;
            let Some(distance) = memchr::memchr(b'\n', unsearched) else {
                return self.unfinished_line();
            };
            let line_start = self.start;
            let line_end = self.searched.saturating_add(distance);
            self.start = line_end.saturating_add(1);
            self.searched = self.start;
            if std::mem::take(&mut self.dropping) {
                continue;
            }
            if self.start.saturating_sub(line_start) > self.limit {
                return Some(Err(LineError::TooLong));
            }
            let line = self.buffer.get(line_start..line_end)?;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if memchr::memchr(0, line).is_some() {
                return Some(Err(LineError::Nul));
            }
            return Some(Ok(line));
        }
    }

    /// There is no LF in what was received: the line may still be too long already.
    fn unfinished_line(&mut self) -> Option<Result<&[u8], LineError>> {
        self.searched = self.end;
        if !self.dropping && self.end.saturating_sub(self.start) < self.limit {
            return None;
        }
        let unsearched = self.end.saturating_sub(self.start);
        self.dropped = self.dropped.saturating_add(unsearched);
        self.start = self.end;
        let known = std::mem::replace(&mut self.dropping, true);
        (!known).then_some(Err(LineError::TooLong))
    }

    /// Whether so many octets of lines without an end have been dropped; they are counted anew then. A client that sends nothing
    /// else need not be listened to as fast as it can send.
    pub fn have_dropped(&mut self, octets: usize) -> bool {
        let have = self.dropped >= octets;
        if have {
            self.dropped = 0;
        }
        have
    }

    /// Drops what has been received behind the last line and says how many octets that was: what was sent in the clear
    /// behind STLS must not be taken for commands under TLS (RFC 2595 section 4).
    pub fn discard_rest(&mut self) -> usize {
        let dropped = self.end.saturating_sub(self.start);
        self.start = self.end;
        self.dropping = false;
        self.compact();
        dropped
    }

    /// Moves the unparsed octets to the front and overwrites everything else.
    fn compact(&mut self) {
        if self.start == 0 {
            return;
        }
        self.buffer.copy_within(self.start..self.end, 0);
        let kept = self.end.saturating_sub(self.start);
        wipe(self.buffer.get_mut(kept..self.end).unwrap_or_default());
        self.searched = self.searched.saturating_sub(self.start);
        self.start = 0;
        self.end = kept;
    }
}

impl Drop for LineBuffer {
    fn drop(&mut self) {
        wipe(&mut self.buffer);
    }
}

/// Chooses the search for line ends that suits the processor, which the first line does otherwise. For a process that is about
/// to fork: its children inherit the choice, and each would have a page of memory more for making it.
pub fn choose_search() {
    let _ = memchr::memchr(b'\n', b"");
}

/// Overwrites what may have been a password.
fn wipe(octets: &mut [u8]) {
    octets.fill(0);
    // Keeps the compiler from leaving out a write that nothing reads.
    std::hint::black_box(octets);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Line = Result<Vec<u8>, LineError>;

    /// All lines of `input`, received in pieces of `piece` octets, and what is left over.
    fn lines(input: &[u8], limit: usize, piece: usize) -> (Vec<Line>, Vec<u8>) {
        let mut buffer = LineBuffer::new(limit);
        let mut lines = Vec::new();
        for piece in input.chunks(piece) {
            let mut piece = piece;
            while !piece.is_empty() {
                piece = &piece[buffer.push(piece)..];
                while let Some(line) = buffer.next_line() {
                    lines.push(line.map(<[u8]>::to_vec));
                }
            }
        }
        (lines, buffer.unparsed().to_vec())
    }

    fn whole(input: &[u8]) -> Vec<Line> {
        lines(input, MAX_COMMAND, usize::MAX).0
    }

    #[test]
    fn crlf_and_a_lone_lf_end_a_line() {
        assert_eq!(
            whole(b"QUIT\r\nNOOP\n\r\n\nA\r\r\n"),
            [&b"QUIT"[..], b"NOOP", b"", b"", b"A\r"].map(|line| Ok(line.to_vec()))
        );
    }

    #[test]
    fn a_bare_cr_and_octets_above_127_are_data() {
        assert_eq!(whole(b"PASS a\rb\xff\r\n"), [Ok(b"PASS a\rb\xff".to_vec())]);
    }

    #[test]
    fn a_nul_makes_the_whole_line_one_error() {
        assert_eq!(
            whole(b"QUIT\0\r\n\0\nNOOP\r\n"),
            [
                Err(LineError::Nul),
                Err(LineError::Nul),
                Ok(b"NOOP".to_vec())
            ]
        );
    }

    #[test]
    fn rule_14_a_command_of_255_octets_is_accepted() {
        let mut command = b"PASS ".to_vec();
        command.resize(253, b'x');
        let expected = vec![Ok(command.clone())];
        command.extend_from_slice(b"\r\n");
        assert_eq!(whole(&command), expected);
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
        let mut line = vec![b'x'; MAX_COMMAND - 2];
        line.extend_from_slice(b"\r\n");
        assert_eq!(whole(&line), [Ok(vec![b'x'; MAX_COMMAND - 2])]);
        line.insert(0, b'x');
        assert_eq!(whole(&line), [Err(LineError::TooLong)]);
    }

    #[test]
    fn an_overlong_line_is_one_error_and_no_command_from_its_middle() {
        for tail in [MAX_COMMAND - 4, MAX_COMMAND, 4090, 4096, 5000, 1_000_000] {
            let mut input = vec![b'x'; tail];
            input.extend_from_slice(b" QUIT\r\nNOOP\r\n");
            for piece in [1000, 4096, usize::MAX] {
                assert_eq!(
                    lines(&input, MAX_COMMAND, piece).0,
                    [Err(LineError::TooLong), Ok(b"NOOP".to_vec())],
                    "{tail} octets in pieces of {piece}"
                );
            }
        }
    }

    #[test]
    fn an_endless_line_is_reported_at_once_and_only_once() {
        let mut buffer = LineBuffer::new(MAX_COMMAND);
        let mut errors = 0;
        for _ in 0..10_000 {
            assert_eq!(buffer.push(&[b'x'; 1000]), 1000);
            while let Some(line) = buffer.next_line() {
                assert_eq!(line, Err(LineError::TooLong));
                errors += 1;
            }
        }
        assert_eq!(errors, 1);
        assert_eq!(buffer.buffer.len(), RECEIVE_OCTETS);
        assert!(!buffer.have_dropped(10_000_001));
        assert!(buffer.have_dropped(10_000_000));
        buffer.push(b"x\r\nNOOP\r\n");
        assert_eq!(buffer.next_line(), Some(Ok(&b"NOOP"[..])));
        assert_eq!(buffer.dropped, 0);
    }

    #[test]
    fn what_comes_behind_the_last_line_taken_is_left_over() {
        let mut buffer = LineBuffer::new(MAX_COMMAND);
        buffer.push(b"PASS x\r\nSTAT\r\nLI");
        assert_eq!(buffer.next_line(), Some(Ok(&b"PASS x"[..])));
        assert_eq!(buffer.unparsed(), b"STAT\r\nLI");
        assert_eq!(buffer.discard_rest(), 8);
        assert_eq!(buffer.next_line(), None);
        let mut next = LineBuffer::with_rest(MAX_COMMAND, b"STAT\r\nLI");
        next.push(b"ST\r\n");
        assert_eq!(next.next_line(), Some(Ok(&b"STAT"[..])));
        assert_eq!(next.next_line(), Some(Ok(&b"LIST"[..])));
    }

    #[test]
    fn a_rest_larger_than_a_receive_buffer_is_kept_whole() {
        let rest = b"NOOP\r\n".repeat(2000);
        let mut buffer = LineBuffer::with_rest(MAX_COMMAND, &rest);
        for _ in 0..2000 {
            assert_eq!(buffer.next_line(), Some(Ok(&b"NOOP"[..])));
        }
        assert_eq!(buffer.next_line(), None);
        buffer.push(&[b'x'; MAX_COMMAND]);
        assert_eq!(buffer.next_line(), Some(Err(LineError::TooLong)));
    }

    #[test]
    fn rule_15_what_was_pipelined_behind_stls_is_dropped() {
        let mut buffer = LineBuffer::new(MAX_COMMAND);
        buffer.push(b"STLS\r\nUSER mallory\r\nPA");
        assert_eq!(buffer.next_line(), Some(Ok(&b"STLS"[..])));
        assert_eq!(buffer.discard_rest(), 16);
        buffer.push(b"SS x\r\n");
        assert_eq!(buffer.next_line(), Some(Ok(&b"SS x"[..])));
    }

    #[test]
    fn the_tail_of_an_overlong_line_is_not_awaited_across_stls() {
        let mut buffer = LineBuffer::new(MAX_COMMAND);
        buffer.push(&[b'x'; MAX_COMMAND]);
        assert_eq!(buffer.next_line(), Some(Err(LineError::TooLong)));
        buffer.discard_rest();
        buffer.push(b"CAPA\r\n");
        assert_eq!(buffer.next_line(), Some(Ok(&b"CAPA"[..])));
    }

    #[test]
    fn the_limit_grows_and_shrinks_in_mid_stream() {
        let mut buffer = LineBuffer::new(MAX_COMMAND);
        buffer.push(b"AUTH X\r\nabc");
        assert_eq!(buffer.next_line(), Some(Ok(&b"AUTH X"[..])));
        assert_eq!(buffer.next_line(), None);
        buffer.set_limit(MAX_SASL_LINE);
        let long = vec![b'A'; MAX_SASL_LINE - 5];
        assert_eq!(buffer.push(&long), long.len());
        assert_eq!(buffer.next_line(), None);
        buffer.push(b"\r\nNOOP\r\n");
        assert_eq!(
            buffer.next_line().unwrap().unwrap().len(),
            MAX_SASL_LINE - 2
        );
        buffer.set_limit(MAX_COMMAND);
        // Only "\r\n" fitted behind the long line.
        buffer.push(b"NOOP\r\n");
        assert_eq!(buffer.next_line(), Some(Ok(&b"NOOP"[..])));
    }

    #[test]
    fn octets_that_were_handed_out_are_overwritten() {
        let mut buffer = LineBuffer::new(MAX_COMMAND);
        buffer.push(b"PASS secret\r\nNOOP\r\n");
        assert_eq!(buffer.next_line(), Some(Ok(&b"PASS secret"[..])));
        buffer.space();
        assert_eq!(memchr::memmem::find(&buffer.buffer, b"secret"), None);
        assert_eq!(buffer.next_line(), Some(Ok(&b"NOOP"[..])));
        buffer.space();
        assert!(buffer.buffer.iter().all(|octet| *octet == 0));
    }

    #[test]
    fn space_is_never_empty_once_all_lines_are_taken() {
        let mut buffer = LineBuffer::new(MAX_COMMAND);
        for octets in 1..=3 * RECEIVE_OCTETS {
            assert_eq!(buffer.push(b"x"), 1, "{octets}");
            while buffer.next_line().is_some() {}
        }
    }

    proptest! {
        #[test]
        fn the_cuts_in_the_input_do_not_matter(
            input in prop::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(0u8), Just(b'A'), any::<u8>()], 0..200),
            piece in 1usize..40,
            limit in 4usize..20,
        ) {
            let expected = lines(&input, limit, usize::MAX);
            let in_pieces = lines(&input, limit, piece);
            prop_assert_eq!(&in_pieces.0, &expected.0);
            prop_assert_eq!(&in_pieces.1, &expected.1);
        }

        #[test]
        fn every_line_gives_exactly_one_result(input in prop::collection::vec(
            prop_oneof![Just(b'\n'), Just(b'A'), Just(0u8)], 0..200)) {
            let (lines, rest) = lines(&input, 8, 3);
            let ended = input.iter().filter(|octet| **octet == b'\n').count();
            // An unfinished line that is too long already has been reported, and is not left over.
            let tail = input.rsplit(|octet| *octet == b'\n').next().unwrap();
            let reported = usize::from(tail.len() >= 8);
            prop_assert_eq!(lines.len(), ended + reported);
            prop_assert_eq!(rest, if reported == 1 { &[][..] } else { tail });
        }
    }
}
