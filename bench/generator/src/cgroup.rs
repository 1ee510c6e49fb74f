//! What a server costs, as the kernel counts it: a cgroup holds the server's processes and all their descendants, so
//! the processor time of forks that have ended, and of those nobody waited for, is in the sum.

use crate::Outcome;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Processor time that stays the same for this long: the server has done what there was to do.
const QUIET: Duration = Duration::from_millis(20);

/// The longest wait for that; a server that never rests is measured as it is.
const MAX_UNREST: Duration = Duration::from_secs(2);

/// The longest wait for killed processes to be gone.
const MAX_DYING: Duration = Duration::from_secs(20);

/// A cgroup (version 2) of our own; dropping it kills what is inside.
#[derive(Debug)]
pub struct Cgroup {
    directory: PathBuf,
}

impl Cgroup {
    /// Makes the cgroup `name` below ours.
    ///
    /// # Errors
    /// There is no cgroup file system of version 2, or we may not write to it.
    pub fn new(name: &str) -> Outcome<Cgroup> {
        let directory = mounted_at()?.join(of_this_run()).join(name);
        fs::create_dir_all(&directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        Ok(Cgroup { directory })
    }

    /// A shell script that enters the cgroup and becomes the command given as its arguments.
    pub fn entering(&self) -> String {
        let procs = self.directory.join("cgroup.procs");
        format!("echo $$ >'{}' && exec \"$@\"", procs.display())
    }

    /// Processor time, user and system, of everything that ever ran inside.
    pub fn cpu(&self) -> Duration {
        let text = self.read("cpu.stat");
        let used = text
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "));
        Duration::from_micros(used.and_then(|used| used.parse().ok()).unwrap_or(0))
    }

    /// Waits until the processes inside use no more processor time.
    pub fn settle(&self) {
        let end = Instant::now() + MAX_UNREST;
        let mut before = self.cpu();
        loop {
            std::thread::sleep(QUIET);
            let now = self.cpu();
            if now == before || Instant::now() > end {
                return;
            }
            before = now;
        }
    }

    /// Memory of the processes inside, shared pages divided among those who share them, in octets.
    pub fn pss(&self) -> u64 {
        let of_process = |pid: &str| -> u64 {
            let rollup =
                fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let kib = rollup.lines().find_map(|line| {
                let value = line.strip_prefix("Pss:")?;
                value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
            });
            kib.unwrap_or(0) * 1024
        };
        self.read("cgroup.procs").lines().map(of_process).sum()
    }

    /// Processes inside.
    pub fn processes(&self) -> usize {
        self.read("cgroup.procs").lines().count()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.directory.join(file)).unwrap_or_default()
    }

    /// Kills all processes inside and waits until they are gone.
    pub fn kill(&self) {
        let end = Instant::now() + MAX_DYING;
        let _gone = fs::write(self.directory.join("cgroup.kill"), "1");
        while self.processes() > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.kill();
        let end = Instant::now() + MAX_DYING;
        while fs::remove_dir(&self.directory).is_err() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        // Succeeds for the last one.
        let _others = self.directory.parent().map(fs::remove_dir);
    }
}

/// Names what this run makes on the machine; `bench/run` chooses it, so that it can remove what a killed generator left.
pub fn of_this_run() -> String {
    std::env::var("BENCH_CGROUP").unwrap_or_else(|_| format!("popa3d-bench.{}", std::process::id()))
}

fn mounted_at() -> Outcome<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mount = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ")
            .then(|| place.split(' ').nth(4))?
    });
    let mount = mount.ok_or("no cgroup file system of version 2 is mounted")?;
    Ok(Path::new(mount).to_owned())
}
