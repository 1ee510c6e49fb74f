//! Points tried, and what came of them.

use std::fmt;
use std::ops::AddAssign;

/// Sums over points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Tried.
    pub points: u64,
    /// Where something really went wrong at the wanted call.
    pub hit: u64,
    /// Where the program went on and reported success all the same.
    pub reported: u64,
    /// Where the messages were deleted in the end.
    pub deleted: u64,
    /// Where the second run, too, was interrupted.
    pub twice: u64,
    /// Where the mailbox or the journal was not in order.
    pub bad: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.points += other.points;
        self.hit += other.hit;
        self.reported += other.reported;
        self.deleted += other.deleted;
        self.twice += other.twice;
        self.bad += other.bad;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} points, {} bad; {} interrupted, {} of them twice; {} reported done; deleted in {}",
            self.points, self.bad, self.hit, self.twice, self.reported, self.deleted
        )
    }
}
