//! A running daemon: started in the foreground, awaited by the message that service managers wait for, its log in a
//! file, and stopped with nothing left behind.

use crate::poll;
use crate::processes::{self, Process};
use rustix::process::Signal;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Lines of a log that are shown beside a failure.
const MAX_LINES_SHOWN: usize = 20;

/// A daemon; dropping it stops it.
pub struct Server {
    master: Child,
    log: PathBuf,
    notify: UnixDatagram,
}

impl Server {
    /// Starts `command` with its standard error in `directory`, and waits until it says that it is ready.
    ///
    /// # Panics
    /// When it ends instead; with its log.
    pub fn start(mut command: Command, directory: &Path) -> Server {
        let log = directory.join("log");
        let notify_path = directory.join("notify");
        // Of a server that was here before.
        let _none = fs::remove_file(&notify_path);
        let notify = UnixDatagram::bind(&notify_path).expect("a notification socket");
        fs::set_permissions(&notify_path, fs::Permissions::from_mode(0o666)).expect("its mode");
        notify.set_nonblocking(true).expect("a notification socket");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log file"))
            .env("NOTIFY_SOCKET", &notify_path);
        let master = command.spawn().expect("the server");
        let mut server = Server {
            master,
            log,
            notify,
        };
        server.await_notification("READY=1");
        server
    }

    /// Starts Debian's popa3d, which puts itself into the background and tells nobody.
    ///
    /// # Panics
    /// When it does not listen in the end.
    pub fn start_original(mut command: Command, directory: &Path, address: SocketAddr) -> Server {
        let notify = UnixDatagram::unbound().expect("a socket");
        let log = directory.join("log");
        fs::write(&log, "").expect("a log file");
        let master = command
            .arg("-D")
            .stdin(Stdio::null())
            .spawn()
            .expect("the original");
        poll::until("the original to listen", || {
            TcpStream::connect(address).ok()
        });
        Server {
            master,
            log,
            notify,
        }
    }

    /// The first process of the server.
    pub fn master(&self) -> Process {
        Process::numbered(self.master.id())
    }

    /// All processes of the server, the master first.
    pub fn processes(&self) -> Vec<Process> {
        processes::tree(self.master())
    }

    /// The process whose title is `popa3d: NAME`, awaited; of several, the one that started the others.
    ///
    /// # Panics
    /// When there is none.
    pub fn role(&self, name: &str) -> Process {
        poll::until(name, || self.roles(name).first().copied())
    }

    /// Waits until neither spawner has a child. The search for unfinished updates with which a server begins is one, so a login
    /// has to have been served: it is forked before.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn await_no_children(&self) {
        for role in ["session spawner", "spawner"] {
            let spawner = self.role(role);
            poll::until("the end of a spawner's children", || {
                (processes::tree(spawner) == [spawner]).then_some(())
            });
        }
    }

    /// All processes whose title is `popa3d: NAME`; the kernel keeps 15 octets of it.
    pub fn roles(&self, name: &str) -> Vec<Process> {
        let title = format!("popa3d: {name}");
        let kept = &title[..title.len().min(15)];
        let mut processes = self.processes();
        processes.retain(|process| [title.as_str(), kept].contains(&process.title().as_str()));
        processes
    }

    /// What it has written to standard error, each line without the ident and process number in front.
    pub fn log(&self) -> String {
        let text = String::from_utf8_lossy(&fs::read(&self.log).expect("the log")).into_owned();
        let without_ident = |line: &str| match line.split_once("]: ") {
            Some((ident, rest)) if ident.starts_with("popa3d[") => format!("{rest}\n"),
            _ => format!("{line}\n"),
        };
        text.lines().map(without_ident).collect()
    }

    /// Waits for a line of the log that `matches`.
    ///
    /// # Panics
    /// When none comes, with the log.
    pub fn await_log(&self, awaited: &str, matches: impl Fn(&str) -> bool) -> String {
        let found = || {
            self.log()
                .lines()
                .find(|line| matches(line))
                .map(str::to_owned)
        };
        let end = std::time::Instant::now() + poll::PATIENCE;
        poll::until(awaited, || {
            let line = found();
            let late = std::time::Instant::now() + std::time::Duration::from_secs(1) > end;
            assert!(
                line.is_some() || !late,
                "no {awaited} in the log:\n{}",
                self.log()
            );
            line
        })
    }

    /// Has it read its configuration again, and waits until it has.
    pub fn reload(&mut self) {
        self.master().signal(Signal::HUP);
        self.await_notification("RELOADING=1");
        self.await_notification("READY=1");
    }

    /// Waits for a message to the service manager.
    ///
    /// # Panics
    /// When the server ends, or says nothing, with its log.
    pub fn await_notification(&mut self, wanted: &str) {
        let mut message = [0_u8; 4096];
        let end = std::time::Instant::now() + poll::PATIENCE;
        poll::within(poll::PATIENCE * 2, wanted, || {
            let ended = self.master.try_wait().expect("the state of a child");
            let late = std::time::Instant::now() > end;
            assert!(
                ended.is_none() && !late,
                "no {wanted}; ended: {ended:?}\n{}",
                self.log()
            );
            let octets = self.notify.recv(&mut message).ok()?;
            let text = String::from_utf8_lossy(&message[..octets]);
            text.lines().any(|line| line == wanted).then_some(())
        });
    }

    /// Ends the server as a service manager does, and expects every process of it to be gone.
    ///
    /// # Panics
    /// When one stays.
    pub fn stop(mut self) -> ExitStatus {
        let all = self.processes();
        self.master().signal(Signal::TERM);
        let status = poll::until("the master's end", || {
            self.master.try_wait().expect("its state")
        });
        poll::until("the end of every process", || {
            all.iter()
                .all(|process| !process.is_running())
                .then_some(())
        });
        status
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(MAX_LINES_SHOWN)..];
            eprintln!("the end of the server's log:\n{}", last.join("\n"));
        }
        if self.master.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.master().signal(Signal::TERM);
            for _ in 0..250 {
                if self.master.try_wait().is_ok_and(|ended| ended.is_some()) {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            let _ended = self.master.kill();
            let _ended = self.master.wait();
        }
    }
}
