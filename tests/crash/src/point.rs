//! One point: interrupted, delivered to, interrupted again, and judged.

use std::io;

use tracer::faults::Fault;

use crate::shapes::{Shape, message};
use crate::{Count, Place};
use system_tests::random::Random;

/// Sizes of batches: less than a block, a block, some blocks, and all at once.
pub const BATCHES: [u64; 4] = [700, 4096, 64 * 1024, 8 * 1024 * 1024];

/// The ways to go wrong.
pub const FAULTS: [Fault; 10] = [
    Fault::Before,
    Fault::After,
    Fault::Torn,
    Fault::Short,
    Fault::Once(libc::ENOSPC),
    Fault::Once(libc::EIO),
    Fault::Once(libc::EDQUOT),
    Fault::Lasting(libc::ENOSPC),
    Fault::Lasting(libc::EIO),
    Fault::Lasting(libc::EDQUOT),
];

/// Octets of what is delivered after an interruption.
const DELIVERIES: [usize; 5] = [0, 100, 400, 9_000, 90_000];

/// The second interruption is at one of so many calls.
const CALLS_OF_REPLAY: usize = 14;

/// A point.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    /// The mailbox, and what is deleted.
    pub shape: &'a Shape,
    /// The call, from 1.
    pub call: usize,
    /// What goes wrong there.
    pub fault: Fault,
    /// Chooses what is delivered, and what goes wrong next.
    pub seed: u64,
}

impl Point<'_> {
    /// Tries it. What is found wrong comes with the count.
    ///
    /// # Errors
    /// The trial itself failed.
    pub fn try_at(&self, place: &Place) -> io::Result<(Count, Option<String>)> {
        self.try_with(place, || Ok(()))
    }

    /// The same with something besides, done right after the interruption: a power cut.
    ///
    /// # Errors
    /// The trial itself failed.
    pub fn try_with(
        &self,
        place: &Place,
        mut besides: impl FnMut() -> io::Result<()>,
    ) -> io::Result<(Count, Option<String>)> {
        let mut random = Random::new(self.seed ^ self.call as u64);
        place.reset(&self.shape.messages.concat())?;
        let first = place.update(self.shape, Some((self.call, self.fault)))?;
        // Killed before the early mail came, if there is any.
        let too_early = std::fs::read(place.mailbox())? == self.shape.messages.concat();
        besides()?;
        let mut delivered = Vec::new();
        let mut deliver = |random: &mut Random| {
            let mail = match DELIVERIES[random.below(DELIVERIES.len())] {
                0 => Vec::new(),
                octets => message(&format!("late{}", random.bits()), octets),
            };
            delivered.extend_from_slice(&mail);
            place.deliver(&mail)
        };
        deliver(&mut random)?;
        let call = 1 + random.below(CALLS_OF_REPLAY);
        let second = place.open(Some((call, FAULTS[random.below(FAULTS.len())])))?;
        besides()?;
        deliver(&mut random)?;
        let last = place.open(None)?;

        let found = std::fs::read(place.mailbox())?;
        let left = [self.shape.after(), delivered.clone()].concat();
        let deleted = found == left;
        let before = match too_early {
            true => self.shape.messages.concat(),
            false => self.shape.before(),
        };
        let untouched = [before, delivered].concat();
        let complaint = if !last.done {
            Some(format!("it does not open: {}", last.said))
        } else if first.done && !deleted {
            Some("reported done, and is not".to_owned())
        } else if !deleted && found != untouched {
            Some(format!("{} octets that it should not be", found.len()))
        } else {
            place.complaint()?
        };
        let count = Count {
            points: 1,
            hit: first.run.hit.into(),
            reported: first.done.into(),
            deleted: deleted.into(),
            twice: second.run.hit.into(),
            bad: complaint.is_some().into(),
        };
        Ok((count, complaint))
    }
}
