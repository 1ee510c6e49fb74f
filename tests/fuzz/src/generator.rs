//! Input from pieces: most of random octets would not get past the first check of a parser.

use crate::Target;

/// Pieces in one input.
const MAX_PIECES: usize = 24;

/// Random octets between two pieces.
const MAX_NOISE: usize = 8;

/// The input that belongs to `seed`. Its first octet is random whatever the pieces are: some targets choose by it.
pub(crate) fn input(target: &Target, pieces: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut input = vec![random.u8(..)];
    for _ in 0..random.usize(..MAX_PIECES) {
        match random.choice(pieces).filter(|_| random.u8(..8) > 0) {
            Some(piece) => input.extend_from_slice(piece),
            None => noise(&mut random, &mut input),
        }
    }
    if random.u8(..4) == 0 {
        mutate(&mut random, &mut input);
    }
    input.truncate(target.max_octets);
    input
}

fn noise(random: &mut fastrand::Rng, input: &mut Vec<u8>) {
    let octets = random.usize(..MAX_NOISE);
    input.extend(std::iter::repeat_with(|| random.u8(..)).take(octets));
}

/// A few octets changed, removed, doubled; the end cut off.
fn mutate(random: &mut fastrand::Rng, input: &mut Vec<u8>) {
    for _ in 0..=random.usize(..3) {
        let Some(at) = (!input.is_empty()).then(|| random.usize(..input.len())) else {
            return;
        };
        match random.u8(..5) {
            0 => input[at] ^= 1 << random.u8(..8),
            1 => input[at] = random.u8(..),
            2 => drop(input.remove(at)),
            3 => input.insert(at, input[at]),
            _ => input.truncate(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TARGETS;

    #[test]
    fn one_seed_gives_one_input_and_seeds_differ() {
        for target in TARGETS {
            let pieces = (target.pieces)();
            assert_eq!(input(target, &pieces, 7), input(target, &pieces, 7));
            let all: std::collections::HashSet<_> =
                (0..64).map(|seed| input(target, &pieces, seed)).collect();
            assert!(all.len() > 32, "{}", target.name);
        }
    }
}
