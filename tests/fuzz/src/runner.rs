//! Runs a target on generated input until a bound is reached.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::{Target, generator};

/// Inputs between two looks at the clock.
const STRIDE: u64 = 64;

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// After so many inputs.
    Inputs(u64),
    /// After so much time on the clock.
    Time(Duration),
}

impl Bound {
    /// `FUZZ_SECONDS` of the environment, or as many inputs as a test may take a moment for.
    pub fn from_environment() -> Bound {
        const INPUTS: u64 = 4096;
        std::env::var("FUZZ_SECONDS")
            .ok()
            .and_then(|seconds| seconds.parse().ok())
            .map_or(Bound::Inputs(INPUTS), |seconds| {
                Bound::Time(Duration::from_secs(seconds))
            })
    }
}

/// What was run.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Inputs.
    pub inputs: u64,
    /// On the clock.
    pub time: Duration,
    /// Of this thread's processor time.
    pub processor: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} inputs in {:.1} s ({:.1} s of processor time)",
            self.inputs,
            self.time.as_secs_f64(),
            self.processor.as_secs_f64()
        )
    }
}

/// An input that the target panicked on; the panic's message has gone to standard error.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Makes the same input again.
    pub seed: u64,
    /// The input.
    pub input: Vec<u8>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.input.escape_ascii())
    }
}

/// Runs `target` on the inputs of `first_seed` and the seeds that follow.
///
/// # Errors
/// The first [`Failure`].
pub fn run(target: &Target, bound: Bound, first_seed: u64) -> Result<Outcome, Failure> {
    let pieces = (target.pieces)();
    let (start, processor) = (Instant::now(), processor_time());
    let mut inputs = 0;
    while !is_reached(bound, inputs, start) {
        let seed = first_seed.wrapping_add(inputs);
        let input = generator::input(target, &pieces, seed);
        panic::catch_unwind(AssertUnwindSafe(|| (target.run)(&input)))
            .map_err(|_| Failure { seed, input })?;
        inputs += 1;
    }
    Ok(Outcome {
        inputs,
        time: start.elapsed(),
        processor: processor_time().saturating_sub(processor),
    })
}

fn is_reached(bound: Bound, inputs: u64, start: Instant) -> bool {
    match bound {
        Bound::Inputs(wanted) => inputs >= wanted,
        Bound::Time(time) => inputs.is_multiple_of(STRIDE) && start.elapsed() >= time,
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_is_reported_with_what_makes_it_again() {
        fn promise(data: &[u8]) {
            assert!(!data.ends_with(b"needle"), "a needle");
        }
        let target = Target {
            name: "needle",
            run: promise,
            pieces: || vec![b"needle".to_vec(), b"hay".to_vec()],
            max_octets: 64,
        };
        let failure = run(&target, Bound::Inputs(1000), 1).unwrap_err();
        assert!(failure.input.ends_with(b"needle"));
        let again = run(&target, Bound::Inputs(1), failure.seed).unwrap_err();
        assert_eq!(again.input, failure.input);
    }
}
