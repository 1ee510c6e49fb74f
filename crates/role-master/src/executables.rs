//! The files that roles are started from.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use confine::process;
use messages::role::Role;
use rustix::fs::{CWD, Mode, OFlags, openat};

/// The installed `popa3d-roles` of this build, as `packaging/install` has it compiled in; `None`: all roles are in the
/// program's own file. Its name has the version in it, so that no other's is started while an upgrade is half done.
const ROLES: Option<&str> = option_env!("POPA3D_ROLES");

// Any other would be looked for in the directory that the master happens to be started in, by root.
const _: () = assert!(
    match ROLES {
        Some(path) => matches!(path.as_bytes(), [b'/', ..]),
        None => true,
    },
    "POPA3D_ROLES is not an absolute path"
);

/// The executables, open, so that roles of the same build are started when the files on disk have been replaced.
#[derive(Debug)]
pub struct Executables {
    own: OwnedFd,
    roles: Option<OwnedFd>,
}

impl Executables {
    /// Opens them.
    ///
    /// # Errors
    /// One sentence: `/proc` is not mounted, or `popa3d-roles` is not where it was to be installed.
    pub fn open() -> Result<Self, String> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let open = |path: &str| {
            openat(CWD, path, flags, Mode::empty()).map_err(|error| format!("{path}: {error}"))
        };
        Ok(Self {
            own: process::own_executable().map_err(|error| error.to_string())?,
            roles: ROLES.map(open).transpose()?,
        })
    }

    /// The one that has this role.
    pub fn of(&self, role: Role) -> BorrowedFd<'_> {
        let roles = self.roles.as_ref().filter(|_| !role.loads_libraries());
        roles.unwrap_or(&self.own).as_fd()
    }
}
