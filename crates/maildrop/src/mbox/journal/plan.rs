//! What an update keeps: the extents of the mailbox behind the first deleted message, and their octets as one stream.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::slot::Job;

/// Octets of one extent in the journal: where it begins and how long it is.
pub(super) const EXTENT_OCTETS: u64 = 16;

/// The kept extents in file order, not empty, not overlapping, none before the target, and one that stays at the target
/// alone: only [`Plan::new`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    extents: Vec<Range<u64>>,
    total: u64,
}

impl Plan {
    /// The plan that keeps `extents` of a mailbox of `size` octets whose first deleted octet is at `target`; `None` if
    /// they are not as described at [`Plan`].
    pub(super) fn new(extents: Vec<Range<u64>>, target: u64, size: u64) -> Option<Self> {
        // An extent at the target itself stays where it is; there is no other one then.
        let stays = matches!(&extents[..], [extent] if extent.start == target);
        let mut end = if stays {
            target
        } else {
            target.checked_add(1)?
        };
        let mut total = 0_u64;
        for extent in &extents {
            if extent.start < end || extent.is_empty() || extent.end > size {
                return None;
            }
            end = extent.end;
            total = total.checked_add(extent.end.checked_sub(extent.start)?)?;
        }
        (!extents.is_empty()).then_some(Plan { extents, total })
    }

    /// Octets of the stream.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Octets between where the stream begins and where it belongs.
    pub(super) fn gap(&self, target: u64) -> u64 {
        let first = self.extents.first().map_or(target, |extent| extent.start);
        first.saturating_sub(target)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let numbers = |extent: &Range<u64>| [extent.start, extent.end.saturating_sub(extent.start)];
        self.extents
            .iter()
            .flat_map(numbers)
            .flat_map(u64::to_le_bytes)
            .collect()
    }

    /// The plan of `job`; `None` if these are not the octets that the job was recorded with.
    pub(super) fn parse(octets: &[u8], job: &Job) -> Option<Self> {
        if octets.len() as u64 != job.plan_octets
            || <[u8; 32]>::from(Sha256::digest(octets)) != job.plan_sum
        {
            return None;
        }
        let (numbers, _) = octets.as_chunks::<8>();
        let (pairs, _) = numbers.as_chunks::<2>();
        let extents = pairs
            .iter()
            .map(|pair| {
                let [start, length] = pair.map(u64::from_le_bytes);
                Some(start..start.checked_add(length)?)
            })
            .collect::<Option<Vec<_>>>()?;
        Plan::new(extents, job.target, job.size).filter(|plan| plan.total == job.total)
    }

    /// The stream from its beginning.
    pub(super) fn stream(&self) -> Stream<'_> {
        Stream {
            extents: &self.extents,
            within: 0,
            position: 0,
        }
    }

    /// The stream from `position` on.
    pub(super) fn stream_from(&self, position: u64) -> Stream<'_> {
        let mut stream = self.stream();
        while stream.position < position && stream.take(position).is_some() {}
        stream
    }
}

/// A place in the stream.
#[derive(Clone, Debug)]
pub(super) struct Stream<'a> {
    /// From the current extent on.
    extents: &'a [Range<u64>],
    /// Octets of the current extent that are behind us.
    within: u64,
    position: u64,
}

impl Stream<'_> {
    /// Octets of the stream that are behind us.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Where in the mailbox the next octet is; `None` at the end.
    pub(super) fn source(&self) -> Option<u64> {
        Some(self.extents.first()?.start.saturating_add(self.within))
    }

    /// Goes on, at most up to stream octet `limit`, and returns where in the mailbox these octets are; `None` there and
    /// at the end.
    pub(super) fn take(&mut self, limit: u64) -> Option<Range<u64>> {
        let (extent, rest) = self.extents.split_first()?;
        let start = extent.start.saturating_add(self.within);
        let wanted = limit.saturating_sub(self.position);
        let length = extent.end.saturating_sub(start).min(wanted);
        if length == 0 {
            return None;
        }
        let end = start.saturating_add(length);
        self.position = self.position.saturating_add(length);
        if end == extent.end {
            (self.extents, self.within) = (rest, 0);
        } else {
            self.within = self.within.saturating_add(length);
        }
        Some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::super::slot::tests::job;
    use super::*;

    fn plan() -> Plan {
        Plan::new(vec![200..300, 300..301, 500..999], 100, 1000).unwrap()
    }

    fn job_of(plan: &Plan) -> Job {
        let octets = plan.encode();
        Job {
            total: plan.total(),
            plan_octets: octets.len() as u64,
            plan_sum: Sha256::digest(octets).into(),
            ..job()
        }
    }

    #[test]
    fn a_plan_is_what_was_written() {
        let plan = plan();
        assert_eq!(plan.total(), 600);
        let job = job_of(&plan);
        assert_eq!(Plan::parse(&plan.encode(), &job), Some(plan.clone()));
        let mut octets = plan.encode();
        octets[3] ^= 1;
        assert_eq!(Plan::parse(&octets, &job), None);
        assert_eq!(Plan::parse(&[], &job), None);
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init)]
    fn an_extent_may_stay_where_it_is() {
        let plan = Plan::new(vec![100..200], 100, 1000).unwrap();
        let mut stream = plan.stream();
        assert_eq!(stream.source(), Some(100));
        assert_eq!(stream.take(u64::MAX), Some(100..200));
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init)]
    fn a_plan_that_does_not_fit_the_mailbox_is_none() {
        let plans: [&[Range<u64>]; 8] = [
            &[],
            &[99..200],
            &[100..200, 300..400],
            &[50..60],
            &[200..200],
            &[200..300, 299..400],
            &[500..600, 200..300],
            &[200..1001],
        ];
        for extents in plans {
            assert_eq!(Plan::new(extents.to_vec(), 100, 1000), None, "{extents:?}");
        }
        let other_total = Job {
            total: 599,
            ..job_of(&plan())
        };
        assert_eq!(Plan::parse(&plan().encode(), &other_total), None);
    }

    #[test]
    fn the_stream_is_the_kept_octets_in_order_wherever_it_is_cut() {
        let plan = plan();
        let kept: Vec<u64> = plan.extents.iter().cloned().flatten().collect();
        for step in [1, 7, 100, 101, 600, 10_000] {
            let (mut stream, mut taken) = (plan.stream(), Vec::new());
            let mut limit = 0;
            while stream.source().is_some() {
                limit += step;
                while let Some(piece) = stream.take(limit) {
                    assert_eq!(piece.start, kept[taken.len()]);
                    taken.extend(piece);
                    assert_eq!(stream.position(), taken.len() as u64);
                }
            }
            assert_eq!(taken, kept, "in steps of {step}");
        }
        for position in 0..600 {
            let stream = plan.stream_from(position);
            assert_eq!(stream.position(), position);
            assert_eq!(stream.source(), Some(kept[position as usize]));
        }
        assert_eq!(plan.stream_from(600).source(), None);
    }
}
