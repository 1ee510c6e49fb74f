//! strace, attached to processes under test: for what they ask of the kernel, and for answers that no kernel here gives.

use crate::poll;
use crate::processes::Process;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Where Debian's package puts it.
pub const STRACE: &str = "/usr/bin/strace";

/// A running strace; dropping it detaches it, and its output is whole.
pub struct Strace(Child);

impl Strace {
    /// Attaches it to `processes` and to those that they start, and waits until it is. Its output goes to a file.
    ///
    /// # Panics
    /// When it cannot be attached.
    pub fn attach(processes: &[Process], expressions: &[&str], output: &Path) -> Strace {
        let mut command = Command::new(STRACE);
        command.args(["-f", "-qq", "-o"]).arg(output);
        for expression in expressions {
            command.args(["-e", expression]);
        }
        for process in processes {
            command
                .arg("-p")
                .arg(process.0.as_raw_nonzero().to_string());
        }
        let child = command.stderr(Stdio::null()).spawn().expect("strace");
        // Or has ended meanwhile, as one that a server needs at its start only.
        let traced = |process: &Process| {
            process
                .status("TracerPid")
                .is_none_or(|tracer| tracer != "0")
        };
        let strace = Strace(child);
        poll::until("strace", || processes.iter().all(traced).then_some(()));
        strace
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        let _ended = kill_process(Pid::from_child(&self.0), Signal::INT);
        let _ended = self.0.wait();
    }
}
