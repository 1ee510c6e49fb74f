//! The sum over mail, by which a replay knows that it has the octets before it that the update had.
//!
//! XXH3 with 128 bits: all mail behind the first deleted message is summed up twice, and that has to take less time than
//! moving it. It is no cryptographic sum and need not be: it is keyed, the key is not known to who sends mail, and whoever
//! can write the journal could write the mailbox.

use twox_hash::XxHash3_128;

/// A sum under way.
pub(super) struct Sum(XxHash3_128);

impl Sum {
    pub(super) fn new(key: u64) -> Self {
        Sum(XxHash3_128::with_seed(key))
    }

    pub(super) fn feed(&mut self, octets: &[u8]) {
        self.0.write(octets);
    }

    pub(super) fn finish(&self) -> u128 {
        self.0.finish_128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a journal that an earlier version has written too: these are XXH3's, as another implementation of it gave them.
    #[test]
    fn the_sum_is_the_same_in_every_version() {
        let of = |octets: &[u8]| {
            let mut sum = Sum::new(5);
            sum.feed(octets);
            sum.finish()
        };
        let long: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
        assert_eq!(of(b""), 0xd037_d24a_0847_dc76_b206_8296_fae7_9545);
        assert_eq!(of(b"From x\n"), 0x4bcb_bedf_4a88_f7c8_0e6d_0133_ff9b_365c);
        assert_eq!(of(&long), 0xe582_11e2_a63a_19d6_a20b_a292_8f50_bffc);
    }

    #[test]
    fn the_sum_depends_on_every_octet_and_on_the_key_and_not_on_the_cuts() {
        let of = |key, parts: &[&[u8]]| {
            let mut sum = Sum::new(key);
            parts.iter().for_each(|part| sum.feed(part));
            sum.finish()
        };
        let long = vec![b'x'; 10_000];
        let whole = of(1, &[&long]);
        assert_eq!(of(1, &[&long[..1], &[], &long[1..]]), whole);
        assert_ne!(of(2, &[&long]), whole);
        assert_ne!(of(1, &[&long[1..]]), whole);
        let mut other = long.clone();
        other[9_999] = b'y';
        assert_ne!(of(1, &[&other]), whole);
    }
}
