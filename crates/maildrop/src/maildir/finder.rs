//! Finding messages again that were renamed since they were listed.

use std::io;

use super::folders::Folders;
use super::name::{Arena, Folder, Name};

/// How often the directories are listed again in one scan, one UPDATE, one look for a message. Each listing finds all that
/// were renamed before it; the bound keeps a program that renames without end from holding us up.
const MAX_LISTINGS: u32 = 16;

/// Finds messages by the base of their names.
#[derive(Debug)]
pub(super) struct Finder {
    /// A later listing, sorted by base; kept, because one who renames a message often renames them all.
    listing: Option<(Arena, Vec<Name>)>,
    listings_left: u32,
}

impl Finder {
    pub(super) fn new() -> Self {
        Finder {
            listing: None,
            listings_left: MAX_LISTINGS,
        }
    }

    /// Allows the full number of listings again.
    pub(super) fn renew(&mut self) {
        self.listings_left = MAX_LISTINGS;
    }

    /// Tries each name that `base` has now until `attempt` makes something of one; `None` if the message is gone.
    ///
    /// Gone is what a listing made later does not have.
    pub(super) fn find<T>(
        &mut self,
        folders: &Folders,
        base: &[u8],
        mut attempt: impl FnMut(Folder, &[u8]) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        loop {
            if let Some((arena, names)) = &self.listing {
                let before = names.partition_point(|&name| arena.base(name) < base);
                let mut same = names
                    .iter()
                    .skip(before)
                    .take_while(|&&name| arena.base(name) == base)
                    .peekable();
                if same.peek().is_none() {
                    return Ok(None);
                }
                for &name in same {
                    if let Some(found) = attempt(name.folder, arena.name(name))? {
                        return Ok(Some(found));
                    }
                }
            }
            if self.listings_left == 0 {
                return Err(io::Error::other("another program keeps renaming messages"));
            }
            self.listings_left = self.listings_left.saturating_sub(1);
            let (arena, mut names) = folders.list(u32::MAX)?;
            names.sort_unstable_by(|&one, &other| arena.base(one).cmp(arena.base(other)));
            self.listing = Some((arena, names));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_always_elsewhere_is_given_up_and_not_called_gone() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("1.a:2,S"), "").unwrap();
        let open = || std::fs::File::open(directory.path()).unwrap().into();
        let folders = Folders::new(open(), open());
        let mut finder = Finder::new();
        let mut attempts = 0;
        let result: io::Result<Option<()>> = finder.find(&folders, b"1.a", |_, _| {
            attempts += 1;
            Ok(None)
        });
        assert!(result.is_err());
        assert_eq!(attempts, 2 * MAX_LISTINGS);
        finder.renew();
        assert!(
            finder
                .find(&folders, b"1.b", |_, _| Ok(Some(())))
                .unwrap()
                .is_none()
        );
    }
}
