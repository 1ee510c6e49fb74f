//! The system calls that rustix does not offer, one `unsafe` call per function and nothing else.
//!
//! Every process runs them. The functions here are safe to call as far as memory goes; those that
//! touch descriptors by number say what their callers must know.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::{Pid, Signal};

/// What the C library's -1 stands for.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Whether the process has one thread only, as the C library keeps book of it (glibc 2.32): no
/// system call, so it also holds in an empty chroot and under any seccomp filter, where
/// `/proc/self/task` cannot be read.
#[cfg(target_env = "gnu")]
pub fn is_single_threaded() -> bool {
    unsafe extern "C" {
        // https://www.gnu.org/software/libc/manual/html_node/Single_002dThreaded.html
        static __libc_single_threaded: libc::c_char;
    }
    // SAFETY: the C library defines this octet; other threads only ever store to it when there are
    // other threads, and then a stale value is impossible for the thread that started them. The
    // volatile read keeps it from being cached.
    unsafe { std::ptr::read_volatile(&raw const __libc_single_threaded) != 0 }
}

/// Other C libraries do not tell; the roles start no threads.
#[cfg(not(target_env = "gnu"))]
pub fn is_single_threaded() -> bool {
    true
}

/// fork(2): `None` in the child.
pub fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: no memory is handed over. What a child of a process with threads may do is the
    // caller's concern.
    let pid = check(unsafe { libc::fork() })?;
    Ok(Pid::from_raw(pid))
}

/// mallopt(3): no free block is kept aside to be merged later.
#[cfg(target_env = "gnu")]
pub fn merge_free_blocks_at_once() {
    // SAFETY: takes two numbers.
    unsafe { libc::mallopt(libc::M_MXFAST, 0) };
}

/// Other C libraries keep none, or none that children would write to.
#[cfg(not(target_env = "gnu"))]
pub fn merge_free_blocks_at_once() {}

/// mallopt(3): no heaps besides the main one.
#[cfg(target_env = "gnu")]
pub fn share_one_heap() {
    // SAFETY: takes two numbers.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Other C libraries have one heap, or look into no files for more.
#[cfg(not(target_env = "gnu"))]
pub fn share_one_heap() {}

/// _exit(2): no atexit handlers, no flushing of what was buffered before the fork.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// dup3(2) onto a number. Whoever owned `onto` before owns the new description afterwards.
pub fn duplicate_onto(from: BorrowedFd<'_>, onto: RawFd, close_on_exec: bool) -> io::Result<()> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    // SAFETY: takes three numbers.
    check(unsafe { libc::dup3(from.as_raw_fd(), onto, flags) })?;
    Ok(())
}

/// close_range(2), both ends included. An `OwnedFd` of a number in it must never be dropped
/// afterwards.
pub fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    // SAFETY: takes three numbers. By number because glibc has the function only since 2.34.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    check(if result == 0 { 0 } else { -1 })?;
    Ok(())
}

/// The owner of a descriptor that the parent process left open for us. To be called once per
/// number.
pub fn own_descriptor(number: RawFd) -> OwnedFd {
    // SAFETY: the number is not -1, and the caller has made sure that it is open and that nobody
    // else owns it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// A descriptor by number, to ask about it.
pub fn borrow_descriptor(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the number is not -1; if it is not open, system calls on it answer EBADF.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// execveat(2) of the file that `executable` stands for, with `name` as the only argument and no
/// environment. Returns only when it failed.
pub fn execute(executable: BorrowedFd<'_>, name: &CStr) -> io::Error {
    let arguments = [name.as_ptr(), std::ptr::null()];
    let environment: [*const libc::c_char; 1] = [std::ptr::null()];
    // SAFETY: all pointers are to NUL-terminated data that lives until the call returns or the
    // image is replaced.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            executable.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// A signal set of the C library.
pub struct SignalSet(libc::sigset_t);

impl SignalSet {
    /// The set of these and no other signals.
    pub fn of(signals: &[Signal]) -> Self {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the whole set.
        let mut set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            set.assume_init()
        };
        for signal in signals {
            // SAFETY: the set is initialised; a signal that does not exist is answered with -1.
            unsafe { libc::sigaddset(&mut set, signal.as_raw()) };
        }
        Self(set)
    }

    /// sigprocmask(2) with `how` one of `SIG_BLOCK`, `SIG_UNBLOCK`, `SIG_SETMASK`.
    pub fn apply(&self, how: libc::c_int) -> io::Result<()> {
        // SAFETY: reads the set; the old mask is not asked for.
        check(unsafe { libc::sigprocmask(how, &self.0, std::ptr::null_mut()) })?;
        Ok(())
    }

    /// signalfd(2), new, non-blocking and closed on exec.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        // SAFETY: reads the set; -1 as descriptor asks for a new one.
        let number =
            check(unsafe { libc::signalfd(-1, &self.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
        Ok(own_descriptor(number))
    }
}

/// What happens on a signal; handlers are not used anywhere.
#[derive(Clone, Copy)]
pub enum Disposition {
    /// The kernel's default.
    Default,
    /// Nothing.
    Ignore,
}

/// rt_sigaction(2) of the kernel itself: the C library refuses the two signals that it keeps for
/// its threads, and whoever started us may have had them ignored.
pub fn set_disposition(signal: libc::c_int, disposition: Disposition) -> io::Result<()> {
    let handler = match disposition {
        Disposition::Default => libc::SIG_DFL,
        Disposition::Ignore => libc::SIG_IGN,
    };
    // The kernel's structure on x86_64 and aarch64: handler, flags, restorer, mask, of 64 bits
    // each.
    let action = [handler as u64, 0, 0, 0];
    const MASK_OCTETS: usize = 8;
    // SAFETY: the action is as long as the kernel's and lives during the call; neither of the two
    // handlers is a function that could be called; the old action is not asked for.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            action.as_ptr(),
            std::ptr::null_mut::<u64>(),
            MASK_OCTETS,
        )
    };
    check(if result == 0 { 0 } else { -1 })?;
    Ok(())
}

/// fcntl(2) F_OFD_SETLK over the whole file, `kind` one of `F_RDLCK`, `F_WRLCK`, `F_UNLCK`.
pub fn set_file_lock(file: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: a plain C structure for which all zeroes is valid: start 0, length 0 (to the end,
    // wherever it moves), and l_pid 0 as OFD locks demand.
    let mut region: libc::flock = unsafe { std::mem::zeroed() };
    region.l_type = kind as libc::c_short;
    region.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the structure lives during the call.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &region) })?;
    Ok(())
}

/// setgroups(2), of the whole process.
pub fn set_groups(groups: &[libc::gid_t]) -> io::Result<()> {
    // SAFETY: the pointer is to as many groups as said.
    check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
    Ok(())
}

/// setresgid(2) of all three, of the whole process.
pub fn set_gid(gid: libc::gid_t) -> io::Result<()> {
    // SAFETY: takes three numbers.
    check(unsafe { libc::setresgid(gid, gid, gid) })?;
    Ok(())
}

/// setresuid(2) of all three, of the whole process.
pub fn set_uid(uid: libc::uid_t) -> io::Result<()> {
    // SAFETY: takes three numbers.
    check(unsafe { libc::setresuid(uid, uid, uid) })?;
    Ok(())
}

/// getresgid(2): real, effective, saved.
pub fn gids() -> io::Result<[libc::gid_t; 3]> {
    let [mut real, mut effective, mut saved] = [0; 3];
    // SAFETY: three pointers to numbers that live during the call.
    check(unsafe { libc::getresgid(&mut real, &mut effective, &mut saved) })?;
    Ok([real, effective, saved])
}

/// getresuid(2): real, effective, saved.
pub fn uids() -> io::Result<[libc::uid_t; 3]> {
    let [mut real, mut effective, mut saved] = [0; 3];
    // SAFETY: three pointers to numbers that live during the call.
    check(unsafe { libc::getresuid(&mut real, &mut effective, &mut saved) })?;
    Ok([real, effective, saved])
}

/// setuid(2) to root, which must fail.
pub fn regain_root_uid() -> io::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::setuid(0) })?;
    Ok(())
}

/// setgid(2) to root's group, which must fail.
pub fn regain_root_gid() -> io::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::setgid(0) })?;
    Ok(())
}

/// seccomp(2) SECCOMP_SET_MODE_FILTER.
pub fn install_filter(filter: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len: length,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the program, which lives during the call and is as long as said,
    // and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    check(if result == 0 { 0 } else { -1 })?;
    Ok(())
}

/// clone3(2) without arguments: `EINVAL` from every kernel that has it, and what a filter says
/// where there is one.
pub fn probe_clone3() -> io::Error {
    // SAFETY: with a null pointer and size 0 the kernel looks at nothing and makes no process.
    unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<u8>(), 0) };
    io::Error::last_os_error()
}

/// Octets of a page; where pages are larger, the kernel rounds up.
const PAGE: usize = 4096;

/// mmap(2): a page of zeroes of its own, which nobody gives back.
pub fn map_page() -> io::Result<&'static mut [u8]> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no other memory.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: that many octets, zeroed, readable and writable, referred to by nobody else, and never unmapped.
    Ok(unsafe { std::slice::from_raw_parts_mut(page.cast(), PAGE) })
}

/// mlock(2): the page is not swapped out.
pub fn lock_page(page: &[u8]) -> io::Result<()> {
    // SAFETY: the range is mapped, and its contents do not change.
    check(unsafe { libc::mlock(page.as_ptr().cast(), page.len()) })?;
    Ok(())
}

/// madvise(2): forked children find zeroes there.
pub fn wipe_on_fork(page: &mut [u8]) -> io::Result<()> {
    advise(page, libc::MADV_WIPEONFORK)
}

/// madvise(2): core dumps are without it.
pub fn leave_out_of_dumps(page: &mut [u8]) -> io::Result<()> {
    advise(page, libc::MADV_DONTDUMP)
}

fn advise(page: &mut [u8], advice: libc::c_int) -> io::Result<()> {
    // SAFETY: the range is mapped and whole pages; neither advice that is given here changes its contents in this process.
    check(unsafe { libc::madvise(page.as_mut_ptr().cast(), page.len(), advice) })?;
    Ok(())
}
