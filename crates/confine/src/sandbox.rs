//! Everything a role gives up, in the order in which it can be given up, each step verified; and
//! the proof of it.
//!
//! Every role but the master enters its sandbox before it looks at a foreign octet. The order: root
//! directory (takes root), identity, `no_new_privs`, not dumpable, umask, Landlock (needs
//! descriptors and opens files), resource limits, seccomp last (after it, none of the calls before
//! would be allowed).

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, OFlags, fstat, openat, stat};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, chdir, chroot, dumpable_behavior, getrlimit,
    set_dumpable_behavior, setrlimit, umask,
};
use rustix::thread::{capabilities, no_new_privs, set_no_new_privs};

use crate::error::ConfineError;
use crate::identity::{self, Capabilities, Identity};
use crate::seccomp::Program;
use crate::sys;

pub use landlock::Landlock;

mod landlock;

/// Proof that this process is confined. Only [`Sandbox::enter`] makes one; whatever parses a
/// client's octets demands one.
#[derive(Clone, Copy, Debug)]
pub struct Confined(());

impl Confined {
    /// Not confined at all: for unit tests of what demands the proof. Behind a feature that only
    /// dev-dependencies turn on.
    #[cfg(feature = "test-support")]
    pub fn assumed_by_test() -> Self {
        Self(())
    }
}

/// What the kernel could not give. For the log, once, at start-up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// A short text for each protection that is missing.
    pub missing: Vec<&'static str>,
}

/// How much of the machine a role may use. `None` leaves what was inherited; nothing is ever
/// raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Descriptors: no number at or above this is given out any more, and poll(2) takes no more
    /// than so many.
    pub open_files: Option<u64>,
    /// Processes of the same user. 0 forbids fork, unless root's.
    pub processes: Option<u64>,
    /// Octets of the largest file that can be written.
    pub file_octets: Option<u64>,
    /// Octets of address space.
    pub memory_octets: Option<u64>,
}

/// What a role is to be confined to. Without more said: no files, no network, no limits but no core
/// file, the identity it has.
#[derive(Debug)]
pub struct Sandbox<'a> {
    seccomp: &'a Program,
    identity: Option<(&'a Identity, Capabilities)>,
    root: Option<&'a Path>,
    landlock: Option<Landlock<'a>>,
    limits: Limits,
    required: bool,
}

impl<'a> Sandbox<'a> {
    /// The strictest, with this allow list.
    pub fn new(seccomp: &'a Program) -> Self {
        Self {
            seccomp,
            identity: None,
            root: None,
            landlock: Some(Landlock::nothing()),
            limits: Limits::default(),
            required: false,
        }
    }

    /// Becomes `identity`, as by [`identity::drop_to`].
    #[must_use]
    pub fn identity(self, identity: &'a Identity) -> Self {
        self.identity_keeping(identity, Capabilities::empty())
    }

    /// Becomes `identity` with these capabilities, as by [`identity::drop_to_keeping`].
    #[must_use]
    pub fn identity_keeping(self, identity: &'a Identity, kept: Capabilities) -> Self {
        Self {
            identity: Some((identity, kept)),
            ..self
        }
    }

    /// Makes an empty directory the root directory. Not done by a process that may not: one of an
    /// ordinary user, for whom Landlock does the same.
    #[must_use]
    pub fn root(self, directory: &'a Path) -> Self {
        Self {
            root: Some(directory),
            ..self
        }
    }

    /// Files and network as these rules say, instead of none.
    #[must_use]
    pub fn landlock(self, rules: Landlock<'a>) -> Self {
        Self {
            landlock: Some(rules),
            ..self
        }
    }

    /// No rules besides those inherited: for a child whose parent is in [`Landlock::nothing`]
    /// already.
    #[must_use]
    pub fn landlock_inherited(self) -> Self {
        Self {
            landlock: None,
            ..self
        }
    }

    /// Resource limits.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Whether a protection that the kernel lacks is an error.
    #[must_use]
    pub fn required(self, required: bool) -> Self {
        Self { required, ..self }
    }

    /// Enters it. There is no way back, and children inherit it.
    ///
    /// # Errors
    /// [`ConfineError`]; the process may be half confined and has to end.
    pub fn enter(self) -> Result<(Confined, Report), ConfineError> {
        if !sys::is_single_threaded() {
            return Err(ConfineError::Threads);
        }
        let mut report = Report::default();
        find_vdso_and_processor_features();
        if let Some(directory) = self.root {
            change_root(directory)?;
        }
        if let Some((identity, kept)) = self.identity {
            identity::drop_to_keeping(identity, kept)?;
        }
        forbid_new_privileges()?;
        forbid_dumps()?;
        restrict_umask();
        if let Some(rules) = self.landlock {
            rules.enforce(&mut report)?;
        }
        self.limits.apply()?;
        if self.required && !report.missing.is_empty() {
            return Err(ConfineError::Missing(report.missing));
        }
        if !install(self.seccomp)? {
            report
                .missing
                .push("seccomp filters (system calls are not restricted)");
            if self.required {
                return Err(ConfineError::Missing(report.missing));
            }
        }
        Ok((Confined(()), report))
    }
}

/// Lets a process that is in its sandbox do less from now on. Does nothing where the kernel has no
/// filters, which the [`Report`] has said at the beginning.
///
/// # Errors
/// [`ConfineError`]; the process may do more than it should and has to end.
pub fn narrow(program: &Program) -> Result<(), ConfineError> {
    install(program).map(drop)
}

/// What would else be found out by every child for itself: children inherit it. rustix finds the vDSO when it is first asked for
/// the time, by calls that no role is allowed; what the processor can do is asked by an instruction that takes microseconds where
/// there is a hypervisor beneath.
fn find_vdso_and_processor_features() {
    let _ = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    #[cfg(target_arch = "x86_64")]
    let _ = std::is_x86_feature_detected!("avx2");
}

fn change_root(directory: &Path) -> Result<(), ConfineError> {
    let held = capabilities(None).map_err(ConfineError::in_step("capget"))?;
    if !held.effective.contains(Capabilities::SYS_CHROOT) {
        return Ok(());
    }
    // Open while it is looked at, so that it is this one that becomes the root.
    let opened = openat(
        CWD,
        directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(ConfineError::in_step("open root directory"))?;
    rustix::process::fchdir(&opened).map_err(ConfineError::in_step("enter root directory"))?;
    chroot(c".").map_err(ConfineError::in_step("chroot"))?;
    chdir(c"/").map_err(ConfineError::in_step("chdir"))?;
    let wanted = fstat(&opened).map_err(ConfineError::in_step("stat root directory"))?;
    let found = stat(c"/").map_err(ConfineError::in_step("stat /"))?;
    let above = stat(c"/..").map_err(ConfineError::in_step("stat /.."))?;
    let same =
        |other: &rustix::fs::Stat| (other.st_dev, other.st_ino) == (wanted.st_dev, wanted.st_ino);
    if !same(&found) || !same(&above) {
        return Err(ConfineError::NotInForce("root directory"));
    }
    Ok(())
}

fn forbid_new_privileges() -> Result<(), ConfineError> {
    set_no_new_privs(true).map_err(ConfineError::in_step("no_new_privs"))?;
    match no_new_privs() {
        Ok(true) => Ok(()),
        _ => Err(ConfineError::NotInForce("no_new_privs")),
    }
}

/// No core file, no ptrace and no look into `/proc/PID` by processes of the same user.
fn forbid_dumps() -> Result<(), ConfineError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(ConfineError::in_step("not dumpable"))?;
    match dumpable_behavior() {
        Ok(DumpableBehavior::NotDumpable) => Ok(()),
        _ => Err(ConfineError::NotInForce("not dumpable")),
    }
}

/// What is made is its owner's alone. Cannot fail.
fn restrict_umask() {
    umask(Mode::RWXG | Mode::RWXO);
}

impl Limits {
    fn apply(self) -> Result<(), ConfineError> {
        lower(Resource::Core, Some(0))?;
        lower(Resource::Nofile, self.open_files)?;
        lower(Resource::Nproc, self.processes)?;
        lower(Resource::Fsize, self.file_octets)?;
        lower(Resource::As, self.memory_octets)
    }
}

/// Lowers both limits to `wanted` where they are higher.
fn lower(resource: Resource, wanted: Option<u64>) -> Result<(), ConfineError> {
    let Some(wanted) = wanted else { return Ok(()) };
    // `None` is the kernel's infinity.
    let lowered = |limit: Option<u64>| Some(limit.map_or(wanted, |limit| limit.min(wanted)));
    let before = getrlimit(resource);
    let after = Rlimit {
        current: lowered(before.current),
        maximum: lowered(before.maximum),
    };
    if before == after {
        return Ok(());
    }
    setrlimit(resource, after).map_err(ConfineError::in_step("setrlimit"))?;
    if getrlimit(resource) != after {
        return Err(ConfineError::NotInForce("resource limits"));
    }
    Ok(())
}

/// Whether a filter of ours is in force in this process. A child of a fork inherits both, the filter
/// and this.
static FILTERED: AtomicBool = AtomicBool::new(false);

/// False: the kernel has no filters.
fn install(program: &Program) -> Result<bool, ConfineError> {
    let filtered = FILTERED.load(Ordering::Relaxed);
    match program.install() {
        // This kernel has filters, as one is in force, and seccomp(2) has added another when it
        // succeeds. There is no call to try that out by: clone3 is answered by the first already.
        Ok(()) if filtered => Ok(true),
        Ok(()) => {
            // Answered with EINVAL by every kernel that has the call, with ENOSYS only by a filter
            // of ours; not by one for the inside of another, which leaves it to that one.
            if sys::probe_clone3().raw_os_error() != Some(libc::ENOSYS) {
                return Err(ConfineError::NotInForce("seccomp"));
            }
            FILTERED.store(true, Ordering::Relaxed);
            Ok(true)
        }
        Err(error)
            if !filtered && matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) =>
        {
            Ok(false)
        }
        Err(error) => Err(ConfineError::in_step("seccomp")(error)),
    }
}

/// For [`Landlock`]: whether a directory that no role is given can be read.
fn root_is_readable() -> bool {
    openat(
        CWD,
        c"/",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .is_ok_and(|directory| fstat(directory.as_fd()).is_ok())
}
