//! For tests, by ptrace(2), in two ways.
//!
//! A running process is made to do a system call that it would never do itself: that shows what it is allowed by letting
//! itself try, as a take-over would. And a program is run with something going wrong at one of the calls by which it
//! changes files: that shows what it leaves behind.
//!
//! Besides, a file system is made to forget what a power cut would make it forget.
//!
//! Needs root, or a process of the same user that may be traced. x86_64 Linux.

pub mod disk;
pub mod faults;
mod injection;
mod sys;

pub use injection::{Outcome, Tracee};
