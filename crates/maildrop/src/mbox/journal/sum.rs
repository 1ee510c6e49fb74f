//! The sum over mail, by which a replay knows that it has the octets before it that the update had.
//!
//! XXH3 with 128 bits: all mail behind the first deleted message is summed up twice, and that has to take less time than
//! moving it. It is no cryptographic sum and need not be: it is keyed, the key is not known to who sends mail, and whoever
//! can write the journal could write the mailbox.

use xxhash_rust::xxh3::Xxh3;

/// A sum under way.
pub(super) struct Sum(Box<Xxh3>);

impl Sum {
    pub(super) fn new(key: u64) -> Self {
        Sum(Box::new(Xxh3::with_seed(key)))
    }

    pub(super) fn feed(&mut self, octets: &[u8]) {
        self.0.update(octets);
    }

    pub(super) fn finish(&self) -> u128 {
        self.0.digest128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
