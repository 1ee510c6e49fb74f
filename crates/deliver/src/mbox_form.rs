//! A message as it is in an mbox.
//!
//! `>` is put before lines that begin with `From `, or with `>` and `From ` (the form called mboxrd, which can be taken back).

use std::io::{self, Write};

/// Puts `>` before lines that would be taken for the next message's.
#[derive(Debug, Default)]
pub struct Quoting {
    /// The beginning of `From `, at the beginning of a line. A `>` before it is written at once: one more may as well come behind.
    held: Vec<u8>,
    is_within_line: bool,
    /// How the last line ends.
    ends_with_lf: bool,
}

impl Quoting {
    /// Writes a piece of a message.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write(&mut self, octets: &[u8], out: &mut impl Write) -> io::Result<()> {
        for line in octets.split_inclusive(|octet| *octet == b'\n') {
            self.ends_with_lf = line.ends_with(b"\n");
            if self.is_within_line {
                out.write_all(line)?;
                self.is_within_line = !self.ends_with_lf;
            } else {
                self.write_start(line, out)?;
            }
        }
        Ok(())
    }

    /// Writes the beginning of a line, or what follows the part that is held.
    fn write_start(&mut self, line: &[u8], out: &mut impl Write) -> io::Result<()> {
        const FROM: &[u8] = b"From ";
        let marks = if self.held.is_empty() {
            line.iter().take_while(|octet| **octet == b'>').count()
        } else {
            0
        };
        let (marks, rest) = line.split_at(marks);
        out.write_all(marks)?;
        if rest.is_empty() {
            return Ok(());
        }
        let (head, tail) = rest.split_at(rest.len().min(FROM.len() - self.held.len()));
        self.held.extend_from_slice(head);
        if self.held.len() < FROM.len() && FROM.starts_with(&self.held) {
            return Ok(());
        }
        if self.held == FROM {
            out.write_all(b">")?;
        }
        out.write_all(&self.held)?;
        self.held.clear();
        self.is_within_line = !self.ends_with_lf;
        out.write_all(tail)
    }

    /// The message is complete: an empty line is put behind it.
    ///
    /// # Errors
    /// What `out` says.
    pub fn finish(&mut self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.held)?;
        self.held.clear();
        if !self.ends_with_lf {
            out.write_all(b"\n")?;
        }
        out.write_all(b"\n")
    }
}

/// Seconds since 1970 as `Thu Jan  1 00:00:00 1970`, in UTC.
pub fn asctime(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of year 0, by cycles of 400 years (146,097 days).
    let shifted = days + 719_468;
    let (cycle, day_of_cycle) = (shifted / 146_097, shifted % 146_097);
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524
        - day_of_cycle / 146_096)
        / 365;
    let day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12;
    let year = cycle * 400 + year_of_cycle + u64::from(month < 2);
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    format!(
        "{} {} {day:2} {:02}:{:02}:{:02} {year}",
        weekday[(days % 7) as usize],
        months[month as usize],
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_look_like_envelopes_are_quoted_wherever_they_are_cut() {
        let message = b"From a\n>From b\n>>From c\nFrom\nFro\n> From d\n\nx From e\n>";
        let quoted = b">From a\n>>From b\n>>>From c\nFrom\nFro\n> From d\n\nx From e\n>\n\n";
        for piece in 1..=message.len() {
            let mut quoting = Quoting::default();
            let mut out = Vec::new();
            for piece in message.chunks(piece) {
                quoting.write(piece, &mut out).unwrap();
            }
            quoting.finish(&mut out).unwrap();
            assert_eq!(out, quoted, "{}", out.escape_ascii());
        }
    }

    #[test]
    fn the_date_is_the_calendars() {
        assert_eq!(asctime(0), "Thu Jan  1 00:00:00 1970");
        assert_eq!(asctime(951_782_399), "Mon Feb 28 23:59:59 2000");
        assert_eq!(asctime(951_868_800), "Wed Mar  1 00:00:00 2000");
        assert_eq!(asctime(1_767_225_599), "Wed Dec 31 23:59:59 2025");
        assert_eq!(asctime(1_767_225_600), "Thu Jan  1 00:00:00 2026");
    }
}
