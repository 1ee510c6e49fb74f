//! What the kernel says about the processes of this machine: read from `/proc`, never from the server.

use rustix::process::{Pid, Signal, getpriority_process, kill_process};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(pub Pid);

/// The processes that share the mounts or the network of the calling thread: on a private machine, those started
/// there. The test process itself is not among them, because only one of its threads lives there.
pub fn of_this_machine() -> Vec<Process> {
    let here = |kind: &str| fs::read_link(format!("/proc/thread-self/ns/{kind}")).ok();
    let (mounts, network) = (here("mnt"), here("net"));
    all()
        .filter(|process| {
            let there = |kind: &str| fs::read_link(process.file(&format!("ns/{kind}"))).ok();
            (there("mnt").is_some() && there("mnt") == mounts)
                || (there("net").is_some() && there("net") == network)
        })
        .collect()
}

/// `ancestor` and every process below it.
pub fn tree(ancestor: Process) -> Vec<Process> {
    let mut found = vec![ancestor];
    let parents: Vec<_> = all().filter_map(|p| Some((p, p.parent()?))).collect();
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(child, _)| *child),
        );
        next += 1;
    }
    found
}

impl Process {
    /// The process numbered `pid`.
    ///
    /// # Panics
    /// For 0.
    pub fn numbered(pid: u32) -> Process {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        Process(pid.expect("a process number"))
    }

    /// A line of `/proc/PID/status`, for example `status("Uid")`; `None` once the process is gone.
    pub fn status(self, key: &str) -> Option<String> {
        let status = fs::read_to_string(self.file("status")).ok()?;
        status.lines().find_map(|line| {
            let value = line.strip_prefix(key)?.strip_prefix(':')?;
            Some(value.split_whitespace().collect::<Vec<_>>().join(" "))
        })
    }

    /// Its arguments, the program's name among them, joined by spaces.
    pub fn command_line(self) -> String {
        let octets = fs::read(self.file("cmdline")).unwrap_or_default();
        let words = octets
            .split(|octet| *octet == 0)
            .filter(|word| !word.is_empty());
        words
            .map(String::from_utf8_lossy)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// What it calls itself: a forked process by its thread's name, an executed one by its first argument.
    pub fn title(self) -> String {
        let name = fs::read_to_string(self.file("comm")).unwrap_or_default();
        let name = name.trim_end();
        if name.contains(": ") {
            name.to_owned()
        } else {
            self.command_line()
        }
    }

    /// Its real user number.
    pub fn user(self) -> Option<u32> {
        self.status("Uid")?.split(' ').next()?.parse().ok()
    }

    /// From -20 to 19; the higher, the less processor time where it is scarce.
    pub fn niceness(self) -> Option<i32> {
        getpriority_process(Some(self.0)).ok()
    }

    /// Memory held in RAM that is not shared with a file, in KiB.
    pub fn resident_kib(self) -> u64 {
        let value = self.status("RssAnon").unwrap_or_default();
        value
            .split(' ')
            .next()
            .and_then(|kib| kib.parse().ok())
            .unwrap_or(0)
    }

    /// The process that started it.
    pub fn parent(self) -> Option<Process> {
        Pid::from_raw(self.status("PPid")?.parse().ok()?).map(Process)
    }

    /// True until it has ended; a zombie has ended.
    pub fn is_running(self) -> bool {
        self.status("State")
            .is_some_and(|state| !state.starts_with(['Z', 'X']))
    }

    /// The first of `parts` found in what it has in memory of its own; what is mapped from a file and cannot be written to is
    /// the file's. Parts are at least two octets long.
    pub fn first_held<'a>(self, parts: &[&'a [u8]]) -> Option<&'a [u8]> {
        let maps = fs::read_to_string(self.file("maps")).ok()?;
        let memory = File::open(self.file("mem")).ok()?;
        let mut begins = vec![false; 1 << 16];
        for part in parts {
            begins[usize::from(u16::from_be_bytes([part[0], part[1]]))] = true;
        }
        maps.lines().find_map(|line| {
            // Range, rights, offset, device, inode.
            let words: Vec<_> = line.split_whitespace().collect();
            let [range, rights, _, _, inode, ..] = words[..] else {
                return None;
            };
            let is_own = rights.starts_with("rw") || (rights.starts_with('r') && inode == "0");
            if !is_own || line.ends_with("[vvar]") || line.ends_with("[vsyscall]") {
                return None;
            }
            let (start, end) = range.split_once('-')?;
            let parse = |text: &str| u64::from_str_radix(text, 16).expect("an address");
            let (start, end) = (parse(start), parse(end));
            let mut octets = vec![0; usize::try_from(end - start).expect("a size")];
            let read = memory.read_at(&mut octets, start).ok()?;
            let octets = &octets[..read];
            octets.windows(2).enumerate().find_map(|(at, pair)| {
                begins[usize::from(u16::from_be_bytes([pair[0], pair[1]]))]
                    .then(|| parts.iter().find(|part| octets[at..].starts_with(part)))?
                    .copied()
            })
        })
    }

    /// A file of its directory under `/proc`.
    pub fn file(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0.as_raw_nonzero()))
    }

    /// Sends `signal`; a process that is gone already is no error.
    pub fn signal(self, signal: Signal) {
        let _gone = kill_process(self.0, signal);
    }

    /// Sends SIGKILL.
    pub fn kill(self) {
        self.signal(Signal::KILL);
    }
}

fn all() -> impl Iterator<Item = Process> {
    fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .map(Process)
}
