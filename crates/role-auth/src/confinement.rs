//! What auth gives up: every identity but its own, every file but those that credentials come from, the network.
//!
//! No chroot: name services and PAM modules are libraries with configuration and sockets all over the system. Landlock keeps
//! auth, and with it the modules, to reading them.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use confine::ConfineError;
use confine::sandbox::{Confined, Landlock, Limits};
use messages::auth::{AuthConfig, Backend};
use messages::role::Confinement;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::sessions::MAX_SESSIONS_KNOWN;
use crate::syscalls;

/// Descriptors: two for each session that may be known, and some.
const MAX_OPEN_FILES: u64 = 2 * MAX_SESSIONS_KNOWN as u64 + 1024;

/// Where libraries and the programs that PAM modules run are.
const CODE: [&str; 8] = [
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/bin",
    "/sbin",
    "/nix/store",
];

/// Where stores, their configuration and the sockets of name services are.
const DATA: [&str; 6] = [
    "/etc",
    "/run",
    "/var/run",
    "/var/lib/sss",
    "/var/lib/extrausers",
    "/dev/urandom",
];

/// Confines this process, and tells what the kernel lacks.
///
/// # Errors
/// [`ConfineError`]; the process has to end.
pub fn enter(
    confinement: &Confinement,
    configuration: &AuthConfig,
) -> Result<(Confined, Vec<&'static str>), ConfineError> {
    raise_open_files();
    let pam = configuration.backends.contains(&Backend::Pam);
    let derives = configuration.derived_verifiers.is_some();
    let program = syscalls::auth(pam, derives).compile()?;
    let directories = directories_of(configuration);
    let mut files = Landlock::nothing();
    for code in &CODE {
        files = files.read_execute_named(Path::new(code));
    }
    for data in DATA
        .iter()
        .map(Path::new)
        .chain(directories.iter().map(PathBuf::as_path))
    {
        files = files.read_named(data);
    }
    let verifiers = configuration.derived_verifiers.as_ref();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // What is missing is complained of when the stores are looked at.
    let verifiers = verifiers.and_then(|path| openat(CWD, path, flags, Mode::empty()).ok());
    if let Some(verifiers) = &verifiers {
        files = files.lockfiles_in(verifiers.as_fd());
    }
    // Helpers get it as their output.
    let null = openat(
        CWD,
        c"/dev/null",
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok();
    if let Some(null) = &null {
        files = files.write_file(null.as_fd());
    }
    let sandbox = startup::sandbox(&program, confinement)
        .landlock(files)
        .limits(Limits {
            open_files: Some(MAX_OPEN_FILES),
            ..Limits::default()
        });
    let (confined, report) = sandbox.enter()?;
    Ok((confined, report.missing))
}

/// As many descriptors as the system lets us have without asking: two for each session.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // If it is refused, fewer sessions are served.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// The directories of the stores that are files. Not the files: a store is replaced by renaming another onto it.
fn directories_of(configuration: &AuthConfig) -> BTreeSet<PathBuf> {
    let files = [
        Some(&configuration.users_file),
        configuration.apop_secrets.as_ref(),
        configuration.app_passwords.as_ref(),
    ];
    let parents = files.into_iter().flatten().filter_map(|file| file.parent());
    let domains = configuration.address_domains.as_ref();
    let domains = domains.map(|domains| domains.home.as_path());
    parents
        .chain(domains)
        // Never everything, whatever is configured.
        .filter(|directory| directory.is_absolute() && directory.parent().is_some())
        .map(Path::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use messages::auth::AddressDomains;

    #[test]
    fn stores_are_reached_by_their_directories_and_never_by_the_root() {
        let configuration = AuthConfig {
            apop_secrets: Some("/secrets".into()),
            app_passwords: Some("/srv/apps/passwords".into()),
            address_domains: Some(AddressDomains {
                home: "/vhome".into(),
                auth: "auth".into(),
                spool: "mail".into(),
                only: false,
            }),
            ..crate::testing::configuration("/srv/mail/users".into())
        };
        let directories = directories_of(&configuration);
        let expected = ["/srv/apps", "/srv/mail", "/vhome"].map(PathBuf::from);
        assert_eq!(directories, BTreeSet::from(expected));
    }
}
