//! When a message was delivered, as the `From ` line of an mbox says.
//!
//! The form is that of asctime(3), in the local time of whoever delivered it, which is not told; some put the name of a time zone
//! before the year, or the offset behind it, and the original Unix left the seconds out.

/// Octets at the end of a `From ` line that a date takes, with room for a time zone.
pub(super) const MAX_DATE: u64 = 64;

/// How far local time is behind UTC at most, in seconds.
const WESTERNMOST: u64 = 12 * 60 * 60;

/// What programs write that do not know.
const NO_YEAR: u64 = 1970;

const DAY: u64 = 24 * 60 * 60;

const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// The latest moment that the end of a `From ` line can mean, in seconds since 1970; `None` if it ends in no date.
pub(super) fn latest(line: &[u8]) -> Option<u64> {
    let words = line.split(|octet| octet.is_ascii_whitespace());
    let words: Vec<&[u8]> = words.filter(|word| !word.is_empty()).collect();
    // The last, since a sender may be called by a month.
    (0..words.len())
        .rev()
        .find_map(|at| date(words.get(at..).unwrap_or_default()))
}

/// `Jan 31 12:34[:56] [MST] 2024 […]`.
fn date(words: &[&[u8]]) -> Option<u64> {
    let [month, day, time, rest @ ..] = words else {
        return None;
    };
    let month = MONTHS.iter().position(|name| name == month)? as u64;
    let day = number(day).filter(|day| (1..=31).contains(day))?;
    let mut parts = time.split(|&octet| octet == b':');
    let (hour, minute) = (number(parts.next()?)?, number(parts.next()?)?);
    let second = parts.next().map_or(Some(0), number)?;
    // 60 is a leap second.
    if hour > 23 || minute > 59 || second > 60 || parts.next().is_some() {
        return None;
    }
    let is_year = |word: &&[u8]| word.len() == 4;
    let mut years = rest.iter().take(2).copied().filter(is_year);
    let year = years.find_map(number).filter(|&year| year > NO_YEAR)?;
    let days = days_since_1970(year, month, day);
    let seconds = days
        .saturating_mul(DAY)
        .saturating_add(hour.saturating_mul(3600))
        .saturating_add(minute.saturating_mul(60))
        .saturating_add(second);
    Some(seconds.saturating_add(WESTERNMOST))
}

/// Years begin in March here, so that the day that not every year has is the last; `month` counts from January, as 0.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = match month {
        0 | 1 => (year.saturating_sub(1), month.saturating_add(10)),
        _ => (year, month.saturating_sub(2)),
    };
    let leap_days = (year / 4)
        .saturating_sub(year / 100)
        .saturating_add(year / 400);
    // The lengths of months from March on are 31, 30, 31, 30, 31, and again.
    let months = month.saturating_mul(153).saturating_add(2) / 5;
    let days = year
        .saturating_mul(365)
        .saturating_add(leap_days)
        .saturating_add(months)
        .saturating_add(day);
    // So many for 1 January 1970.
    days.saturating_sub(719_469)
}

/// At most four digits.
fn number(word: &[u8]) -> Option<u64> {
    if !(1..=4).contains(&word.len()) {
        return None;
    }
    word.iter().try_fold(0_u64, |number, octet| {
        let digit = octet.is_ascii_digit().then(|| octet.wrapping_sub(b'0'))?;
        Some(number.saturating_mul(10).saturating_add(u64::from(digit)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without the allowance for local time.
    fn seconds(line: &str) -> Option<u64> {
        latest(line.as_bytes()).map(|seconds| seconds - WESTERNMOST)
    }

    #[test]
    fn dates_are_read_as_they_are_written() {
        for (line, expected) in [
            ("From a@b Fri Jan  1 00:00:00 1971\n", 31_536_000),
            ("From a@b Mon Feb 28 23:59:59 2000\n", 951_782_399),
            ("From a@b Tue Feb 29 00:00:00 2000\n", 951_782_400),
            ("From a@b Wed Mar  1 00:00:00 2000\n", 951_868_800),
            ("From a@b Sun Dec 31 23:59:59 2023\n", 1_704_067_199),
            ("From a@b Mon Jan 01 00:00:00 2024", 1_704_067_200),
            ("From a@b Mon Jan  1 00:00 2024\r\n", 1_704_067_200),
            ("From a@b  Mon Jan  1 00:00:00 MST 2024\n", 1_704_067_200),
            ("From a@b Mon Jan  1 00:00:00 2024 +0100\n", 1_704_067_200),
            (
                "From a@b Mon Jan  1 00:00:00 2024 remote from c\n",
                1_704_067_200,
            ),
            (
                "From May 1 10:00:00 2001 Mon Jan  1 00:00:00 2024\n",
                1_704_067_200,
            ),
            ("rg Mon Jan  1 00:00:00 2024\n", 1_704_067_200),
        ] {
            assert_eq!(seconds(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let lengths = |leap| [31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut expected = 0;
        for year in 1970..2500_u64 {
            let leap = u64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
            for (month, length) in (0..).zip(lengths(leap)) {
                for day in 1..=length {
                    assert_eq!(days_since_1970(year, month, day), expected);
                    expected += 1;
                }
            }
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for line in [
            "",
            "From ",
            "From a@b",
            "From a@b Mon Jan",
            "From a@b Mon Jan  1 00:00:00",
            "From a@b Mon Jan  1 00:00:00 24",
            "From a@b Wed Dec 31 23:59:59 1969",
            "From a@b Thu Jan  1 00:00:00 1970",
            "From a@b Mon Jan  0 00:00:00 2024",
            "From a@b Mon Jan 32 00:00:00 2024",
            "From a@b Mon Jan  1 24:00:00 2024",
            "From a@b Mon Jan  1 00:60:00 2024",
            "From a@b Mon Jan  1 00:00:61 2024",
            "From a@b Mon Jan  1 00:00:00:00 2024",
            "From a@b Mon Jan  1 00 2024",
            "From a@b Mon jan  1 00:00:00 2024",
            "From a@b Mon Jan  1 00:00:00 x y 2024",
            "From a@b Mon Jan  1 00:00:00 +024",
            "From a@b Mon Jan  99999999999999999999999 00:00:00 2024",
        ] {
            assert_eq!(latest(line.as_bytes()), None, "{line}");
        }
    }
}
