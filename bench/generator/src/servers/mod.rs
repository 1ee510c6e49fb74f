//! The servers, each with its configuration as an administrator would write it. What differs from what the package
//! ships is what has to: where the mail is, and limits that a load generator would run into.

mod courier;
mod dovecot;
mod mailutils;
mod memory;
mod ours;
mod popa3d;

use crate::Outcome;
use crate::mail::Format;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

pub use memory::serve as serve_from_memory;

/// The name under which the others are compared to ours.
pub const OURS: &str = "ours";

/// The name of ours with another back end.
pub const WITH_PAM: &str = "ours-pam";

/// The name of the other build of ours.
pub const OTHER: &str = "other";

/// The name of the server that only shows what the load generator can do.
pub const CEILING: &str = "ceiling";

/// A server that can be measured.
pub struct Server {
    /// Its name in the table and on the command line.
    pub name: &'static str,
    /// What it is, for the table's foot.
    pub about: &'static str,
    /// The directory below the packages' that holds it, if it is a rival.
    pub package: Option<&'static str>,
    /// The formats it can serve.
    pub formats: &'static [Format],
    /// It keeps all mail under one uid.
    pub one_owner: bool,
    /// The longest time for which it counts a session that has ended against a limit that cannot be configured.
    pub rest: Duration,
    /// Writes the configuration; returns the commands that start it, one after the other.
    pub configure: fn(&Site) -> Outcome<Vec<Vec<String>>>,
}

/// What a server is configured for.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Where the mail is.
    pub format: Format,
    /// Limits on sessions as they are by default, not raised.
    pub default_limits: bool,
}

const BOTH: &[Format] = &[Format::Mbox, Format::Maildir];

/// All servers, ours first.
pub static ALL: [&Server; 11] = [
    &ours::OURS,
    &ours::OTHER,
    &popa3d::SHADOW,
    &popa3d::DEBIAN,
    &dovecot::ONE_UID,
    &dovecot::UIDS,
    &dovecot::SHIPPED,
    &courier::COURIER,
    &mailutils::MAILUTILS,
    &ours::WITH_PAM,
    &memory::CEILING,
];

fn command(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn write(path: &str, text: &str) -> Outcome<()> {
    if let Some(directory) = Path::new(path).parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, text).map_err(|error| format!("{path}: {error}"))?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o644),
    )?)
}
