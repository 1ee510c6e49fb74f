//! A system call made by another process.

use std::io;

use libc::{pid_t, user_regs_struct};

use crate::sys;

/// Room below the stack pointer that the ABI lets a function use without saying so.
const RED_ZONE: u64 = 128;

/// Octets of arguments in memory, at most.
const MAX_MEMORY: usize = 4096;

/// Signals that may come in between.
const MAX_SIGNALS: u32 = 16;

/// The instruction `syscall`.
const SYSCALL_OCTETS: u64 = 2;

/// What came of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done and gave this.
    Done(i64),
    /// The kernel refused with this error number.
    Refused(i32),
    /// It was the process's end, by this signal.
    Killed(i32),
}

/// A process that is stopped and does what it is told.
#[derive(Debug)]
pub struct Tracee {
    pid: pid_t,
    before: user_regs_struct,
    over: bool,
}

impl Tracee {
    /// Stops a process, which must be waiting in a system call, as servers do.
    ///
    /// # Errors
    /// It may not be traced, or has ended.
    pub fn stop(pid: u32) -> io::Result<Self> {
        let pid = pid_t::try_from(pid).map_err(io::Error::other)?;
        sys::seize(pid)?;
        sys::interrupt(pid)?;
        let status = sys::wait(pid)?;
        if !libc::WIFSTOPPED(status) {
            return Err(io::Error::other("it has ended"));
        }
        let before = sys::registers(pid)?;
        Ok(Self {
            pid,
            before,
            over: false,
        })
    }

    /// Puts octets on its stack, for a system call's argument; `at` counts from 0 and keeps several apart.
    ///
    /// # Errors
    /// Too many octets, or no such memory.
    pub fn place(&self, at: usize, octets: &[u8]) -> io::Result<u64> {
        if at + octets.len() > MAX_MEMORY {
            return Err(io::Error::other("no room"));
        }
        let base = (self.before.rsp - RED_ZONE - MAX_MEMORY as u64) & !7;
        let start = base + at.next_multiple_of(8) as u64;
        for (index, chunk) in octets.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            sys::poke(self.pid, start + 8 * index as u64, u64::from_ne_bytes(word))?;
        }
        Ok(start)
    }

    /// Makes it do this system call. After [`Outcome::Killed`] there is no process any more.
    ///
    /// # Errors
    /// It is not where it can be made to, or ended otherwise.
    pub fn call(&mut self, number: i64, arguments: [u64; 6]) -> io::Result<Outcome> {
        let mut registers = self.before;
        // It waits behind a `syscall` instruction, which serves again. Without an original number the kernel does not
        // restart what was interrupted.
        registers.rip = self.before.rip - SYSCALL_OCTETS;
        registers.orig_rax = u64::MAX;
        registers.rax = number.cast_unsigned();
        [
            registers.rdi,
            registers.rsi,
            registers.rdx,
            registers.r10,
            registers.r8,
            registers.r9,
        ] = arguments;
        sys::set_registers(self.pid, registers)?;
        let mut status = self.step()?;
        // A signal that arrives first stops it before the instruction; it is left out, and the step tried again.
        for _ in 0..MAX_SIGNALS {
            let stopped = libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) != libc::SIGSYS;
            if !stopped || sys::registers(self.pid)?.rip != registers.rip {
                break;
            }
            status = self.step()?;
        }
        if libc::WIFSIGNALED(status) {
            self.over = true;
            return Ok(Outcome::Killed(libc::WTERMSIG(status)));
        }
        if !libc::WIFSTOPPED(status) {
            self.over = true;
            return Err(io::Error::other("it has exited"));
        }
        if libc::WSTOPSIG(status) == libc::SIGSYS {
            // The signal is under way; it is delivered when the process goes on.
            self.over = true;
            sys::detach(self.pid)?;
            return Ok(Outcome::Killed(libc::SIGSYS));
        }
        let result = sys::registers(self.pid)?.rax.cast_signed();
        Ok(match i32::try_from(-result) {
            Ok(error @ 1..=4095) => Outcome::Refused(error),
            _ => Outcome::Done(result),
        })
    }

    fn step(&self) -> io::Result<i32> {
        sys::single_step(self.pid)?;
        sys::wait(self.pid)
    }
}

impl Drop for Tracee {
    /// Lets it go on where it was stopped.
    fn drop(&mut self) {
        if !self.over {
            let _ = sys::set_registers(self.pid, self.before);
            let _ = sys::detach(self.pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_waiting_process_does_what_it_is_told_and_goes_on() {
        let mut cat = Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = cat.id();
        // Until it waits for input.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !std::fs::read_to_string(format!("/proc/{pid}/syscall"))
            .unwrap()
            .starts_with("0 0x0 ")
        {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
        let mut tracee = Tracee::stop(pid).unwrap();
        let own = tracee.call(libc::SYS_getpid, [0; 6]).unwrap();
        assert_eq!(own, Outcome::Done(i64::from(pid)));
        let path = tracee.place(0, b"/no/such/file\0").unwrap();
        let opened = tracee
            .call(libc::SYS_openat, [libc::AT_FDCWD as u64, path, 0, 0, 0, 0])
            .unwrap();
        assert_eq!(opened, Outcome::Refused(libc::ENOENT));
        drop(tracee);
        drop(cat.stdin.take());
        assert!(cat.wait().unwrap().success());
    }
}
