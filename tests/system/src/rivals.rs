//! Other people's servers on the private machine, as Debian ships them: installed, or taken apart by `tests/run` and laid
//! over the machine's own `/usr`, since their paths are compiled in. They all listen on 127.0.0.1, port 110.

use crate::certificates::{Authority, Kind};
use crate::machine::Machine;
use crate::processes::{self, Process};
use crate::users::{PEOPLE, User};
use crate::{poll, program};
use rustix::process::Signal;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where they listen; Dovecot in TLS too, on port 995.
pub const ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 110);

/// Logs in for everybody at Dovecot, as `alice*master`, by Alice's password.
pub const MASTER: &str = "master";

/// Courier's own user, which its packages would make.
const COURIER_ID: u32 = 5110;

/// A running server; dropping it ends it.
pub struct Rival {
    processes: Vec<Child>,
    /// The command line of one that has put itself into the background.
    background: Option<String>,
}

impl Drop for Rival {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // So that its own processes end too.
            Process::numbered(process.id()).signal(Signal::TERM);
            let _ended = process.wait();
        }
        for process in processes::of_this_machine() {
            if self.background == Some(process.command_line()) {
                process.kill();
            }
        }
        // It may have children that listen still.
        if !std::thread::panicking() {
            poll::until("the port to be free", || {
                TcpStream::connect(SocketAddr::from(ADDRESS)).err()
            });
        }
    }
}

/// Debian's popa3d with the system's users; `None` where it is not there.
pub fn popa3d() -> Option<Rival> {
    let path = program::Program::original()?.path;
    let server = Command::new(&path).arg("-D").stdin(Stdio::null()).spawn();
    let mut starter = server.expect("popa3d");
    let _started = starter.wait();
    listening("popa3d");
    Some(Rival {
        processes: Vec::new(),
        background: Some(format!("{} -D", path.display())),
    })
}

/// Dovecot with the people's mail at `location`, and a certificate of `authority`; `None` where it is not there.
pub fn dovecot(machine: &Machine, location: &str, authority: &Authority) -> Option<Rival> {
    overlay("usr/sbin/dovecot", "usr/lib/dovecot/pop3-login")?;
    let directory = machine.directory("dovecot", 0);
    let at = |name: &str| directory.join(name).display().to_string();
    fs::set_permissions(&directory, Permissions::from_mode(0o755)).expect("a mode");
    // A second start finds what the first has made.
    fs::create_dir_all(directory.join("run")).expect("a directory");
    let pair = authority.issue("dovecot", &["127.0.0.1"], Kind::P256, 30, 0);
    let line = |user: User| {
        let User {
            name, id, password, ..
        } = user;
        format!("{name}:{{PLAIN}}{password}:{id}:{id}::/home/{name}::\n")
    };
    fs::write(directory.join("passwd"), PEOPLE.map(line).concat()).expect("a file");
    let master = format!("{MASTER}:{{PLAIN}}{}\n", PEOPLE[0].password);
    fs::write(directory.join("masters"), master).expect("a file");
    let configuration = format!(
        "base_dir = {run}\nstate_dir = {run}\nlog_path = {log}\nprotocols = pop3\nlisten = 127.0.0.1\n\
         default_internal_user = nobody\ndefault_internal_group = nogroup\ndefault_login_user = nobody\n\
         auth_mechanisms = plain login\ndisable_plaintext_auth = no\n\
         ssl = yes\nssl_cert = <{certificate}\nssl_key = <{key}\n\
         auth_master_user_separator = *\n\
         passdb {{\n driver = passwd-file\n args = scheme=PLAIN {masters}\n master = yes\n}}\n\
         passdb {{\n driver = passwd-file\n args = scheme=PLAIN {passwd}\n}}\n\
         userdb {{\n driver = passwd-file\n args = {passwd}\n}}\n\
         mail_location = {location}\nmbox_write_locks = fcntl\nmail_privileged_group = mail\n\
         service pop3-login {{\n chroot =\n}}\n\
         service anvil {{\n chroot =\n unix_listener anvil-auth-penalty {{\n mode = 0\n }}\n}}\n",
        run = at("run"),
        log = at("log"),
        certificate = pair.certificate.display(),
        key = pair.key.display(),
        passwd = at("passwd"),
        masters = at("masters"),
    );
    fs::write(directory.join("dovecot.conf"), configuration).expect("a file");
    let master = Command::new("/usr/sbin/dovecot")
        .args(["-F", "-c", &at("dovecot.conf")])
        .stdin(Stdio::null())
        .spawn();
    let rival = Rival {
        processes: vec![master.expect("dovecot")],
        background: None,
    };
    listening("Dovecot");
    Some(rival)
}

/// Courier with the Maildirs in the people's homes; `None` where it is not there.
pub fn courier() -> Option<Rival> {
    let root = overlay(
        "usr/lib/courier/courier/courierpop3d",
        "usr/lib/courier/courier-authlib/authdaemond",
    )?;
    let line = |file: &str, line: String| {
        let opened = OpenOptions::new().append(true).open(file);
        opened
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("a line");
    };
    line(
        "/etc/passwd",
        format!("courier:x:{COURIER_ID}:{COURIER_ID}::/:/bin/false\n"),
    );
    line("/etc/group", format!("courier:x:{COURIER_ID}:\n"));
    fs::write(
        "/etc/pam.d/pop3",
        "auth required pam_unix.so nodelay\naccount required pam_unix.so\nsession required pam_unix.so\n",
    )
    .expect("a file");
    fs::create_dir_all("/etc/courier").expect("a directory");
    for name in ["authdaemonrc", "pop3d"] {
        let from = root.join("etc/courier").join(name);
        let settings = fs::read(&from).expect("Courier's settings");
        fs::write(Path::new("/etc/courier").join(name), settings).expect("a file");
    }
    for directory in [
        "/run/courier",
        "/run/courier/authdaemon",
        "/var/lib/courier",
    ] {
        fs::create_dir_all(directory).expect("a directory");
        chown(directory, Some(COURIER_ID), Some(COURIER_ID)).expect("an owner");
    }
    // As the packages' scripts start them, in the foreground.
    let start = |script: &str| {
        let shell = Command::new("/bin/sh")
            .args(["-c", script])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        shell.expect("a shell")
    };
    let authentication = start(
        "set -a; . /etc/courier/authdaemonrc; exec /usr/lib/courier/courier-authlib/authdaemond",
    );
    poll::until("Courier's authentication daemon", || {
        Path::new("/run/courier/authdaemon/socket")
            .exists()
            .then_some(())
    });
    let server = start(
        "set -a; . /etc/courier/pop3d; exec /usr/sbin/couriertcpd -address=127.0.0.1 -maxprocs=40 -maxperip=40 \
         -nodnslookup -noidentlookup 110 /usr/lib/courier/courier/courierpop3login \
         /usr/lib/courier/courier/courierpop3d Maildir",
    );
    let rival = Rival {
        processes: vec![server, authentication],
        background: None,
    };
    listening("Courier");
    Some(rival)
}

fn listening(name: &str) {
    poll::until(name, || TcpStream::connect(SocketAddr::from(ADDRESS)).ok());
}

/// Where the package of `files` lies, laid over `/usr` if that is not where it belongs.
fn overlay(first: &str, second: &str) -> Option<PathBuf> {
    let found = program::debian(first)?;
    program::debian(second)?;
    let root = found
        .ancestors()
        .nth(Path::new(first).components().count())?;
    if root != Path::new("/") && !Path::new("/").join(first).exists() {
        let lower = format!("lowerdir={}:/usr", root.join("usr").display());
        let mount = Command::new("mount")
            .args(["-t", "overlay", "-o", &lower, "overlay", "/usr"])
            .status();
        assert!(
            mount.is_ok_and(|status| status.success()),
            "cannot mount {lower}"
        );
    }
    Some(root.to_owned())
}
