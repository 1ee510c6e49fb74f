//! Where lines go: syslog's socket, the journal's socket, or standard error.
//!
//! Both sockets take datagrams and are connected anew when sending fails, so that a restarted log daemon is found again.
//! A line is never waited for.

use std::io::Write;
use std::os::unix::net::UnixDatagram;

use messages::log::Level;
use rustix::fs::fstat;

use crate::configuration::file::{Log as LogConfiguration, LogTarget};

const SYSLOG_SOCKET: &str = "/dev/log";
const JOURNALD_SOCKET: &str = "/run/systemd/journal/socket";

/// What the master knows of where it runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings {
    /// Standard error is the operator's, not a client's connection (as inetd makes it) and not closed.
    pub stderr_usable: bool,
    /// The server stays in the foreground, where somebody may be looking.
    pub foreground: bool,
}

/// An open target.
#[derive(Debug)]
pub struct Target {
    kind: LogTarget,
    socket: Option<UnixDatagram>,
    stderr_usable: bool,
}

impl Target {
    /// Opens the configured target, or chooses one.
    pub fn open(configuration: &LogConfiguration, surroundings: Surroundings) -> Self {
        let kind = configuration
            .target
            .unwrap_or_else(|| suitable(surroundings));
        let mut target = Self {
            kind,
            socket: None,
            stderr_usable: surroundings.stderr_usable,
        };
        target.connect();
        target
    }

    /// Writes one line, which holds no line end.
    pub fn write(&mut self, configuration: &LogConfiguration, level: Level, pid: u32, line: &str) {
        let severity = match level {
            Level::Error => 3,
            Level::Warning => 4,
            Level::Info => 6,
        };
        let facility = configuration.facility as u8;
        let ident = &configuration.ident;
        match self.kind {
            // Without a time stamp: the log daemon takes the time of arrival, which is right in every time zone.
            LogTarget::Syslog => self.send(
                format!("<{}>{ident}[{pid}]: {line}", facility * 8 + severity).as_bytes(),
                line,
            ),
            LogTarget::Journald => self.send(
                format!(
                    "PRIORITY={severity}\nSYSLOG_FACILITY={facility}\nSYSLOG_IDENTIFIER={ident}\nSYSLOG_PID={pid}\nMESSAGE={line}\n"
                )
                .as_bytes(),
                line,
            ),
            LogTarget::Stderr => self.write_stderr(&format!("{ident}[{pid}]: {line}\n")),
        }
    }

    fn connect(&mut self) {
        let path = match self.kind {
            LogTarget::Syslog => SYSLOG_SOCKET,
            LogTarget::Journald => JOURNALD_SOCKET,
            LogTarget::Stderr => return,
        };
        self.socket = UnixDatagram::unbound()
            .and_then(|socket| {
                socket.connect(path)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            })
            .ok();
    }

    /// Sends the datagram; where there is no log daemon, the line is better on standard error than nowhere.
    fn send(&mut self, datagram: &[u8], line: &str) {
        for _ in 0..2 {
            match self.socket.as_ref().map(|socket| socket.send(datagram)) {
                Some(Ok(_)) => return,
                Some(Err(error)) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                _ => self.connect(),
            }
        }
        self.write_stderr(&format!("{line}\n"));
    }

    fn write_stderr(&self, line: &str) {
        if self.stderr_usable {
            // Nobody could be told of a failure.
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }
}

/// systemd says in `JOURNAL_STREAM` which pipe is the journal's; a foreground server speaks to who started it; all
/// others to syslog, as popa3d always did.
fn suitable(surroundings: Surroundings) -> LogTarget {
    if surroundings.stderr_usable
        && let Ok(stream) = std::env::var("JOURNAL_STREAM")
        && let Ok(stat) = fstat(std::io::stderr())
        && stream == format!("{}:{}", stat.st_dev, stat.st_ino)
    {
        return LogTarget::Journald;
    }
    if surroundings.foreground && surroundings.stderr_usable {
        LogTarget::Stderr
    } else {
        LogTarget::Syslog
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::file::{Facility, LogFormat};

    #[test]
    fn a_syslog_line_carries_facility_severity_ident_and_pid() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let mut target = Target {
            kind: LogTarget::Syslog,
            socket: Some(ours),
            stderr_usable: false,
        };
        let configuration = LogConfiguration {
            target: Some(LogTarget::Syslog),
            format: LogFormat::Text,
            ident: "popa3d".into(),
            facility: Facility::Daemon,
        };
        target.write(&configuration, Level::Info, 42, "login: user=alice");
        let mut datagram = [0; 256];
        let length = theirs.recv(&mut datagram).unwrap();
        assert_eq!(&datagram[..length], b"<30>popa3d[42]: login: user=alice");
    }
}
