//! Fuzz targets: plain functions that take any octets, and panic only where something promised does not hold.
//!
//! Each is run in two ways: on a stable toolchain by the generator here, which puts input together from the target's own
//! pieces (`cargo test -p fuzzing`, and `fuzz TARGET SECONDS`), and by libFuzzer, guided by coverage (`fuzz/run`).
//! `docs/fuzzing.md` says what was run.
#![forbid(unsafe_code)]

mod generator;
mod runner;
mod targets;

pub use runner::{Bound, Failure, Outcome, run};
pub use targets::{TARGETS, Target, target};
