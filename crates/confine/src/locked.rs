//! A secret that is never written to disk: not swapped out, not dumped, and not there in forked children.

use std::fmt;
use std::io;

use crate::sys;

/// Octets of a key.
pub const KEY_OCTETS: usize = 32;

/// A key in a page of its own, until the process ends. A forked child finds zeroes in its place.
pub struct LockedKey {
    page: &'static mut [u8],
    is_locked: bool,
}

impl LockedKey {
    /// Has `fill` make the key, in its place. Where the limit on locked memory does not allow a page, the key may be swapped out:
    /// [`is_locked`](Self::is_locked) tells.
    ///
    /// # Errors
    /// No memory, or `fill` has failed.
    pub fn new(fill: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<Self> {
        let page = sys::map_page()?;
        // Ahead of the secret. A kernel that lacks one of them (before 4.14) still has the others.
        let is_locked = sys::lock_page(page).is_ok();
        let is_private = sys::wipe_on_fork(page).is_ok();
        let _ = sys::leave_out_of_dumps(page);
        if let Some(key) = page.get_mut(..KEY_OCTETS) {
            fill(key)?;
        }
        let is_locked = is_locked && is_private;
        Ok(Self { page, is_locked })
    }

    /// The key.
    pub fn octets(&self) -> &[u8] {
        self.page.get(..KEY_OCTETS).unwrap_or_default()
    }

    /// Whether the kernel has promised all of it.
    pub fn is_locked(&self) -> bool {
        self.is_locked
    }
}

impl fmt::Debug for LockedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockedKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_it_was_filled_with_and_is_locked() {
        let key = LockedKey::new(|octets| {
            octets.fill(7);
            Ok(())
        });
        let key = key.unwrap();
        assert_eq!(key.octets(), [7; KEY_OCTETS]);
        assert!(key.is_locked());
        assert_eq!(format!("{key:?}"), "LockedKey(…)");
    }
}
