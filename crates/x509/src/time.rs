//! `Time` (RFC 5280 section 4.1.2.5), and seconds since 1970.

use crate::der::{self, GENERALIZED_TIME, UTC_TIME};

const DAY: u64 = 24 * 60 * 60;

/// `Time`, always in Greenwich and to the second (RFC 5280 section 4.1.2.5); as seconds since 1970.
pub(crate) fn read((tag, text): (u8, &[u8])) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: u64 = year.parse().ok()?;
            let century = if year >= 50 { 1900 } else { 2000 };
            (year.saturating_add(century), rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let mut parts = [0_u64; 5];
    let mut rest = rest;
    for part in &mut parts {
        let (digits, later) = rest.split_at_checked(2)?;
        *part = digits.parse().ok()?;
        rest = later;
    }
    let [
        month @ 1..=12,
        day @ 1..=31,
        hour @ 0..=23,
        minute @ 0..=59,
        second @ 0..=60,
    ] = parts
    else {
        return None;
    };
    if !rest.is_empty() {
        return None;
    }
    let days = days_before(year, month).saturating_add(day.saturating_sub(1));
    let hours = days.saturating_mul(24).saturating_add(hour);
    let minutes = hours.saturating_mul(60).saturating_add(minute);
    Some(minutes.saturating_mul(60).saturating_add(second))
}

/// Days from 1970 to the first of a month; 0 for years before.
fn days_before(year: u64, month: u64) -> u64 {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let years = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 });
    let months = (1..month).map(|month| match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    });
    years.chain(months).sum()
}

/// Appends seconds since 1970, two digits for the year while they suffice, as RFC 5280 has it; later than 9999 there is none.
pub(crate) fn write(seconds: u64, out: &mut Vec<u8>) {
    let (days, second) = (seconds / DAY, seconds % DAY);
    let years = (1970..=9999).take_while(|&year| days_before(year, 1) <= days);
    let year = years.last().unwrap_or(1970);
    let months = (1..=12).take_while(|&month| days_before(year, month) <= days);
    let month = months.last().unwrap_or(1);
    let day = days
        .saturating_sub(days_before(year, month))
        .saturating_add(1);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let rest = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    if year < 2050 {
        let text = format!("{:02}{rest}", year % 100);
        der::write(UTC_TIME, text.as_bytes(), out);
    } else {
        let text = format!("{year}{rest}");
        der::write(GENERALIZED_TIME, text.as_bytes(), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_time_are_read() {
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "000229120000Z", Some(951_825_600)),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (GENERALIZED_TIME, "19690101000000Z", Some(0)),
            (UTC_TIME, "7001010000Z", None),
            (UTC_TIME, "700101000000", None),
            (UTC_TIME, "701301000000Z", None),
            (UTC_TIME, "+00101000000Z", None),
            (GENERALIZED_TIME, "20500101000000.5Z", None),
            (0x0C, "700101000000Z", None),
        ] {
            assert_eq!(read((tag, text.as_bytes())), seconds, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let beside_new_year = [2_524_607_999, 2_524_608_000, 951_782_399, 951_782_400];
        // A step that meets every month, hour, minute and second.
        let steps = (0..4_000).map(|step| step * 1_111_111);
        for seconds in beside_new_year.into_iter().chain(steps) {
            let mut out = Vec::new();
            write(seconds, &mut out);
            let value = der::Reader::new(&out).next().unwrap();
            assert_eq!(read(value), Some(seconds), "{}", out.escape_ascii());
        }
    }
}
