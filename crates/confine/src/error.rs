//! Why a process could not be confined.

use std::fmt;
use std::io;

/// Why a process could not be confined. There is one thing to do about it: report it and end the
/// process, as it may be confined in part.
#[derive(Debug)]
pub enum ConfineError {
    /// The process has threads: privileges belong to threads, and those of the others would stay.
    Threads,
    /// A system call failed.
    Call {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// All calls succeeded, but what they should have brought about is not so.
    NotInForce(&'static str),
    /// The kernel lacks protections, and all are required.
    Missing(Vec<&'static str>),
}

impl ConfineError {
    /// For `map_err`: a failed call of this step.
    pub(crate) fn in_step<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Call {
            step,
            error: error.into(),
        }
    }
}

impl fmt::Display for ConfineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads => f.write_str("cannot confine a process that has threads"),
            Self::Call { step, error } => write!(f, "{step}: {error}"),
            Self::NotInForce(what) => write!(f, "not in force although set: {what}"),
            Self::Missing(what) => write!(f, "required, but missing: {}", what.join("; ")),
        }
    }
}

impl std::error::Error for ConfineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Call { error, .. } => Some(error),
            _ => None,
        }
    }
}
