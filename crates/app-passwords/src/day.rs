//! Days in the calendar, without a time or a zone.

use std::fmt;
use std::time::SystemTime;

const SECONDS_OF_A_DAY: u64 = 24 * 60 * 60;

/// Days of 400 years: the calendar repeats itself.
const DAYS_OF_AN_ERA: u64 = 146_097;

/// Days from 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_1970: u32 = 719_468;

/// The last year that can be written.
const MAX_YEAR: u32 = 9999;

/// A day, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub u32);

impl Day {
    /// The day of a moment, in UTC.
    pub fn of(time: SystemTime) -> Self {
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let days = since
            .as_secs()
            .checked_div(SECONDS_OF_A_DAY)
            .unwrap_or_default();
        Self(u32::try_from(days).unwrap_or(u32::MAX))
    }

    /// Parses `2027-01-31`; `None` for what is no day, or one before 1970.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut next = |digits: usize| {
            let part = parts.next()?;
            let is_number =
                part.len() == digits && part.bytes().all(|octet| octet.is_ascii_digit());
            is_number.then(|| part.parse::<u32>().ok()).flatten()
        };
        let (year, month, day) = (next(4)?, next(2)?, next(2)?);
        if parts.next().is_some() || !(1..=12).contains(&month) {
            return None;
        }
        // The year begins in March, so that the odd day is its last (Howard Hinnant, `days_from_civil`).
        let (year, month) = if month > 2 {
            (year, month.checked_sub(3)?)
        } else {
            (year.checked_sub(1)?, month.checked_add(9)?)
        };
        let era = year.checked_div(400)?;
        let of_era = year.checked_rem(400)?;
        let of_year = month
            .checked_mul(153)?
            .checked_add(2)?
            .checked_div(5)?
            .checked_add(day)?
            .checked_sub(1)?;
        let days = era
            .checked_mul(u32::try_from(DAYS_OF_AN_ERA).ok()?)?
            .checked_add(of_era.checked_mul(365)?)?
            .checked_add(of_era.checked_div(4)?)?
            .checked_sub(of_era.checked_div(100)?)?
            .checked_add(of_year)?
            .checked_sub(DAYS_BEFORE_1970)?;
        // What is no day of its month is another one when it is written.
        let found = Self(days);
        (found.to_string() == text).then_some(found)
    }

    /// The day so many days later, if it can still be written.
    pub fn after(self, days: u32) -> Option<Self> {
        let later = Self(self.0.checked_add(days)?);
        (later.civil().0 <= MAX_YEAR).then_some(later)
    }

    /// Year, month and day of the month (Howard Hinnant, `civil_from_days`).
    fn civil(self) -> (u32, u32, u32) {
        let days = u64::from(self.0).saturating_add(DAYS_BEFORE_1970.into());
        let era = days / DAYS_OF_AN_ERA;
        let of_era = days % DAYS_OF_AN_ERA;
        let year_of_era = of_era
            .saturating_sub(of_era / 1460)
            .saturating_add(of_era / 36_524)
            .saturating_sub(of_era / 146_096)
            / 365;
        let of_year = of_era.saturating_sub(
            year_of_era
                .saturating_mul(365)
                .saturating_add(year_of_era / 4)
                .saturating_sub(year_of_era / 100),
        );
        let month = of_year.saturating_mul(5).saturating_add(2) / 153;
        let day = of_year
            .saturating_sub(month.saturating_mul(153).saturating_add(2) / 5)
            .saturating_add(1);
        let (after, month) = if month < 10 {
            (0, month.saturating_add(3))
        } else {
            (1, month.saturating_sub(9))
        };
        let year = era
            .saturating_mul(400)
            .saturating_add(year_of_era)
            .saturating_add(after);
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        (narrow(year), narrow(month), narrow(day))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn known_days_are_read_and_written() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("1970-12-31", 364),
            ("2000-02-29", 11_016),
            ("2000-03-01", 11_017),
            ("2026-11-28", 20_785),
            ("2100-03-01", 47_541),
            ("9999-12-31", 2_932_896),
        ] {
            assert_eq!(Day::parse(text), Some(Day(days)), "{text}");
            assert_eq!(Day(days).to_string(), text);
        }
    }

    #[test]
    fn each_day_is_the_one_after_the_day_before() {
        for days in 0..150_000 {
            assert_eq!(Day::parse(&Day(days).to_string()), Some(Day(days)));
        }
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in [
            "",
            "2027",
            "2027-1-31",
            "2027-13-01",
            "2027-00-01",
            "2027-01-00",
            "2027-01-32",
            "2027-02-29",
            "2100-02-29",
            "1969-12-31",
            "0000-01-01",
            "2027-01-31T00",
            "2027-01-31-",
            "+027-01-31",
        ] {
            assert_eq!(Day::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_day_ends_at_midnight_in_utc() {
        let at = |seconds| Day::of(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(SECONDS_OF_A_DAY - 1), Day(0));
        assert_eq!(at(SECONDS_OF_A_DAY), Day(1));
        assert_eq!(Day(u32::MAX).after(1), None);
        assert_eq!(Day(7).after(30), Some(Day(37)));
    }
}
