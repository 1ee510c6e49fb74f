//! A private machine for one server: its own mounts and its own loopback network, with its own `/etc`, `/dev`, `/run`,
//! `/home` and `/var`, and a rival's Debian package laid over `/usr` and `/etc`. The real machine is left as it was.
//!
//! Namespaces belong to threads, so a machine is a thread: what it is given to run, and every thread and process
//! started from there, is inside.

use crate::cgroup::{self, Cgroup};
use crate::{Outcome, accounts};
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change,
};
use rustix::thread::UnshareFlags;
use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

/// Devices a server may expect.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Directories of the machine that are on the disk, and where they appear.
const ON_DISK: [(&str, &str); 3] = [
    ("mail", "/var/mail"),
    ("home", "/home"),
    ("lib", "/var/lib"),
];

/// Lines of a server's log that are kept.
const MAX_LOGGED: usize = 20;

type Logged = Arc<Mutex<VecDeque<String>>>;

type Job = Box<dyn FnOnce() + Send>;

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Names the machine's cgroup and directory.
    pub name: String,
    /// A Debian package taken apart, with `usr` and `etc` in it.
    pub package: Option<PathBuf>,
    /// Mailbox owners.
    pub accounts: Vec<accounts::Account>,
    /// Who owns the mail instead, where all of it belongs to one user.
    pub owner: Option<u32>,
    /// A directory on the disk for mail and what servers keep about it.
    pub disk: PathBuf,
    /// Files to be found in [`Machine::FILES`], and their names there.
    pub files: Vec<(PathBuf, PathBuf)>,
}

/// A machine that is running. Dropping it ends what was started in it.
pub struct Machine {
    /// Holds what [`Machine::start`] started.
    pub cgroup: Cgroup,
    started: Mutex<Vec<Child>>,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    logged: Logged,
    disk: PathBuf,
    staging: PathBuf,
}

impl Machine {
    /// Where the files of the plan are.
    pub const FILES: &str = "/run/files";

    /// Sets up the machine.
    ///
    /// # Errors
    /// What the kernel refuses, first of all to those who are not root.
    pub fn new(plan: Plan) -> Outcome<Machine> {
        let cgroup = Cgroup::new(&plan.name)?;
        let disk = plan.disk.join(&plan.name);
        let staging = Path::new("/tmp").join(format!("{}.{}", cgroup::of_this_run(), plan.name));
        fs::create_dir_all(&disk)?;
        fs::create_dir_all(&staging)?;
        let (jobs, to_do) = mpsc::channel::<Job>();
        let (say_ready, ready) = mpsc::channel();
        let places = (disk.clone(), staging.clone());
        let logged = Logged::default();
        let log = Arc::clone(&logged);
        let thread = std::thread::Builder::new()
            .name(plan.name.clone())
            .spawn(move || {
                let _told = say_ready.send(set_up(&plan, &places.0, &places.1, log));
                for job in to_do {
                    job();
                }
            })?;
        let machine = Machine {
            cgroup,
            started: Mutex::new(Vec::new()),
            jobs: Some(jobs),
            thread: Some(thread),
            logged,
            disk,
            staging,
        };
        ready.recv()??;
        Ok(machine)
    }

    /// Runs `job` inside and returns what it returns.
    ///
    /// # Errors
    /// The job panicked, which ends the machine too.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        let (answer, answered) = mpsc::channel();
        let job: Job = Box::new(move || drop(answer.send(job())));
        self.jobs
            .as_ref()
            .ok_or("the machine has ended")?
            .send(job)
            .map_err(|_| "the machine has ended")?;
        answered.recv().map_err(|_| "a job of the machine failed")?
    }

    /// Starts a command inside, in the machine's cgroup, with nothing of our environment.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, arguments: &[String]) -> Outcome<()> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &self.cgroup.entering(), "sh"])
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(Stdio::null());
        let said = self.disk.join("said");
        let child = self.run(move || {
            let said = fs::File::options().create(true).append(true).open(said)?;
            command.stdout(said.try_clone()?).stderr(said);
            Ok(command.spawn()?)
        })?;
        if let Ok(mut started) = self.started.lock() {
            started.push(child);
        }
        Ok(())
    }

    /// What the programs started inside have written, and the last they have logged.
    pub fn said(&self) -> String {
        let mut said = fs::read_to_string(self.disk.join("said")).unwrap_or_default();
        for line in self.logged.lock().iter().flat_map(|lines| lines.iter()) {
            said.push_str(line);
            said.push('\n');
        }
        said
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.cgroup.kill();
        if let Ok(mut started) = self.started.lock() {
            for child in started.iter_mut() {
                let _status = child.kill().and_then(|()| child.wait());
            }
        }
        // Ends the thread that reads the log.
        let _sent = self.run(|| {
            let socket = UnixDatagram::unbound()?;
            Ok(socket.send_to(&[], "/dev/log")?)
        });
        self.jobs = None;
        let _ended = self.thread.take().map(JoinHandle::join);
        let _left = fs::remove_dir_all(&self.disk);
        let _left = fs::remove_dir_all(&self.staging);
    }
}

fn set_up(plan: &Plan, disk: &Path, staging: &Path, logged: Logged) -> Outcome<()> {
    #[expect(
        deprecated,
        reason = "it is unsound for UnshareFlags::FILES alone, which is not given here"
    )]
    rustix::thread::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWNET)
        .map_err(|error| format!("namespaces of our own (are we root?): {error}"))?;
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", flags)?;
    system_tests::loopback::raise()?;

    tmpfs(staging)?;
    for name in ["etc", "etc.work", "none/usr", "none/etc", "disk", "files"] {
        fs::create_dir_all(staging.join(name))?;
    }
    // What follows covers directories that the disk and the files may be in.
    mount_bind(disk, staging.join("disk"))?;
    for (file, name) in &plan.files {
        let place = staging.join("files").join(name);
        if let Some(directory) = place.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(&place, "")?;
        mount_bind(file, &place)?;
    }

    let none = staging.join("none");
    let package = plan.package.as_deref().unwrap_or(&none);
    overlay("/usr", &format!("lowerdir={}/usr:/usr", package.display()))?;
    let upper = format!("upperdir={0}/etc,workdir={0}/etc.work", staging.display());
    overlay(
        "/etc",
        &format!("lowerdir={}/etc:/etc,{upper}", package.display()),
    )?;
    for place in ["/run", "/var"] {
        tmpfs(Path::new(place))?;
    }
    for name in [
        "mail", "empty", "lib", "log", "cache", "tmp", "spool", "run",
    ] {
        fs::create_dir(Path::new("/var").join(name))?;
    }
    for (name, place) in ON_DISK {
        let directory = staging.join("disk").join(name);
        fs::create_dir(&directory)?;
        mount_bind(&directory, place)?;
    }
    fs::remove_dir("/var/run")?;
    symlink("/run", "/var/run")?;
    symlink("../mail", "/var/spool/mail")?;
    fs::create_dir(Machine::FILES)?;
    mount_bind_recursive(staging.join("files"), Machine::FILES)?;
    fs::create_dir_all("/var/lib/popa3d")?;

    accounts::install(&plan.accounts)?;
    chown("/var/mail", Some(0), Some(accounts::mail_group()?))?;
    // Writable for all, so that every server may make its lock files there.
    fs::set_permissions("/var/mail", Permissions::from_mode(0o3777))?;
    for account in &plan.accounts {
        let home = Path::new("/home").join(&account.name);
        fs::create_dir(&home)?;
        let owner = plan.owner.unwrap_or(account.uid);
        chown(&home, Some(owner), Some(owner))?;
    }
    devices(staging)?;
    swallow_log(logged)
}

fn devices(staging: &Path) -> Outcome<()> {
    let new = staging.join("dev");
    fs::create_dir(&new)?;
    tmpfs(&new)?;
    for device in DEVICES {
        let place = new.join(device);
        fs::write(&place, "")?;
        mount_bind(Path::new("/dev").join(device), &place)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        symlink(target, new.join(name))?;
    }
    fs::create_dir(new.join("shm"))?;
    Ok(mount_bind_recursive(&new, "/dev")?)
}

/// Reads what is sent to `/dev/log`, as a system's logger does: without one, logging would cost a server nothing. The
/// last lines are kept, for when something fails.
fn swallow_log(logged: Logged) -> Outcome<()> {
    let socket = UnixDatagram::bind("/dev/log")?;
    fs::set_permissions("/dev/log", Permissions::from_mode(0o666))?;
    std::thread::spawn(move || {
        let mut line = [0_u8; 8192];
        while let Ok(octets @ 1..) = socket.recv(&mut line) {
            let Ok(mut logged) = logged.lock() else {
                return;
            };
            if logged.len() == MAX_LOGGED {
                logged.pop_front();
            }
            logged.push_back(String::from_utf8_lossy(&line[..octets]).into_owned());
        }
    });
    Ok(())
}

fn tmpfs(place: &Path) -> Outcome<()> {
    mount("tmpfs", place, "tmpfs", MountFlags::NOATIME, c"mode=0755")
        .map_err(|error| format!("tmpfs on {}: {error}", place.display()).into())
}

fn overlay(place: &str, options: &str) -> Outcome<()> {
    let flags = MountFlags::empty();
    mount(
        "overlay",
        place,
        "overlay",
        flags,
        CString::new(options)?.as_c_str(),
    )
    .map_err(|error| format!("overlay on {place} ({options}): {error}").into())
}
