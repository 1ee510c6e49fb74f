//! One session for a connection that inetd accepted: the same roles as the daemon's, without a listener.
//!
//! The master stays until the connection's last process has let go of the lease, to write down what they log.

use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use confine::channel::ChannelError;
use confine::socket;
use messages::keyholder::{Certificate, CertificateNumber};
use messages::log::Record;
use messages::role::{Report, Role};
use messages::session::{Connection, SessionId, ToSessionSpawner, apop_timestamp};
use rustix::fs::{FileType, fstat};

use crate::certificates::Certificates;
use crate::configuration::Configuration;
use crate::executables::Executables;
use crate::identities::Identities;
use crate::log::{Log, Surroundings};
use crate::roles::{Roles, Said};
use crate::supervise::{drain, receive_logs, wait_readable};
use crate::{decoy_key, directories, read_configuration, runner, text};

/// The keyholder reads its files within this time, or there is no session.
const LOAD_TIMEOUT: Duration = Duration::from_secs(20);

/// What the roles may still have to log once the connection has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The client on standard input and output.
struct Client {
    input: OwnedFd,
    /// Where input is a pipe, which goes one way only.
    output: Option<OwnedFd>,
}

/// Serves the connection on standard input.
pub fn run(path: Option<PathBuf>) -> ExitCode {
    let executables = Executables::open();
    // Relative to the directory that inetd started us in.
    let (client, stderr_usable) = match take_standard_descriptors() {
        Ok(taken) => taken,
        Err(error) => {
            eprintln!("popa3d: standard input: {error}");
            return ExitCode::FAILURE;
        }
    };
    let surroundings = Surroundings {
        stderr_usable,
        foreground: false,
    };
    let configuration = match read_configuration(path.as_ref()) {
        Ok(configuration) => configuration,
        Err(error) => {
            let mut log = Log::open(&Default::default(), surroundings);
            return refuse(&client, &mut log, &error);
        }
    };
    let mut log = Log::open(configuration.log(), surroundings);
    let served =
        executables.and_then(|executables| serve(&configuration, executables, &client, &mut log));
    match served {
        Ok((lease, roles)) => {
            drop(client);
            attend(lease, roles, log);
            ExitCode::SUCCESS
        }
        Err(error) => refuse(&client, &mut log, &error),
    }
}

/// The client is told that it is not its fault, the log what it is.
fn refuse(client: &Client, log: &mut Log, error: &str) -> ExitCode {
    log.own(&Record::error("no session").with("reason", error));
    let output = client.output.as_ref().unwrap_or(&client.input);
    // A client that has gone does not miss it.
    if let Ok(output) = output.try_clone() {
        let _ = std::fs::File::from(output).write_all(b"-ERR [SYS/TEMP] Service not available\r\n");
    }
    ExitCode::FAILURE
}

/// Starts the roles and gives the connection away. What is returned is the end of the lease, and the roles.
fn serve(
    configuration: &Configuration,
    executables: Executables,
    client: &Client,
    log: &mut Log,
) -> Result<(PipeReader, Roles), String> {
    let identities = Identities::look_up(configuration).map_err(text)?;
    directories::prepare(configuration, &identities).map_err(text)?;
    let key = decoy_key::of(&configuration.state_directory()).map_err(text)?;
    let mut roles = Roles::new(executables, identities, key, false);
    let mut certificates = Certificates::default();
    for role in configuration.roles().filter(|&role| role != Role::Listener) {
        roles
            .start(role, configuration, &[], &mut certificates)
            .map_err(|error| format!("{}: {error}", role.name()))?;
        if role == Role::Keyholder {
            await_certificates(&mut certificates, &mut roles, log)?;
        }
    }
    let (end, lease) = io::pipe().map_err(text)?;
    let listener = configuration.listener();
    let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let id = SessionId(u64::from(std::process::id()));
    let connection = Connection {
        id,
        peer: socket::peer_address(client.input.as_fd()),
        local: socket::local_address(client.input.as_fd()),
        implicit_tls: false,
        apop_timestamp: listener
            .apop_host
            .map(|host| apop_timestamp(&host, id, since_epoch)),
        greeted: false,
        time_left: listener.login_timeout,
        separate_output: client.output.is_some(),
        yields: false,
    };
    log.own(
        &Record::info("connection")
            .with("session", id)
            .with_some("peer", connection.peer),
    );
    let mut descriptors: Vec<BorrowedFd<'_>> = vec![client.input.as_fd()];
    descriptors.extend(client.output.as_ref().map(AsFd::as_fd));
    descriptors.push(lease.as_fd());
    roles
        .find(Role::SessionSpawner)
        .ok_or("no session spawner")?
        .control
        .send(&ToSessionSpawner::Only(connection), &descriptors)
        .map_err(text)?;
    Ok((end, roles))
}

/// What the keyholder reads of the certificates, the session spawner needs.
fn await_certificates(
    certificates: &mut Certificates,
    roles: &mut Roles,
    log: &mut Log,
) -> Result<(), String> {
    let deadline = Instant::now() + LOAD_TIMEOUT;
    while certificates.is_awaited() {
        let keyholder = roles.find(Role::Keyholder).ok_or("keyholder: ended")?;
        let left = deadline.saturating_duration_since(Instant::now());
        let ready = wait_readable([keyholder.control.as_fd()].into_iter(), Some(left));
        if ready.map_err(text)?.is_empty() {
            return Err("keyholder: does not start".into());
        }
        if let Some((number, outcome)) = hear(Role::Keyholder, roles, log) {
            certificates.loaded(number, outcome);
        }
    }
    certificates
        .take_complaints()
        .into_iter()
        .next()
        .map_or(Ok(()), Err)
}

/// Writes down what the roles log until the connection has ended and they have.
fn attend(lease: PipeReader, mut roles: Roles, mut log: Log) {
    loop {
        let fds = std::iter::once(lease.as_fd())
            .chain(roles.running.iter().map(|running| running.control.as_fd()))
            .chain(roles.logs.iter().map(|log| log.channel.as_fd()));
        let before_logs = 1 + roles.running.len();
        let Ok(ready) = wait_readable(fds, None) else {
            break;
        };
        let logs: Vec<usize> = ready
            .iter()
            .filter_map(|at| at.checked_sub(before_logs))
            .collect();
        receive_logs(&mut log, &mut roles, &logs);
        for role in Role::ALL {
            hear(role, &mut roles, &mut log);
        }
        // Auth notes the login in it, once; what counts here is the end.
        if ready.contains(&0) && !matches!((&lease).read(&mut [0]), Ok(1..)) {
            break;
        }
    }
    roles.running.clear();
    drain(&mut log, &mut roles, Some(Instant::now() + LAST_WORDS));
}

/// Takes what a role has to say, if it has; what the keyholder has loaded is returned.
fn hear(
    role: Role,
    roles: &mut Roles,
    log: &mut Log,
) -> Option<(CertificateNumber, Result<Certificate, String>)> {
    let failure = match roles.find(role)?.hear() {
        Ok(None) => return None,
        Ok(Some(Said::Loaded(number, outcome))) => return Some((number, outcome)),
        Ok(Some(Said::Report(Report::Ready { missing }))) => {
            for protection in missing {
                log.own(
                    &Record::warning("protection missing")
                        .with("role", role.name())
                        .with("what", protection),
                );
            }
            return None;
        }
        Ok(Some(Said::Report(Report::Failed { reason }))) => Some(reason),
        // The session spawner has become the session, which has nothing to say to us.
        Err(ChannelError::Closed) => None,
        Err(error) => Some(error.to_string()),
    };
    if let Some(reason) = failure {
        log.own(
            &Record::error("role failed")
                .with("role", role.name())
                .with("reason", reason),
        );
    }
    roles.remove(role);
    None
}

/// Takes the client from standard input and output and puts /dev/null there, so that nothing that writes to them can
/// reach the client. Tells besides whether standard error was something else than the client.
fn take_standard_descriptors() -> io::Result<(Client, bool)> {
    let input = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    let input_stat = fstat(&input)?;
    let same = |fd: BorrowedFd<'_>| {
        fstat(fd)
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (input_stat.st_dev, input_stat.st_ino))
    };
    let output = if FileType::from_raw_mode(input_stat.st_mode) == FileType::Socket {
        None
    } else {
        Some(rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?)
    };
    let output_stat = output.as_ref().map(fstat).transpose()?;
    let stderr_usable = fstat(io::stderr()).is_ok_and(|stat| {
        !same(io::stderr().as_fd())
            && output_stat
                .is_none_or(|output| (output.st_dev, output.st_ino) != (stat.st_dev, stat.st_ino))
    });
    if stderr_usable {
        let null = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        rustix::stdio::dup2_stdin(null.as_fd())?;
        rustix::stdio::dup2_stdout(null.as_fd())?;
    } else {
        runner::give_up_standard_descriptors()?;
    }
    Ok((Client { input, output }, stderr_usable))
}
