//! Waiting without sleeping blindly: a condition is looked at again and again until a deadline.

use std::time::{Duration, Instant};

/// Long enough for a two-core machine that has other things to do, and for a line that the server reads at 64 KiB a second; short
/// enough that a hang is noticed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks; the only pause in these tests, and never a substitute for a condition.
const GLANCE: Duration = Duration::from_millis(2);

/// Returns what `look` finds, looking until it finds something.
///
/// # Panics
/// After [`PATIENCE`], naming what was awaited.
pub fn until<T>(awaited: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, awaited, look)
}

/// As [`until`], with a patience of the caller's.
///
/// # Panics
/// After `patience`, naming what was awaited.
pub fn within<T>(patience: Duration, awaited: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < end,
            "waited {patience:?} in vain for {awaited}"
        );
        std::thread::sleep(GLANCE);
    }
}
