//! A private machine for tests that need root: its own mounts and its own loopback network, with its own `/etc`,
//! `/var`, `/run`, `/home`, `/dev` and `/dev/log`. Nothing in it is seen outside, so the real machine is left as it was.
//!
//! Namespaces belong to threads, so no helper program is needed: a thread of the test leaves the common namespaces
//! and from then on `std::fs`, `TcpStream` and every child process of that thread are inside.

use crate::{loopback, processes, program::Program, users};
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_bind_recursive, mount_change,
};
use rustix::thread::UnshareFlags;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Devices a program may expect; everything else of `/dev` is left out.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// The server under test, below the staging directory.
const PROGRAM: &str = "bin/popa3d";

/// One private machine; it ends with the thread that made it and the processes started there.
pub struct Machine {
    staging: PathBuf,
    logged: Arc<Mutex<String>>,
}

/// True where a machine can be made: for root that may make namespaces.
pub fn is_possible() -> bool {
    rustix::process::geteuid().is_root()
        && std::thread::spawn(|| leave_common_namespaces().is_ok())
            .join()
            .unwrap_or(false)
}

/// Runs `body` on a new machine, on a thread of its own, and ends whatever is still running there afterwards.
///
/// # Panics
/// With the panic of `body`, or when the machine cannot be made.
pub fn enter<T: Send>(body: impl FnOnce(&Machine) -> T + Send) -> T {
    let program = Program::under_test();
    let staging = tempfile::tempdir().expect("a temporary directory");
    let result = std::thread::scope(|scope| {
        let name = std::thread::current()
            .name()
            .unwrap_or("machine")
            .to_owned();
        std::thread::Builder::new()
            .name(name)
            .spawn_scoped(scope, || {
                let machine = Machine::set_up(staging.path(), &program.path);
                let _sweeper = Sweeper;
                body(&machine)
            })
            .expect("a thread")
            .join()
    });
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Machine {
    fn set_up(staging: &Path, program: &Path) -> Machine {
        leave_common_namespaces().expect("namespaces of our own");
        // Otherwise our mounts would show on the real machine.
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .expect("private mounts");
        loopback::raise().expect("a loopback network");

        tmpfs(staging, "0755");
        for directory in ["etc.new", "etc.work", "bin", "work"] {
            fs::create_dir(staging.join(directory)).expect("staging");
        }
        // The clone may lie where other users cannot look.
        let copy = staging.join(PROGRAM);
        fs::write(&copy, "").expect("staging");
        mount_bind(program, &copy).expect("the program in the machine");

        etc(staging);
        var();
        for place in ["/run", "/home"] {
            tmpfs(Path::new(place), "0755");
        }
        dev(staging);

        let machine = Machine {
            staging: staging.to_owned(),
            logged: collect_syslog(),
        };
        for user in users::PEOPLE {
            machine.home_of(user.name, user.id);
        }
        machine.home_of("operator", users::OPERATOR_ID);
        machine.home_of("reader", users::READER_ID);
        machine
    }

    /// The server under test, where every user can run it.
    pub fn program(&self) -> PathBuf {
        self.staging.join(PROGRAM)
    }

    /// A new directory of `owner`, mode 0700, for the files of one test.
    pub fn directory(&self, name: &str, owner: u32) -> PathBuf {
        let path = self.staging.join("work").join(name);
        fs::create_dir_all(&path).expect("a work directory");
        fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("a work directory");
        chown(&path, Some(owner), Some(owner)).expect("a work directory");
        path
    }

    /// Everything sent to `/dev/log` so far, a line each.
    pub fn syslog(&self) -> String {
        self.logged.lock().expect("the log").clone()
    }

    fn home_of(&self, name: &str, id: u32) {
        let home = Path::new("/home").join(name);
        fs::create_dir(&home).expect("a home");
        chown(&home, Some(id), Some(id)).expect("a home");
        fs::set_permissions(&home, Permissions::from_mode(0o700)).expect("a home");
    }
}

/// Takes what is sent to `/dev/log`, as it comes: a full socket would stop the programs that log.
fn collect_syslog() -> Arc<Mutex<String>> {
    let socket = UnixDatagram::bind("/dev/log").expect("/dev/log");
    fs::set_permissions("/dev/log", Permissions::from_mode(0o666)).expect("/dev/log");
    let logged = Arc::new(Mutex::new(String::new()));
    let log = Arc::clone(&logged);
    std::thread::spawn(move || {
        let mut line = [0_u8; 8192];
        while let Ok(octets @ 1..) = socket.recv(&mut line) {
            let mut log = log.lock().expect("the log");
            log.push_str(&String::from_utf8_lossy(&line[..octets]));
            log.push('\n');
        }
    });
    logged
}

impl Drop for Machine {
    /// Ends the collection, and with its thread the namespaces.
    fn drop(&mut self) {
        let _ended = UnixDatagram::unbound().and_then(|socket| socket.send_to(&[], "/dev/log"));
    }
}

/// Ends what the body left running, also when it panicked.
struct Sweeper;

impl Drop for Sweeper {
    fn drop(&mut self) {
        for process in processes::of_this_machine() {
            process.kill();
        }
    }
}

fn leave_common_namespaces() -> rustix::io::Result<()> {
    #[expect(
        deprecated,
        reason = "it is unsound for UnshareFlags::FILES alone, which is not given here"
    )]
    rustix::thread::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWNET)
}

fn tmpfs(place: &Path, mode: &str) {
    let options = format!("mode={mode}\0");
    let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes()).expect("mount options");
    mount("tmpfs", place, "tmpfs", MountFlags::NOATIME, options)
        .unwrap_or_else(|error| panic!("tmpfs on {}: {error}", place.display()));
}

/// The real `/etc` beneath, our users on top.
fn etc(staging: &Path) {
    let options = format!(
        "lowerdir=/etc,upperdir={0}/etc.new,workdir={0}/etc.work\0",
        staging.display()
    );
    let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes()).expect("mount options");
    mount("overlay", "/etc", "overlay", MountFlags::empty(), options).expect("overlay on /etc");

    let ours = |line: &str| {
        let name = line.split(':').next().unwrap_or_default();
        ["root", "operator", "reader", "toor", "empty", "locked"].contains(&name)
            || users::PEOPLE.iter().any(|user| user.name == name)
            || users::SERVICE.iter().any(|(service, ..)| *service == name)
    };
    let kept = |path: &str| -> String {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        text.lines()
            .filter(|line| !ours(line))
            .map(|line| format!("{line}\n"))
            .collect()
    };
    let (mut passwd, mut shadow, mut group) =
        (kept("/etc/passwd"), kept("/etc/shadow"), kept("/etc/group"));
    let mut add = |name: &str, id: u32, hash: &str| {
        passwd += &format!("{name}:x:{id}:{id}:{name}:/home/{name}:/bin/sh\n");
        shadow += &format!("{name}:{hash}:19700:0:99999:7:::\n");
        group += &format!("{name}:x:{id}:\n");
    };
    add("root", 0, users::ROOT_HASH);
    for user in users::PEOPLE {
        add(user.name, user.id, user.hash);
    }
    add("toor", 0, users::ROOT_HASH);
    add("empty", 5090, "");
    add("locked", 5091, &format!("!{}", users::ALICE.hash));
    add("operator", users::OPERATOR_ID, "*");
    add("reader", users::READER_ID, "*");
    for (name, id, _) in users::SERVICE {
        add(name, id, "*");
    }
    let group: String = group
        .lines()
        .map(|line| with_members(line) + "\n")
        .collect();

    fs::write("/etc/passwd", passwd).expect("/etc/passwd");
    fs::write("/etc/shadow", shadow).expect("/etc/shadow");
    fs::write("/etc/group", group).expect("/etc/group");
    fs::create_dir_all("/etc/pam.d").expect("/etc/pam.d");
    let pam = "auth required pam_unix.so nodelay\naccount required pam_unix.so\n";
    fs::write("/etc/pam.d/popa3d", pam).expect("/etc/pam.d/popa3d");
}

/// A line of `/etc/group` with the server's users added to the groups they belong to.
fn with_members(line: &str) -> String {
    let group = line.split(':').next().unwrap_or_default();
    users::SERVICE
        .iter()
        .filter(|(_, _, groups)| groups.contains(&group))
        .fold(line.to_owned(), |line, (name, ..)| {
            let comma = if line.ends_with(':') { "" } else { "," };
            format!("{line}{comma}{name}")
        })
}

/// `/var` as a mail server finds it: the spool as Debian makes it, an empty directory, a state directory.
fn var() {
    tmpfs(Path::new("/var"), "0755");
    for directory in [
        "mail",
        "empty",
        "lib",
        "lib/popa3d",
        "log",
        "cache",
        "tmp",
        "spool",
    ] {
        fs::create_dir(Path::new("/var").join(directory)).expect("/var");
    }
    symlink("/run", "/var/run").expect("/var/run");
    symlink("../mail", "/var/spool/mail").expect("/var/spool/mail");
    chown("/var/mail", Some(0), Some(mail_group())).expect("/var/mail");
    fs::set_permissions("/var/mail", Permissions::from_mode(0o2775)).expect("/var/mail");
    fs::set_permissions("/var/tmp", Permissions::from_mode(0o1777)).expect("/var/tmp");
}

/// The number of group mail on this machine.
pub fn mail_group() -> u32 {
    fs::read_to_string("/etc/group")
        .expect("/etc/group")
        .lines()
        .find_map(|line| {
            line.strip_prefix("mail:x:")?
                .split(':')
                .next()?
                .parse()
                .ok()
        })
        .expect("group mail")
}

/// A `/dev` of our own, so that `/dev/log` can be made in it.
fn dev(staging: &Path) {
    let new = staging.join("dev");
    fs::create_dir(&new).expect("staging");
    tmpfs(&new, "0755");
    for device in DEVICES {
        let place = new.join(device);
        fs::write(&place, "").expect("a device");
        mount_bind(Path::new("/dev").join(device), &place).expect("a device");
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        symlink(target, new.join(name)).expect("a device");
    }
    for directory in ["shm", "pts"] {
        fs::create_dir(new.join(directory)).expect("a device");
    }
    // Terminals of our own, for clients that want one.
    let options = c"newinstance,ptmxmode=0666,mode=0620";
    mount(
        "devpts",
        new.join("pts"),
        "devpts",
        MountFlags::NOSUID,
        options,
    )
    .expect("/dev/pts");
    symlink("pts/ptmx", new.join("ptmx")).expect("/dev/ptmx");
    mount_bind_recursive(&new, "/dev").expect("/dev");
    rustix::fs::accessat(
        CWD,
        "/dev/null",
        rustix::fs::Access::WRITE_OK,
        rustix::fs::AtFlags::empty(),
    )
    .expect("/dev/null");
}
