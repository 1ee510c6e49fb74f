//! For tests: makes a running process do a system call that it would never do itself, with ptrace(2).
//!
//! It shows what a process is allowed by letting the process itself try, as a take-over would. Needs root, or a process
//! of the same user that may be traced. x86_64 Linux.

mod injection;
mod sys;

pub use injection::{Outcome, Tracee};
