//! A mailbox and its journal in a directory, the user they belong to, and the program that works on them.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tracer::faults::{self, Fault, Run};

use crate::shapes::Shape;

/// Whose mailbox it is where the tests run as root: the program refuses root's.
const USER: u32 = 12_345;

/// Octets of the journal before its plan.
const SLOTS: usize = 2 * 4096;

/// One mailbox and its journal.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    driver: PathBuf,
    batch: u64,
}

/// What the program did.
#[derive(Debug)]
pub struct Outcome {
    /// As seen by the tracer.
    pub run: Run,
    /// It reported that all is done.
    pub done: bool,
    /// What it said.
    pub said: String,
}

impl Place {
    /// In an existing directory, which is given to the user; `driver` is the program.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn new(directory: &Path, driver: &Path, batch: u64) -> io::Result<Self> {
        for name in ["mail", "state", "elsewhere"] {
            fs::create_dir_all(directory.join(name))?;
            own(&directory.join(name))?;
        }
        fs::set_permissions(directory, Permissions::from_mode(0o755))?;
        Ok(Self {
            directory: directory.to_owned(),
            driver: driver.to_owned(),
            batch,
        })
    }

    /// The same with batches of another size.
    pub fn set_batch(&mut self, batch: u64) {
        self.batch = batch;
    }

    /// The mailbox.
    pub fn mailbox(&self) -> PathBuf {
        self.directory.join("mail/box")
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.directory.join("state/journal")
    }

    /// Makes `content` the mailbox, with a new journal.
    ///
    /// # Errors
    /// What the system says.
    pub fn reset(&self, content: &[u8]) -> io::Result<()> {
        let other_name = self.directory.join("elsewhere/box");
        for path in [&self.mailbox(), &other_name] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        for entry in fs::read_dir(self.directory.join("state"))? {
            fs::remove_file(entry?.path())?;
        }
        for (path, content) in [(self.mailbox(), content), (self.journal(), b"")] {
            fs::write(&path, content)?;
            own(&path)?;
        }
        // All before is not what is tried.
        Ok(rustix::fs::syncfs(File::open(&self.directory)?)?)
    }

    /// Delivers mail as a delivery agent does: appends and syncs.
    ///
    /// # Errors
    /// What the system says.
    pub fn deliver(&self, mail: &[u8]) -> io::Result<()> {
        if mail.is_empty() {
            return Ok(());
        }
        let mut mailbox = File::options().append(true).open(self.mailbox())?;
        mailbox.write_all(mail)?;
        mailbox.sync_all()
    }

    /// Opens the mailbox and deletes what the shape says, with something going wrong.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn update(&self, shape: &Shape, fault: Option<(usize, Fault)>) -> io::Result<Outcome> {
        let deleted: Vec<String> = shape.deleted.iter().map(usize::to_string).collect();
        let mut command = self.command("update");
        command.arg(deleted.join(","));
        if !shape.early.is_empty() {
            let early = self.directory.join("elsewhere/early");
            fs::write(&early, &shape.early)?;
            command.arg(early).arg(self.directory.join("elsewhere/box"));
        }
        self.run(command, fault)
    }

    /// Opens the mailbox, with something going wrong.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn open(&self, fault: Option<(usize, Fault)>) -> io::Result<Outcome> {
        self.run(self.command("open"), fault)
    }

    fn command(&self, what: &str) -> Command {
        let mut command = command_for(&self.driver);
        command.arg(what).arg(self.mailbox()).arg(self.journal());
        command.arg(self.batch.to_string());
        command
    }

    fn run(&self, command: Command, fault: Option<(usize, Fault)>) -> io::Result<Outcome> {
        let watched = [
            &*self.directory.join("mail"),
            &*self.directory.join("state"),
        ];
        run(command, |command| {
            faults::run(command, &watched, fault, false)
        })
    }

    /// What is wrong with the journal of a mailbox in order, if anything.
    ///
    /// # Errors
    /// What the system says.
    pub fn complaint(&self) -> io::Result<Option<String>> {
        let octets = match fs::read(self.journal()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let journal = File::open(self.journal());
        let unfinished = journal.map(|journal| maildrop::Journal::unfinished(&journal));
        Ok(if octets.len() as u64 > maildrop::KEPT_OCTETS {
            Some(format!("the journal keeps {} octets", octets.len()))
        } else if octets.iter().skip(SLOTS).any(|&octet| octet != 0) {
            Some("the journal keeps mail".to_owned())
        } else if matches!(unfinished, Ok(Ok(Some(_)))) {
            Some("the journal is unfinished".to_owned())
        } else if self.directory.join("state/journal.aside").exists() {
            Some("the journal was set aside".to_owned())
        } else {
            None
        })
    }
}

/// The program, as the user.
pub(crate) fn command_for(driver: &Path) -> Command {
    let mut command = Command::new(driver);
    if rustix::process::geteuid().is_root() {
        command.uid(USER).gid(USER);
    }
    command.env_clear().stdin(Stdio::null());
    command
}

/// Runs the program and hears what it says.
pub(crate) fn run(
    mut command: Command,
    trace: impl FnOnce(&mut Command) -> io::Result<Run>,
) -> io::Result<Outcome> {
    let (mut reader, writer) = io::pipe()?;
    command.stdout(writer);
    let run = trace(&mut command)?;
    drop(command);
    let said = io::read_to_string(&mut reader)?;
    Ok(Outcome {
        done: said.starts_with("done"),
        run,
        said,
    })
}

/// The user.
pub(crate) fn owner() -> u32 {
    match rustix::process::geteuid() {
        user if user.is_root() => USER,
        user => user.as_raw(),
    }
}

/// Gives a file to the user.
pub(crate) fn own(path: &Path) -> io::Result<()> {
    match rustix::process::geteuid().is_root() {
        true => chown(path, Some(USER), Some(USER)),
        false => Ok(()),
    }
}
