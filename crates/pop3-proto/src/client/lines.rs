//! Lines of replies, put together from the pieces received.

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) octets: &'a [u8],
    /// It ended with a LF that no CR preceded.
    pub(super) lone_lf: bool,
}

/// The line is longer than allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// The beginning of a line whose end has not been received yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    /// `partial` is a whole line that has been handed out.
    taken: bool,
}

impl Lines {
    /// The next line, and how much of `input` it took; no line if all of it was taken without finding an end. A line that
    /// is in `input` as a whole is not copied. The limit is for the line with its end.
    pub(super) fn next<'a>(
        &'a mut self,
        input: &'a [u8],
        limit: usize,
    ) -> Result<(usize, Option<Line<'a>>), TooLong> {
        if std::mem::take(&mut self.taken) {
            self.partial.clear();
        }
        let end = memchr::memchr(b'\n', input).map(|at| at.saturating_add(1));
        let consumed = end.unwrap_or(input.len());
        if self.partial.len().saturating_add(consumed) > limit {
            return Err(TooLong);
        }
        let piece = input.get(..consumed).unwrap_or_default();
        if end.is_none() {
            self.partial.extend_from_slice(piece);
            return Ok((consumed, None));
        }
        let line = if self.partial.is_empty() {
            piece
        } else {
            self.partial.extend_from_slice(piece);
            self.taken = true;
            &self.partial
        };
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let (octets, lone_lf) = match line.strip_suffix(b"\r") {
            Some(octets) => (octets, false),
            None => (line, true),
        };
        Ok((consumed, Some(Line { octets, lone_lf })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_put_together_from_pieces() {
        let mut lines = Lines::default();
        assert_eq!(lines.next(b"+O", 100), Ok((2, None)));
        assert_eq!(lines.next(b"", 100), Ok((0, None)));
        let line = Line {
            octets: b"+OK x",
            lone_lf: false,
        };
        assert_eq!(lines.next(b"K x\r\nmore", 100), Ok((5, Some(line))));
        let line = Line {
            octets: b"more",
            lone_lf: true,
        };
        assert_eq!(lines.next(b"more\n", 100), Ok((5, Some(line))));
    }

    #[test]
    fn a_line_over_the_limit_is_refused_before_it_is_kept() {
        let mut lines = Lines::default();
        assert!(lines.next(b"12345678\r\n", 10).is_ok());
        assert_eq!(lines.next(b"123456789\r\n", 10), Err(TooLong));
        assert_eq!(lines.next(b"1234567890", 10), Ok((10, None)));
        assert_eq!(lines.next(b"1", 10), Err(TooLong));
        assert!(lines.partial.len() <= 10);
    }
}
