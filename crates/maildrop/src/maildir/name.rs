//! File names of a Maildir, kept by the million: all octets in one arena, a few octets a name beside it.

use memchr::memchr;

/// One of the two directories that hold mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folder {
    New,
    Cur,
}

/// A name in an [`Arena`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    at: u32,
    /// Of the file that had the name when it was listed.
    pub(super) inode: Inode,
    length: u8,
    pub(super) folder: Folder,
}

/// A file's number, half as long: with the name it tells whether it is the file that it was, and neither does alone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Inode(u32);

/// The octets of file names.
#[derive(Debug, Default)]
pub(super) struct Arena {
    octets: Vec<u8>,
}

impl Name {
    pub(super) fn new(at: u32, inode: Inode, length: u8, folder: Folder) -> Self {
        Name {
            at,
            inode,
            length,
            folder,
        }
    }

    /// The same, of this file.
    pub(super) fn of(self, inode: Inode) -> Self {
        Name { inode, ..self }
    }
}

impl Inode {
    /// Of a directory entry.
    pub(super) fn new(number: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
        let halves = [[a, b, c, d], [e, f, g, h]].map(u32::from_le_bytes);
        Inode(halves.into_iter().fold(0, |all, half| all ^ half))
    }

    /// As an index keeps it.
    pub(super) fn to_bits(self) -> u32 {
        self.0
    }

    /// As an index has kept it.
    pub(super) fn from_bits(bits: u32) -> Self {
        Inode(bits)
    }

    /// False, too, where either is not known.
    pub(super) fn is(self, other: Inode) -> bool {
        self.0 != 0 && self.0 == other.0
    }
}

impl Arena {
    /// Takes names that were kept elsewhere.
    pub(super) fn from_octets(octets: Vec<u8>) -> Self {
        Arena { octets }
    }

    /// How many octets all names have.
    pub(super) fn octets(&self) -> usize {
        self.octets.len()
    }

    /// Keeps a name; `None` if it is longer than a file name can be (255 octets), or the arena is full (at 4 GiB).
    pub(super) fn store(&mut self, folder: Folder, name: &[u8]) -> Option<Name> {
        let at = u32::try_from(self.octets.len()).ok()?;
        let length = u8::try_from(name.len()).ok()?;
        self.octets.extend_from_slice(name);
        Some(Name::new(at, Inode::default(), length, folder))
    }

    pub(super) fn name(&self, name: Name) -> &[u8] {
        let start = name.at as usize;
        let end = start.saturating_add(usize::from(name.length));
        self.octets.get(start..end).unwrap_or_default()
    }

    pub(super) fn base(&self, name: Name) -> &[u8] {
        base(self.name(name))
    }

    /// Orders names as their messages were delivered; of the same second by name, so that the order is always the same.
    pub(super) fn sort_by_delivery(&self, names: &mut [Name]) {
        // The time is read off each name once, and not at each comparison: of most names it decides alone.
        let timed = names
            .iter()
            .map(|&name| (delivery_time(self.name(name)), name));
        let mut timed: Vec<(u64, Name)> = timed.collect();
        let rest = |name: Name| (self.base(name), self.name(name));
        timed.sort_unstable_by(|&(one, a), &(other, b)| {
            one.cmp(&other).then_with(|| rest(a).cmp(&rest(b)))
        });
        for (place, (_, name)) in names.iter_mut().zip(timed) {
            *place = name;
        }
    }
}

/// Where a message comes among others: by the second of its delivery, then by base.
pub(super) fn place(name: &[u8]) -> (u64, &[u8]) {
    (delivery_time(name), base(name))
}

/// What names the message: all before the first `:`, behind which the flags are.
pub(crate) fn base(name: &[u8]) -> &[u8] {
    memchr(b':', name)
        .and_then(|length| name.get(..length))
        .unwrap_or(name)
}

/// Seconds since 1970 that a name begins with; 0 if it begins with no number.
fn delivery_time(name: &[u8]) -> u64 {
    name.iter()
        .take_while(|octet| octet.is_ascii_digit())
        .fold(0, |seconds: u64, digit| {
            seconds
                .saturating_mul(10)
                .saturating_add(u64::from(digit.wrapping_sub(b'0')))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_in_order_of_delivery_whatever_their_flags() {
        let mut arena = Arena::default();
        let sorted = [
            "no-number",
            "9.b.host:2,S",
            "10.a.host:2,",
            "10.a.host:2,S",
            "10.a.host.x",
            "10.b.host",
            "100.a.host:2,FS",
            "99999999999999999999999999.x",
        ];
        let mut names: Vec<Name> = sorted
            .iter()
            .rev()
            .map(|name| arena.store(Folder::New, name.as_bytes()).unwrap())
            .collect();
        arena.sort_by_delivery(&mut names);
        let found: Vec<&[u8]> = names.iter().map(|&name| arena.name(name)).collect();
        assert_eq!(found, sorted.map(str::as_bytes));
    }

    #[test]
    fn the_base_ends_before_the_first_colon() {
        assert_eq!(base(b"1.x:2,S:T"), b"1.x");
        assert_eq!(base(b"1.x"), b"1.x");
        assert_eq!(base(b":2,S"), b"");
    }

    #[test]
    fn a_name_longer_than_names_are_is_not_kept() {
        assert!(Arena::default().store(Folder::Cur, &[b'x'; 256]).is_none());
    }
}
