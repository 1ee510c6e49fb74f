//! Runs a program and lets something go wrong at one of the system calls by which it changes files: it is killed there, or
//! the call is done in part or refused.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use libc::{c_long, pid_t};

use crate::sys::{self, Stop, SyscallStop};

/// What goes wrong at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The program is killed before the call is made.
    Before,
    /// The program is killed when the call has been made.
    After,
    /// Half of a write is done, and the program is killed. Another call: as [`Fault::After`].
    Torn,
    /// Half of a write is done, and the program told so.
    Short,
    /// The call is refused with this error number.
    Once(i32),
    /// It is refused, and so is each later one.
    Lasting(i32),
}

/// One call that changed, or would have changed, a file that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// The file, or the first of two.
    pub path: PathBuf,
}

/// How it went.
#[derive(Debug)]
pub struct Run {
    /// All calls on watched files, in their order, up to the death of the program.
    pub calls: Vec<Call>,
    /// Whether there was a call with the wanted number.
    pub hit: bool,
    /// The end of the program.
    pub status: ExitStatus,
}

/// Where a call says which file it is about.
#[derive(Clone, Copy)]
enum File {
    /// A descriptor, in this argument.
    Descriptor(usize),
    /// A path in the second argument, from a directory in the first.
    At(usize, usize),
    /// A path in this argument.
    Path(usize),
}

/// The calls that change a file, its name or how durable it is.
const CALLS: &[(c_long, &str, File)] = &[
    (libc::SYS_write, "write", File::Descriptor(0)),
    (libc::SYS_pwrite64, "pwrite64", File::Descriptor(0)),
    (libc::SYS_writev, "writev", File::Descriptor(0)),
    (libc::SYS_pwritev, "pwritev", File::Descriptor(0)),
    (libc::SYS_pwritev2, "pwritev2", File::Descriptor(0)),
    (libc::SYS_ftruncate, "ftruncate", File::Descriptor(0)),
    (libc::SYS_truncate, "truncate", File::Path(0)),
    (libc::SYS_fallocate, "fallocate", File::Descriptor(0)),
    (libc::SYS_fsync, "fsync", File::Descriptor(0)),
    (libc::SYS_fdatasync, "fdatasync", File::Descriptor(0)),
    (
        libc::SYS_sync_file_range,
        "sync_file_range",
        File::Descriptor(0),
    ),
    (
        libc::SYS_copy_file_range,
        "copy_file_range",
        File::Descriptor(2),
    ),
    (libc::SYS_sendfile, "sendfile", File::Descriptor(0)),
    (libc::SYS_splice, "splice", File::Descriptor(2)),
    (libc::SYS_rename, "rename", File::Path(0)),
    (libc::SYS_renameat, "renameat", File::At(0, 1)),
    (libc::SYS_renameat2, "renameat2", File::At(0, 1)),
    (libc::SYS_link, "link", File::Path(1)),
    (libc::SYS_linkat, "linkat", File::At(2, 3)),
    (libc::SYS_unlink, "unlink", File::Path(0)),
    (libc::SYS_unlinkat, "unlinkat", File::At(0, 1)),
    (libc::SYS_open, "open", File::Path(0)),
    (libc::SYS_creat, "creat", File::Path(0)),
    (libc::SYS_openat, "openat", File::At(0, 1)),
    (libc::SYS_fchmod, "fchmod", File::Descriptor(0)),
    (libc::SYS_fchown, "fchown", File::Descriptor(0)),
    (libc::SYS_utimensat, "utimensat", File::At(0, 1)),
];

/// Octets of a path that are looked at.
const MAX_PATH: usize = 4096;

/// Runs `command`, and all processes that come of it, up to their end, with `fault` at the `number`-th (from 1) of the
/// calls that change a file whose path begins with one of `watched`.
///
/// `alone`: of several processes, only that which makes the call is killed. No other process of this thread may be waited
/// for meanwhile.
///
/// # Errors
/// The program cannot be run, or not be traced.
pub fn run(
    command: &mut Command,
    watched: &[&Path],
    fault: Option<(usize, Fault)>,
    alone: bool,
) -> io::Result<Run> {
    run_meanwhile(command, watched, fault, alone, &mut |_, _| {})
}

/// As [`run`]; `meanwhile` is called with the number of each of the calls before it is made, for what other programs do at
/// that moment.
///
/// # Errors
/// As [`run`].
pub fn run_meanwhile(
    command: &mut Command,
    watched: &[&Path],
    fault: Option<(usize, Fault)>,
    alone: bool,
    meanwhile: &mut dyn FnMut(usize, &Call),
) -> io::Result<Run> {
    sys::trace_from_start(command);
    let child = command.spawn()?;
    let pid = pid_t::try_from(child.id()).map_err(io::Error::other)?;
    // At the execution of the program.
    sys::wait(pid)?;
    sys::follow(pid)?;
    let mut tracing = Tracing {
        watched,
        fault,
        alone,
        meanwhile,
        calls: Vec::new(),
        hit: false,
        under_way: HashMap::from([(pid, After::Nothing)]),
    };
    sys::go_on(pid, 0)?;
    let status = tracing.attend(pid)?;
    Ok(Run {
        calls: tracing.calls,
        hit: tracing.hit,
        status,
    })
}

/// What is to be done when a call has been made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Nothing,
    Kill,
    Refuse(i32),
}

struct Tracing<'a> {
    watched: &'a [&'a Path],
    fault: Option<(usize, Fault)>,
    alone: bool,
    meanwhile: &'a mut dyn FnMut(usize, &Call),
    calls: Vec<Call>,
    hit: bool,
    /// The processes that live.
    under_way: HashMap<pid_t, After>,
}

impl Tracing<'_> {
    fn attend(&mut self, first: pid_t) -> io::Result<ExitStatus> {
        let mut status = None;
        while !self.under_way.is_empty() {
            let (pid, stop) = match sys::wait_any() {
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => break,
                other => other?,
            };
            let signal = match stop {
                Stop::Ended(ended) => {
                    self.under_way.remove(&pid);
                    if pid == first {
                        status = Some(ended);
                    }
                    continue;
                }
                Stop::Syscall => {
                    self.syscall(pid);
                    0
                }
                Stop::Event => 0,
                // A new process, or one that was stopped before it could be heard of.
                Stop::Signal(libc::SIGSTOP) => 0,
                Stop::Signal(signal) => signal,
            };
            self.under_way.entry(pid).or_insert(After::Nothing);
            // It may have been killed meanwhile; that will be heard of.
            let _ = sys::go_on(pid, signal);
        }
        status.ok_or_else(|| io::Error::other("the program's end was not seen"))
    }

    fn syscall(&mut self, pid: pid_t) {
        match sys::syscall_stop(pid) {
            Ok(SyscallStop::Entry { number, arguments }) => self.entry(pid, number, arguments),
            Ok(SyscallStop::Exit) => self.exit(pid),
            _ => {}
        }
    }

    fn entry(&mut self, pid: pid_t, number: u64, arguments: [u64; 6]) {
        let Some(&(_, name, file)) = CALLS
            .iter()
            .find(|(known, ..)| u64::try_from(*known) == Ok(number))
        else {
            return;
        };
        let makes = (libc::O_CREAT | libc::O_TRUNC) as u64;
        let changes = match name {
            "open" => arguments[1] & makes != 0,
            "openat" => arguments[2] & makes != 0,
            _ => true,
        };
        if !changes {
            return;
        }
        let path = path_of(pid, file, arguments);
        if !self.watched.iter().any(|watched| path.starts_with(watched)) {
            return;
        }
        let call = Call { name, path };
        (self.meanwhile)(self.calls.len() + 1, &call);
        self.calls.push(call);
        let Some((wanted, fault)) = self.fault else {
            return;
        };
        let is_lasting = matches!(fault, Fault::Lasting(_));
        if self.calls.len() == wanted || (is_lasting && self.calls.len() > wanted) {
            self.hit = true;
            let is_write = matches!(name, "write" | "pwrite64");
            self.strike(pid, fault, is_write.then_some(arguments[2]));
        }
    }

    fn strike(&mut self, pid: pid_t, fault: Fault, octets: Option<u64>) {
        let after = match fault {
            Fault::Before => {
                self.kill(pid);
                After::Nothing
            }
            Fault::After => After::Kill,
            Fault::Torn | Fault::Short => {
                if let Some(octets) = octets.filter(|&octets| octets > 1) {
                    let _ = sys::change(pid, |registers| registers.rdx = octets / 2);
                }
                match fault {
                    Fault::Torn => After::Kill,
                    _ => After::Nothing,
                }
            }
            Fault::Once(error) | Fault::Lasting(error) => {
                // No call has this number.
                let _ = sys::change(pid, |registers| registers.orig_rax = u64::MAX);
                After::Refuse(error)
            }
        };
        self.under_way.insert(pid, after);
    }

    fn exit(&mut self, pid: pid_t) {
        match self.under_way.insert(pid, After::Nothing) {
            Some(After::Kill) => self.kill(pid),
            Some(After::Refuse(error)) => {
                let result = i64::from(-error).cast_unsigned();
                let _ = sys::change(pid, |registers| registers.rax = result);
            }
            _ => {}
        }
    }

    fn kill(&self, pid: pid_t) {
        if self.alone {
            sys::kill(pid);
        } else {
            self.under_way.keys().for_each(|&pid| sys::kill(pid));
        }
    }
}

fn path_of(pid: pid_t, file: File, arguments: [u64; 6]) -> PathBuf {
    // A descriptor is a C int.
    let descriptor = |argument: usize| match arguments[argument] as i32 {
        libc::AT_FDCWD => format!("/proc/{pid}/cwd"),
        number => format!("/proc/{pid}/fd/{number}"),
    };
    let open = |argument| std::fs::read_link(descriptor(argument)).unwrap_or_default();
    match file {
        File::Descriptor(argument) => open(argument),
        File::Path(argument) => PathBuf::from(sys::string(pid, arguments[argument], MAX_PATH)),
        File::At(directory, argument) => {
            let name = sys::string(pid, arguments[argument], MAX_PATH);
            // An absolute one takes the place of the directory.
            open(directory).join(name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("faults-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    /// Three calls on one file: made, written to, renamed.
    fn script(path: &Path) -> Command {
        let mut command = Command::new("sh");
        let path = path.display();
        let text = format!("printf 1234 > {path} && mv {path} {path}.new");
        command.arg("-c").arg(text);
        command
    }

    #[test]
    fn each_way_to_go_wrong_leaves_what_it_should() {
        let cases = [
            (None, "", "1234", true),
            (Some((2, Fault::Before)), "", "", false),
            (Some((2, Fault::After)), "1234", "", false),
            (Some((2, Fault::Torn)), "12", "", false),
            (Some((2, Fault::Once(libc::ENOSPC))), "", "", false),
            (Some((3, Fault::Before)), "1234", "", false),
            (Some((3, Fault::After)), "", "1234", false),
            (Some((3, Fault::Lasting(libc::EIO))), "1234", "", false),
        ];
        let path = scratch("script");
        let renamed = path.with_extension("new");
        for (fault, old, new, ok) in cases {
            let _ = std::fs::remove_file(&path);
            let _ = std::fs::remove_file(&renamed);
            let run = run(&mut script(&path), &[&path, &renamed], fault, false).unwrap();
            let content = |path| std::fs::read_to_string(path).unwrap_or_default();
            assert_eq!(
                (content(&path), content(&renamed)),
                (old.into(), new.into()),
                "{fault:?}"
            );
            assert_eq!(run.status.success(), ok, "{fault:?}");
            assert_eq!(run.hit, fault.is_some());
            let names: Vec<&str> = run.calls.iter().map(|call| call.name).collect();
            assert_eq!(names[0], "openat");
            assert_eq!(names.get(1), Some(&"write"));
        }
        let _ = std::fs::remove_file(&renamed);
    }

    #[test]
    fn others_can_do_something_before_a_call() {
        let path = scratch("meanwhile");
        let mut seen = Vec::new();
        run_meanwhile(
            &mut script(&path),
            &[&path],
            None,
            false,
            &mut |number, call| {
                seen.push((number, call.name));
                if number == 2 {
                    std::fs::write(&call.path, "other").unwrap();
                }
            },
        )
        .unwrap();
        let renamed = path.with_extension("new");
        assert_eq!(std::fs::read_to_string(&renamed).unwrap(), "1234r");
        assert_eq!(seen[..2], [(1, "openat"), (2, "write")]);
        let _ = std::fs::remove_file(&renamed);
    }
}
