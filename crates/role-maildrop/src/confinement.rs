//! How a maildrop process confines itself: to the files of its maildrop, and to nothing where there is none.

use confine::ConfineError;
use confine::sandbox::{Confined, Landlock, Limits, Report, Sandbox};
use confine::seccomp::Program;
use maildrop::{Access, Opened, Remains};
use messages::Rights;

/// Descriptors: the client's, log, locks, the maildrop's, and one message; at UPDATE, what is left of those that are removed.
const MAX_OPEN_FILES: u64 = 64 + Remains::MAX_DESCRIPTORS;

/// Enters confinement for good. `opened` is the maildrop, if there is one; it has been opened and not looked into.
///
/// # Errors
/// The process may be half confined and has to end.
pub fn confine(
    program: &Program,
    opened: Option<&Opened>,
    rights: Rights,
    required: bool,
) -> Result<(Confined, Report), ConfineError> {
    let descriptors = opened.map(Opened::descriptors).unwrap_or_default();
    let rules = descriptors
        .iter()
        .fold(Landlock::nothing(), |rules, descriptor| {
            match descriptor.access {
                // Used by its descriptor alone; no path leads to it any more.
                Access::Mailbox => rules,
                Access::Folder if !rights.allow_change() => rules.read(descriptor.fd),
                Access::Folder => rules.maildir(descriptor.fd),
                Access::LockDirectory => rules.lockfiles_in(descriptor.fd),
            }
        });
    Sandbox::new(program)
        .landlock(rules)
        .limits(Limits {
            open_files: Some(MAX_OPEN_FILES),
            processes: Some(0),
            ..Limits::default()
        })
        .required(required)
        .enter()
}
