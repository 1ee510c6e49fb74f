//! Power cuts on a real file system: an image, mounted, of which a random part of what is not synced reaches the disk
//! before the file system is told to forget the rest.
//!
//! Only in a mount name space of its own, and as root.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate};
use tracer::disk;

use system_tests::random::Random;

/// Octets of the image: what mkfs.xfs wants at least. It has holes.
const IMAGE_OCTETS: u64 = 320 * 1024 * 1024;

/// What reaches the disk by itself does so in pages.
const PAGE: u64 = 4096;

/// The shares of them that do, in percent: nothing and everything among them.
const SHARES: [usize; 5] = [0, 10, 50, 90, 100];

/// A file system commits of its own accord before one of so many power cuts.
const TIMES_BETWEEN_COMMITS: usize = 4;

/// A process that has just been killed may keep the file system busy for so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A file system in an image.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mounted: PathBuf,
}

impl Disk {
    /// Makes one of this kind (`ext4`, `xfs` or `tmpfs`) in `directory`, and mounts it. Of a tmpfs nothing is left after a
    /// power cut.
    ///
    /// # Errors
    /// There is no such mkfs, or mounting is not possible.
    pub fn new(directory: &Path, kind: &str) -> io::Result<Self> {
        let disk = Self {
            image: directory.join("image"),
            mounted: directory.join("mounted"),
        };
        fs::create_dir(&disk.mounted)?;
        if kind == "tmpfs" {
            let mut command = Command::new("mount");
            command.args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]);
            run(command.arg(&disk.mounted))?;
            return Ok(disk);
        }
        File::create(&disk.image)?.set_len(IMAGE_OCTETS)?;
        run(Command::new(format!("mkfs.{kind}"))
            .arg("-q")
            .arg(&disk.image))?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    /// Cuts the power: of the dirty pages of `files` a random part has been written by then, of the rest nothing; sometimes
    /// the file system had just written everything of its own accord. Then the power is back.
    ///
    /// # Errors
    /// Something else than the wanted failed.
    pub fn cut(&self, files: &[&Path], random: &mut Random) -> io::Result<()> {
        let share = SHARES[random.below(SHARES.len())];
        for path in files {
            let file = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            let mut pages: Vec<u64> = (0..file.metadata()?.len().div_ceil(PAGE)).collect();
            pages.retain(|_| random.below(100) < share);
            for left in (1..pages.len()).rev() {
                pages.swap(left, random.below(left + 1));
            }
            for page in pages {
                disk::write_back(&file, page * PAGE, PAGE)?;
            }
        }
        if random.once_in(TIMES_BETWEEN_COMMITS) {
            rustix::fs::syncfs(File::open(&self.mounted)?)?;
        }
        disk::shut_down(&File::open(&self.mounted)?)?;
        self.unmount()?;
        self.mount()
    }

    /// Fills it to the last octet that a user can have.
    ///
    /// # Errors
    /// Something else than the wanted failed.
    pub fn fill(&self) -> io::Result<()> {
        let filler = File::create(self.mounted.join("filler"))?;
        let mut at = 0;
        for octets in [64 << 20, 1 << 20, PAGE] {
            while fallocate(&filler, FallocateFlags::empty(), at, octets).is_ok() {
                at += octets;
            }
        }
        let _ = filler.sync_all();
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// What the system says.
    pub fn make_room(&self) -> io::Result<()> {
        fs::remove_file(self.mounted.join("filler"))
    }

    fn mount(&self) -> io::Result<()> {
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&self.image)
            .arg(&self.mounted))
    }

    fn unmount(&self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let unmounted = run(Command::new("umount").arg(&self.mounted));
            if unmounted.is_ok() || Instant::now() > deadline {
                return unmounted;
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.unmount();
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?}: {said}")))
}
