//! The checksum of an index: fast, resumable, and certain to notice any one damaged word.
//!
//! It can be written down and gone on from, as sums of libraries cannot, so that a row is added to an index without
//! reading the others. It guards against accidents, such as a write that a power cut tore, and not against forgers: whoever could write a
//! forged index could as well compute a good checksum for it, whatever the checksum.

/// Octets are summed by rows of six words of 64 bits, each word in a lane of its own; one record of an index is a row.
pub(crate) type Row = [u64; LANES];

/// Words in a row.
const LANES: usize = 6;

/// Octets in a row.
pub(crate) const ROW: usize = LANES * size_of::<u64>();

/// Odd, so that multiplying by it loses nothing: 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The sum of the rows so far.
///
/// Every step maps a lane one to one, for a fixed word as well as for a fixed state: rows that differ in one word of a
/// lane always differ in that lane. Lanes that differ in more agree by chance once in 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checksum(Row);

impl Checksum {
    /// The sum of no rows, which is not zero: a file of NULs has no valid checksum.
    pub(crate) fn new() -> Self {
        Checksum([1, 2, 3, 4, 5, 6].map(|lane| FACTOR.wrapping_mul(lane)))
    }

    /// Goes on from a sum that was written down.
    pub(crate) fn resume(lanes: Row) -> Self {
        Checksum(lanes)
    }

    /// What to write down.
    pub(crate) fn lanes(self) -> Row {
        self.0
    }

    /// Adds a row.
    #[inline]
    pub(crate) fn add(&mut self, row: &Row) {
        for (lane, word) in self.0.iter_mut().zip(row) {
            *lane = (*lane ^ word).wrapping_mul(FACTOR).rotate_left(29);
        }
    }

    /// One word for all lanes; it differs if one lane does.
    pub(crate) fn fold(self) -> u64 {
        self.0.iter().fold(0, |word: u64, lane| {
            (word.rotate_left(23) ^ lane).wrapping_mul(FACTOR)
        })
    }

    /// The sum of octets of any number, which is part of it.
    pub(crate) fn of(octets: &[u8]) -> u64 {
        let mut sum = Checksum::new();
        let (rows, rest) = octets.as_chunks::<ROW>();
        for row in rows {
            sum.add(&words(row));
        }
        let mut last = [0; ROW];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        sum.add(&words(&last));
        sum.add(&[octets.len() as u64; LANES]);
        sum.fold()
    }
}

/// The words of a row of octets, least significant octet first.
#[inline]
pub(crate) fn words(row: &[u8; ROW]) -> Row {
    let (words, _) = row.as_chunks::<8>();
    let mut of = words.iter().map(|word| u64::from_le_bytes(*word));
    std::array::from_fn(|_| of.next().unwrap_or(0))
}

/// The octets of a row of words.
#[inline]
pub(crate) fn octets(row: &Row) -> [u8; ROW] {
    let mut octets = [0; ROW];
    for (to, word) in octets.as_chunks_mut::<8>().0.iter_mut().zip(row) {
        *to = word.to_le_bytes();
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_one_changed_octet_and_any_cut_show() {
        let text: Vec<u8> = (0..200_u8).collect();
        let sum = Checksum::of(&text);
        for at in 0..text.len() {
            assert_ne!(Checksum::of(&text[..at]), sum);
            for change in 1..=255 {
                let mut changed = text.clone();
                changed[at] ^= change;
                assert_ne!(Checksum::of(&changed), sum);
            }
        }
    }

    #[test]
    fn the_order_of_rows_counts_and_zeros_do() {
        let sum = |rows: &[Row]| {
            let mut sum = Checksum::new();
            rows.iter().for_each(|row| sum.add(row));
            sum
        };
        assert_ne!(sum(&[[1; 6], [2; 6]]), sum(&[[2; 6], [1; 6]]));
        assert_ne!(sum(&[[0; 6]]), sum(&[]));
        assert_ne!(sum(&[[0; 6]]), sum(&[[0; 6], [0; 6]]));
        assert_ne!(Checksum::of(b""), Checksum::of(b"\0"));
        assert_ne!(sum(&[]).fold(), 0);
    }

    #[test]
    fn a_sum_goes_on_where_it_was_written_down() {
        let mut whole = Checksum::new();
        whole.add(&[7; 6]);
        let mut resumed = Checksum::resume(whole.lanes());
        whole.add(&[8; 6]);
        resumed.add(&[8; 6]);
        assert_eq!(resumed, whole);
    }

    #[test]
    fn rows_are_written_least_significant_octet_first() {
        let row = [1, 2, 3, 4, 5, u64::MAX - 1];
        assert_eq!(words(&octets(&row)), row);
        assert_eq!(octets(&row)[..9], [1, 0, 0, 0, 0, 0, 0, 0, 2]);
    }
}
