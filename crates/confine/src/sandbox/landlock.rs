//! Landlock rules: which files a role may still reach by name, and that it may not reach the
//! network nor other processes.
//!
//! What is opened already stays usable; that is how a confined role gets what it works on. Rules
//! are given by descriptors where somebody has looked at the thing before, so that no name is
//! looked up twice.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

use super::{Report, root_is_readable};
use crate::error::ConfineError;

/// Everything that is restricted, as of Linux 6.12: files, TCP, abstract unix sockets, signals.
/// What later versions add concerns logging and calls that no role may make.
const WANTED: ABI = ABI::V6;

/// What a role may reach. `nothing()` and exceptions to it.
#[derive(Debug)]
pub struct Landlock<'a> {
    rules: Vec<(Place<'a>, BitFlags<AccessFs>)>,
    ports: Vec<u16>,
    all_files: bool,
    tcp: bool,
    processes: bool,
}

#[derive(Debug)]
enum Place<'a> {
    Opened(BorrowedFd<'a>),
    Named(&'a Path),
}

impl<'a> Landlock<'a> {
    /// No file by name; no TCP connection made or awaited; no abstract unix socket of, and no
    /// signal to, a process that is not confined with this one.
    pub fn nothing() -> Self {
        Self {
            rules: Vec::new(),
            ports: Vec::new(),
            all_files: false,
            tcp: false,
            processes: false,
        }
    }

    /// Files as the file system says, and the rest as [`nothing`](Self::nothing): for a spawner,
    /// whose children are to reach what it cannot know. Children restrict themselves further.
    pub fn all_files() -> Self {
        Self {
            all_files: true,
            ..Self::nothing()
        }
    }

    /// May read this file, or list and read all below this directory (never `/`).
    #[must_use]
    pub fn read(self, place: BorrowedFd<'a>) -> Self {
        self.allow(Place::Opened(place), AccessFs::ReadFile | AccessFs::ReadDir)
    }

    /// As [`read`](Self::read), by name. A name that does not exist allows nothing.
    #[must_use]
    pub fn read_named(self, place: &'a Path) -> Self {
        self.allow(Place::Named(place), AccessFs::ReadFile | AccessFs::ReadDir)
    }

    /// May read and execute, by name: libraries that are loaded later, programs that PAM modules
    /// run.
    #[must_use]
    pub fn read_execute_named(self, place: &'a Path) -> Self {
        self.allow(
            Place::Named(place),
            AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute,
        )
    }

    /// May list and read all below this directory, and remove and move files there: a Maildir,
    /// where new mail moves to `cur` and deleted mail goes, and no octet is ever written.
    #[must_use]
    pub fn maildir(self, directory: BorrowedFd<'a>) -> Self {
        self.allow(
            Place::Opened(directory),
            AccessFs::ReadFile
                | AccessFs::ReadDir
                | AccessFs::RemoveFile
                | AccessFs::MakeReg
                | AccessFs::Refer,
        )
    }

    /// May read, write and cut this one file: an mbox.
    #[must_use]
    pub fn write_file(self, file: BorrowedFd<'a>) -> Self {
        self.allow(
            Place::Opened(file),
            AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate,
        )
    }

    /// May make, write, read and remove files in this directory, but not list it: dotlocks beside
    /// an mbox.
    #[must_use]
    pub fn lockfiles_in(self, directory: BorrowedFd<'a>) -> Self {
        self.allow(
            Place::Opened(directory),
            AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::WriteFile | AccessFs::ReadFile,
        )
    }

    /// May make files in this directory and remove files there, and read none: dotlocks where mailboxes lie beside them. That
    /// no file that is there is opened for writing, the caller's seccomp has to see to.
    #[must_use]
    pub fn new_files_in(self, directory: BorrowedFd<'a>) -> Self {
        self.allow(
            Place::Opened(directory),
            AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::WriteFile,
        )
    }

    /// May do with regular files below this directory, and with directories, what the file system
    /// lets it: a state directory.
    #[must_use]
    pub fn write_below(self, directory: BorrowedFd<'a>) -> Self {
        self.allow(
            Place::Opened(directory),
            AccessFs::ReadFile
                | AccessFs::ReadDir
                | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::MakeReg
                | AccessFs::MakeDir
                | AccessFs::RemoveFile
                | AccessFs::RemoveDir
                | AccessFs::Refer,
        )
    }

    /// May make and await TCP connections: what PAM modules need that ask a server.
    #[must_use]
    pub fn tcp(self) -> Self {
        Self { tcp: true, ..self }
    }

    /// May make TCP connections to this port, of whatever host: Landlock knows no addresses.
    #[must_use]
    pub fn connect_tcp(mut self, port: u16) -> Self {
        self.ports.push(port);
        self
    }

    /// May use abstract unix sockets of, and send signals to, any process the file system and the
    /// kernel let it.
    #[must_use]
    pub fn processes(self) -> Self {
        Self {
            processes: true,
            ..self
        }
    }

    fn allow(mut self, place: Place<'a>, access: BitFlags<AccessFs>) -> Self {
        self.rules.push((place, access));
        self
    }

    /// Puts the rules in force, tells what the kernel lacks, and tries whether they hold.
    pub(super) fn enforce(self, report: &mut Report) -> Result<(), ConfineError> {
        let all_files = self.all_files;
        let status = self.restrict()?;
        let lacking = lacking(&status.landlock);
        report.missing.extend(lacking);
        let available = matches!(status.landlock, LandlockStatus::Available { .. });
        if available && !all_files && root_is_readable() {
            return Err(ConfineError::NotInForce("Landlock"));
        }
        Ok(())
    }

    fn restrict(self) -> Result<RestrictionStatus, ConfineError> {
        let mut handled = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
        // Moving between directories is forbidden by every set of rules that does not name it.
        let files = if self.all_files {
            AccessFs::Refer.into()
        } else {
            AccessFs::from_all(WANTED)
        };
        handled = handled.handle_access(files).map_err(failed)?;
        if !self.tcp {
            handled = handled
                .handle_access(AccessNet::from_all(WANTED))
                .map_err(failed)?;
        }
        if !self.processes {
            handled = handled.scope(Scope::from_all(WANTED)).map_err(failed)?;
        }
        let mut rules = handled.create().map_err(failed)?;
        if self.all_files {
            let root = open_place(Path::new("/"))?;
            rules = rules
                .add_rule(PathBeneath::new(root, AccessFs::Refer))
                .map_err(failed)?;
        }
        for (place, access) in self.rules {
            let access = access & files;
            rules = match place {
                Place::Opened(place) => {
                    let access = fitting(place, access)?;
                    rules
                        .add_rule(PathBeneath::new(place, access))
                        .map_err(failed)?
                }
                Place::Named(path) => match open_place(path) {
                    Ok(place) => {
                        let access = fitting(place.as_fd(), access)?;
                        rules
                            .add_rule(PathBeneath::new(place, access))
                            .map_err(failed)?
                    }
                    Err(ConfineError::Call { error, .. })
                        if error.kind() == std::io::ErrorKind::NotFound =>
                    {
                        rules
                    }
                    Err(error) => return Err(error),
                },
            };
        }
        // Where connections are not restricted there is nothing to be allowed.
        for port in self.ports.into_iter().filter(|_| !self.tcp) {
            rules = rules
                .add_rule(NetPort::new(port, AccessNet::ConnectTcp))
                .map_err(failed)?;
        }
        rules.restrict_self().map_err(failed)
    }
}

fn open_place(path: &Path) -> Result<OwnedFd, ConfineError> {
    openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(ConfineError::in_step("open what Landlock is to allow"))
}

/// A file has no rights of a directory.
fn fitting(
    place: BorrowedFd<'_>,
    access: BitFlags<AccessFs>,
) -> Result<BitFlags<AccessFs>, ConfineError> {
    let stat = fstat(place).map_err(ConfineError::in_step("stat what Landlock is to allow"))?;
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Ok(if is_directory {
        access
    } else {
        access & AccessFs::from_file(WANTED)
    })
}

fn failed(error: RulesetError) -> ConfineError {
    ConfineError::in_step("Landlock")(std::io::Error::other(error))
}

/// What this kernel's version of Landlock does not restrict.
fn lacking(status: &LandlockStatus) -> Vec<&'static str> {
    let version = match status {
        LandlockStatus::Available { effective_abi, .. } => *effective_abi,
        _ => return vec!["Landlock (files, network and signals are not restricted by it)"],
    };
    [
        (ABI::V3, "Landlock 3: cutting files that may not be written"),
        (ABI::V4, "Landlock 4: TCP connections"),
        (ABI::V5, "Landlock 5: controlling devices"),
        (ABI::V6, "Landlock 6: abstract unix sockets and signals"),
    ]
    .into_iter()
    .filter(|(needed, _)| version < *needed)
    .map(|(_, text)| text)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_lacks_what_came_later() {
        let version = |effective_abi| LandlockStatus::Available {
            effective_abi,
            kernel_abi: None,
        };
        assert_eq!(lacking(&version(WANTED)), [""; 0]);
        assert_eq!(lacking(&version(ABI::V10)), [""; 0]);
        for (abi, count) in [
            (ABI::V1, 4),
            (ABI::V2, 4),
            (ABI::V3, 3),
            (ABI::V4, 2),
            (ABI::V5, 1),
        ] {
            assert_eq!(lacking(&version(abi)).len(), count);
        }
        assert_eq!(lacking(&LandlockStatus::NotEnabled).len(), 1);
        assert_eq!(lacking(&LandlockStatus::NotImplemented).len(), 1);
    }
}
