//! ptrace(2) and waitpid(2), one call per function.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use libc::{c_int, c_long, c_void, pid_t, user_regs_struct};

fn check(result: c_long) -> io::Result<()> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn request(request: libc::c_uint, pid: pid_t, data: *mut c_void) -> io::Result<()> {
    // SAFETY: the requests used here take no address, and `data` is a number or points to what the request fills or reads
    // for the length of the call.
    check(unsafe { libc::ptrace(request, pid, std::ptr::null_mut::<c_void>(), data) })
}

/// Becomes the tracer without stopping the process.
pub fn seize(pid: pid_t) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, pid, std::ptr::null_mut())
}

/// Stops the process.
pub fn interrupt(pid: pid_t) -> io::Result<()> {
    request(libc::PTRACE_INTERRUPT, pid, std::ptr::null_mut())
}

/// Lets it go, for good.
pub fn detach(pid: pid_t) -> io::Result<()> {
    request(libc::PTRACE_DETACH, pid, std::ptr::null_mut())
}

/// Lets it do one instruction.
pub fn single_step(pid: pid_t) -> io::Result<()> {
    request(libc::PTRACE_SINGLESTEP, pid, std::ptr::null_mut())
}

/// Its registers.
pub fn registers(pid: pid_t) -> io::Result<user_regs_struct> {
    // SAFETY: all of its fields are integers, for which zero is a value.
    let mut registers: user_regs_struct = unsafe { std::mem::zeroed() };
    request(libc::PTRACE_GETREGS, pid, (&raw mut registers).cast())?;
    Ok(registers)
}

/// Changes its registers.
pub fn set_registers(pid: pid_t, mut registers: user_regs_struct) -> io::Result<()> {
    request(libc::PTRACE_SETREGS, pid, (&raw mut registers).cast())
}

/// Writes one word into its memory.
pub fn poke(pid: pid_t, address: u64, word: u64) -> io::Result<()> {
    // SAFETY: both are numbers to the kernel, which refuses an address that the traced process does not have.
    check(unsafe {
        libc::ptrace(
            libc::PTRACE_POKEDATA,
            pid,
            address as *mut c_void,
            word as *mut c_void,
        )
    })
}

/// Waits until it stops or ends, and says how.
pub fn wait(pid: pid_t) -> io::Result<c_int> {
    let mut status = 0;
    // SAFETY: the status is valid for writes.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
    check(c_long::from(waited))?;
    Ok(status)
}

/// Why a traced process has stopped, or that it has ended.
pub enum Stop {
    Ended(ExitStatus),
    /// At the beginning or the end of a system call.
    Syscall,
    /// At a fork or an execution.
    Event,
    Signal(c_int),
}

/// A stop at a system call.
pub enum SyscallStop {
    Entry { number: u64, arguments: [u64; 6] },
    Exit,
    Other,
}

/// Has a program traced by this thread from its first instruction on.
pub fn trace_from_start(command: &mut Command) {
    // SAFETY: between fork and execution only this one system call is made.
    unsafe {
        command.pre_exec(|| {
            let none = std::ptr::null_mut::<c_void>();
            check(libc::ptrace(libc::PTRACE_TRACEME, 0, none, none))
        });
    }
}

/// Asks to stop at each system call, of all processes that come of this one too, which end with the tracer.
pub fn follow(pid: pid_t) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_EXITKILL;
    let options = usize::try_from(options).map_err(io::Error::other)?;
    request(libc::PTRACE_SETOPTIONS, pid, options as *mut c_void)
}

/// Lets it go on to the beginning or the end of a system call, with this signal (0 for none).
pub fn go_on(pid: pid_t, signal: c_int) -> io::Result<()> {
    let signal = usize::try_from(signal).map_err(io::Error::other)?;
    request(libc::PTRACE_SYSCALL, pid, signal as *mut c_void)
}

/// Waits until any process that this thread traces stops or ends.
pub fn wait_any() -> io::Result<(pid_t, Stop)> {
    let mut status = 0;
    // SAFETY: the status is valid for writes. Other threads' children are not waited for.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
    check(c_long::from(pid))?;
    let stop = if !libc::WIFSTOPPED(status) {
        Stop::Ended(ExitStatus::from_raw(status))
    } else if libc::WSTOPSIG(status) == libc::SIGTRAP | 0x80 {
        Stop::Syscall
    } else if status >> 16 != 0 {
        Stop::Event
    } else {
        Stop::Signal(libc::WSTOPSIG(status))
    };
    Ok((pid, stop))
}

/// What it is about to do, or has done.
pub fn syscall_stop(pid: pid_t) -> io::Result<SyscallStop> {
    // SAFETY: all of its fields are integers, for which zero is a value.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::ptrace_syscall_info>();
    // SAFETY: the kernel writes at most `size` octets to `info`.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_GET_SYSCALL_INFO,
            pid,
            size as *mut c_void,
            &raw mut info,
        )
    };
    check(result)?;
    Ok(match info.op {
        libc::PTRACE_SYSCALL_INFO_ENTRY => {
            // SAFETY: at an entry, this is the member that the kernel has written.
            let entry = unsafe { info.u.entry };
            SyscallStop::Entry {
                number: entry.nr,
                arguments: entry.args,
            }
        }
        libc::PTRACE_SYSCALL_INFO_EXIT => SyscallStop::Exit,
        _ => SyscallStop::Other,
    })
}

/// Changes some of its registers.
pub fn change(pid: pid_t, change: impl FnOnce(&mut user_regs_struct)) -> io::Result<()> {
    let mut now = registers(pid)?;
    change(&mut now);
    set_registers(pid, now)
}

/// The string at an address of its memory, up to the NUL or `limit`; empty if it cannot be read.
pub fn string(pid: pid_t, address: u64, limit: usize) -> String {
    const PAGE: u64 = 4096;
    let mut text = Vec::new();
    while text.len() < limit {
        let at = address.wrapping_add(text.len() as u64);
        // Not past the page: the next one may not be there.
        let mut part = vec![0_u8; usize::try_from(PAGE - at % PAGE).unwrap_or(1)];
        let local = libc::iovec {
            iov_base: part.as_mut_ptr().cast(),
            iov_len: part.len(),
        };
        let remote = libc::iovec {
            iov_base: at as *mut c_void,
            iov_len: part.len(),
        };
        // SAFETY: `local` is valid for writes of its length; `remote` is a number to this process.
        let read =
            unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
        let Ok(read) = usize::try_from(read) else {
            return String::new();
        };
        part.truncate(read);
        if let Some(end) = part.iter().position(|&octet| octet == 0) {
            text.extend_from_slice(&part[..end]);
            break;
        }
        if part.is_empty() {
            break;
        }
        text.append(&mut part);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Kills it.
pub fn kill(pid: pid_t) {
    // SAFETY: only numbers are passed.
    let _ = unsafe { libc::kill(pid, libc::SIGKILL) };
}
