//! Making processes and waiting for them.
//!
//! The master starts each role by [`spawn_role`] (fork and exec, of its own file or of
//! `popa3d-roles`, so that no role inherits another's memory); spawners [`fork`] small children. What a child inherits is named
//! here, and everything else is closed.

use std::ffi::{CStr, c_int};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::process::{PidfdFlags, WaitOptions};

pub use rustix::process::{Pid, Signal};

use crate::channel::{Channel, ChannelError};
use crate::inherited;
use crate::signals;
use crate::sys;

/// The niceness of a process that yields: it gets about a tenth of what another one gets of a processor that both want.
pub const YIELDING: c_int = 10;

/// Where a role finds its channel to the master.
const ROLE_CHANNEL: RawFd = 3;

/// Where the file to be executed lies in the child; closed by the execution itself.
const EXECUTABLE: RawFd = 4;

/// What an exec that fails in the child of [`spawn_role`] makes it exit with, as shells do.
pub const EXIT_NOT_EXECUTED: i32 = 127;

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Fork {
    /// The one that called [`fork`], and its new child.
    Parent(Pid),
    /// The new one.
    Child,
}

/// fork(2).
///
/// The child has copies of everything, descriptors of other clients included where the parent has
/// some: it begins with [`close_all_except`] and ends with [`exit`], never by returning into its
/// parent's frames.
///
/// # Errors
/// Refused in a process with more than one thread: the child would have the locks of the others, but
/// not them. glibc's own record is asked, in every build and at no cost; it may go on refusing when
/// the threads have ended. Else what fork(2) says; `EAGAIN` is the limit on processes.
pub fn fork() -> io::Result<Fork> {
    if !sys::is_single_threaded() {
        return Err(io::Error::other(
            "fork refused: the process has more than one thread",
        ));
    }
    Ok(match sys::fork()? {
        Some(child) => Fork::Parent(child),
        None => Fork::Child,
    })
}

/// Sets the allocator up for a process that forks many children and lives long. glibc's would merge small blocks that were
/// given back only when a large one is: so each child would do it, and write to every page of its parent's heap that has such a
/// block, and have a copy of each.
pub fn expect_children() {
    sys::merge_free_blocks_at_once();
}

/// Sets the allocator up for a process that will have threads under a filter of system calls without `openat`: all of them share
/// one heap. glibc's would make one for each, and to do so, or to give memory of one back, look into files of /sys and /proc.
pub fn expect_threads() {
    sys::share_one_heap();
}

/// Ends this process at once: nothing buffered before a fork is written twice, no exit handler of
/// the parent runs.
pub fn exit(code: i32) -> ! {
    sys::exit_now(code)
}

/// The file this process runs, to start roles of the same build even when the file on disk has been
/// replaced.
///
/// # Errors
/// `/proc` is not mounted.
pub fn own_executable() -> io::Result<OwnedFd> {
    Ok(openat(
        CWD,
        c"/proc/self/exe",
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Starts `executable` as a new process with `name` as its only argument, no environment, default
/// dispositions and no signal blocked. It has descriptors 0 and 1 (`/dev/null`), 2 (`stderr`, or
/// `/dev/null`), 3 (the channel) and no other.
///
/// May be called with other threads running, as the child makes system calls only.
///
/// # Errors
/// `/dev/null` cannot be opened, or fork(2) fails. A failing exec is seen by whoever waits, as
/// [`EXIT_NOT_EXECUTED`].
pub fn spawn_role(
    executable: BorrowedFd<'_>,
    name: &CStr,
    channel: OwnedFd,
    stderr: Option<BorrowedFd<'_>>,
) -> io::Result<Pid> {
    let null = openat(
        CWD,
        c"/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let stderr = stderr.unwrap_or(null.as_fd());
    match sys::fork()? {
        Some(child) => Ok(child),
        None => {
            let _ = become_role(executable, name, null.as_fd(), channel.as_fd(), stderr);
            sys::exit_now(EXIT_NOT_EXECUTED)
        }
    }
}

/// The child's half of [`spawn_role`]: system calls only, no allocation, returns only when
/// something failed.
fn become_role(
    executable: BorrowedFd<'_>,
    name: &CStr,
    null: BorrowedFd<'_>,
    channel: BorrowedFd<'_>,
    stderr: BorrowedFd<'_>,
) -> io::Result<()> {
    // Out of the way first: any of them may have one of the numbers 0 to 4 itself. As numbers,
    // because what follows closes them under an owner's feet.
    const OUT_OF_THE_WAY: RawFd = 10;
    let aside = |fd| {
        Ok::<_, Errno>(sys::borrow_descriptor(
            fcntl_dupfd_cloexec(fd, OUT_OF_THE_WAY)?.into_raw_fd(),
        ))
    };
    let (executable, null, channel, stderr) = (
        aside(executable)?,
        aside(null)?,
        aside(channel)?,
        aside(stderr)?,
    );
    sys::duplicate_onto(null, 0, false)?;
    sys::duplicate_onto(null, 1, false)?;
    sys::duplicate_onto(stderr, 2, false)?;
    sys::duplicate_onto(channel, ROLE_CHANNEL, false)?;
    sys::duplicate_onto(executable, EXECUTABLE, true)?;
    sys::close_range(EXECUTABLE + 1, RawFd::MAX)?;
    signals::default_all();
    signals::unblock_all()?;
    Err(sys::execute(sys::borrow_descriptor(EXECUTABLE), name))
}

/// The channel that [`spawn_role`] gave this process, the first time it is asked for; `None` when
/// there is none.
///
/// # Errors
/// Descriptor 3 is something else: this process was not started by [`spawn_role`].
pub fn role_channel() -> io::Result<Option<Channel>> {
    let channel = match inherited::take(ROLE_CHANNEL) {
        Ok(channel) => channel,
        // Not open or opened by this very process, or taken before.
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::BADF | Errno::BUSY)
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    Channel::from_fd(channel)
        .map(Some)
        .map_err(|error| match error {
            ChannelError::Io(error) => error,
            other => io::Error::other(other),
        })
}

/// Closes every descriptor but 0, 1, 2 and those named: what a child does first after [`fork`].
///
/// Values that owned the others must not be dropped any more; in a child that ends with [`exit`],
/// none is.
///
/// # Errors
/// The kernel lacks close_range(2) (before Linux 5.9).
pub fn close_all_except(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut numbers: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    numbers.sort_unstable();
    let mut first = 3;
    for number in numbers {
        if number > first {
            sys::close_range(first, number.saturating_sub(1))?;
        }
        first = first.max(number.saturating_add(1));
    }
    sys::close_range(first, RawFd::MAX)
}

/// Closes these, which are not needed any more. What [`close_all_except`] says of owners holds here too.
///
/// # Errors
/// As there.
pub fn close_these(descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    numbers.sort_unstable();
    // Neighbours with one call.
    for range in numbers.chunk_by(|one, next| one.saturating_add(1) == *next) {
        if let (Some(&first), Some(&last)) = (range.first(), range.last()) {
            sys::close_range(first, last)?;
        }
    }
    Ok(())
}

/// A child that has ended, if there is one. Never waits. `None` also when there are no children at
/// all.
pub fn wait_any() -> Option<(Pid, ExitStatus)> {
    let ended = retry_on_intr(|| rustix::process::wait(WaitOptions::NOHANG))
        .ok()
        .flatten()?;
    Some((ended.0, ExitStatus::from_raw(ended.1.as_raw())))
}

/// Waits until this child has ended.
///
/// # Errors
/// It is no child of ours, or has been waited for.
pub fn wait(child: Pid) -> io::Result<ExitStatus> {
    match retry_on_intr(|| rustix::process::waitpid(Some(child), WaitOptions::empty()))? {
        Some((_, status)) => Ok(ExitStatus::from_raw(status.as_raw())),
        None => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Sends a signal to one process.
///
/// # Errors
/// It has ended and been waited for (`ESRCH`), or is not ours to signal (`EPERM`).
pub fn kill(process: Pid, signal: Signal) -> io::Result<()> {
    Ok(rustix::process::kill_process(process, signal)?)
}

/// A descriptor that turns readable when the process ends, and that keeps meaning this process.
///
/// # Errors
/// There is no such process, or no descriptor left.
pub fn open_pidfd(process: Pid) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_open(process, PidfdFlags::empty())?)
}

/// This process.
pub fn own_pid() -> Pid {
    rustix::process::getpid()
}

/// The name that ps(1) and the kernel's log show; its first 15 octets.
///
/// # Errors
/// None known.
pub fn set_name(name: &CStr) -> io::Result<()> {
    Ok(rustix::thread::set_name(name)?)
}

/// Lets other processes go first from here on, where there is not processor time enough for all. There is no way back for a
/// process without privileges.
///
/// # Errors
/// None known.
pub fn yield_to_others() -> io::Result<()> {
    Ok(rustix::process::setpriority_process(None, YIELDING)?)
}

/// A session and process group of its own, without a terminal.
///
/// # Errors
/// This process leads a process group already.
pub fn lead_own_session() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}
