//! The master: root where the server is root's. It reads the configuration, opens the listening sockets, starts and
//! supervises the other roles and writes the log. It parses nothing that comes from the network or from mail.
#![forbid(unsafe_code)]

mod certificates;
pub mod command_line;
pub mod configuration;
mod decoy_key;
mod demo;
mod directories;
mod executables;
mod identities;
mod inetd;
pub mod installation;
mod log;
mod roles;
pub mod runner;
mod sockets;
mod supervise;
mod token_files;

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use command_line::{Command, CommandLine, USAGE, VERSION};
use configuration::Configuration;
pub use demo::MakeCertificate;
use executables::Executables;
use identities::Identities;
use log::{Log, Surroundings};
use roles::Roles;
use sockets::Listening;
use supervise::Master;

/// Runs the program as its user started it, with the arguments behind its name.
pub fn run(
    arguments: impl IntoIterator<Item = std::ffi::OsString>,
    make_certificate: MakeCertificate,
) -> ExitCode {
    let Some(line) = CommandLine::parse(arguments) else {
        eprint!("{USAGE}");
        return ExitCode::FAILURE;
    };
    match line.command {
        Command::Version => {
            println!("{VERSION}");
            ExitCode::SUCCESS
        }
        Command::Check => done(check(line.configuration)),
        Command::Inetd => inetd::run(line.configuration),
        Command::Daemon { foreground } => done(daemon(line.configuration, foreground)),
        Command::Demo => done(demo::run(make_certificate)),
    }
}

/// Says on standard error what went wrong.
fn done(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("popa3d: {error}");
            ExitCode::FAILURE
        }
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn read_configuration(path: Option<&PathBuf>) -> Result<Configuration, String> {
    Configuration::read(
        path.map(PathBuf::as_path),
        runner::find().map_err(text)?,
        runner::host_name(),
    )
    .map_err(text)
}

/// Everything that can be known without starting the server: the file, the users, the certificates' files; directories are
/// only named.
fn check(path: Option<PathBuf>) -> Result<(), String> {
    let configuration = read_configuration(path.as_ref())?;
    Identities::look_up(&configuration).map_err(text)?;
    certificates::check(&configuration)?;
    token_files::open_all(&configuration)?;
    eprintln!("popa3d: the configuration is good");
    Ok(())
}

fn daemon(path: Option<PathBuf>, foreground: bool) -> Result<(), String> {
    let configuration = read_configuration(path.as_ref())?;
    let executables = Executables::open()?;
    let start = Start {
        configuration,
        reread: Box::new(move || read_configuration(path.as_ref())),
        executables,
        foreground,
    };
    if foreground {
        start.serve(|_| {})
    } else {
        runner::detach(|ready| start.serve(|_| ready.tell()))
    }
}

/// All that a daemon is started from.
struct Start {
    configuration: Configuration,
    reread: supervise::Reread,
    executables: Executables,
    foreground: bool,
}

impl Start {
    /// The daemon as one sequence: identities, directories, sockets, log, roles, and then until it is told to stop.
    fn serve(self, at_work: impl FnOnce(&[Listening])) -> Result<(), String> {
        let configuration = self.configuration;
        let identities = Identities::look_up(&configuration).map_err(text)?;
        directories::prepare(&configuration, &identities).map_err(text)?;
        let key = decoy_key::of(&configuration.state_directory()).map_err(text)?;
        let mut sockets = sockets::inherited().map_err(text)?;
        if sockets.is_empty() {
            let addresses: Vec<_> = configuration.listen().collect();
            sockets = sockets::bind_all(&addresses, configuration.backlog()).map_err(text)?;
        }
        if sockets.iter().any(|listening| listening.implicit_tls) && !configuration.has_tls() {
            return Err("a socket for TLS was handed over, and [tls] is not configured".into());
        }
        let surroundings = Surroundings {
            stderr_usable: self.foreground,
            foreground: self.foreground,
        };
        let log = Log::open(configuration.log(), surroundings);
        let roles = Roles::new(self.executables, identities, key, self.foreground);
        let mut master = Master::new(
            configuration,
            self.reread,
            surroundings,
            log,
            roles,
            sockets,
        )
        .map_err(text)?;
        master.start()?;
        at_work(master.sockets());
        let result = master.run().map_err(text);
        master.stop();
        result
    }
}
