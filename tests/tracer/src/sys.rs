//! ptrace(2) and waitpid(2), one call per function.

use std::io;

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
