//! The command line.

use crate::{Outcome, servers, work};
use std::path::PathBuf;

const USAGE: &str = "\
usage: bench/run [OPTIONS]

  --quick              smaller mailboxes, fewer rounds: about two minutes
  --rounds N           rounds of each piece of work (5; for large mailboxes 3)
  --rows NAME,…        only these pieces of work
  --servers NAME,…     only these servers, and ours
  --disk DIRECTORY     where the mail is kept (below the target directory)
  --output FILE        write the table there too
  --program FILE       measure this executable as ours, instead of building it
  --other FILE         measure this build of ours too, as other
  --list               names of the pieces of work and of the servers
";

/// What is to be measured, and where everything is.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Less of everything.
    pub quick: bool,
    /// Rounds, if not as the work wants.
    pub rounds: Option<usize>,
    /// Names of work, all if empty.
    pub rows: Vec<String>,
    /// Names of servers, all if empty.
    pub servers: Vec<String>,
    /// Where mail is kept.
    pub disk: PathBuf,
    /// Where the packages of the rivals are, taken apart.
    pub packages: PathBuf,
    /// Our server's executable.
    pub program: PathBuf,
    /// Another build of our server, to be compared.
    pub other: Option<PathBuf>,
    /// The certificate of every server, PEM.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Where the table goes beside standard output.
    pub output: Option<PathBuf>,
    /// Only tell what there is.
    pub list: bool,
}

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    /// An argument that is not known, or names something unknown; with the usage.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Outcome<Options> {
        let mut options = Options::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let value = arguments.next();
                value.ok_or_else(|| format!("{argument} needs a value\n\n{USAGE}"))
            };
            let names = |list: String| list.split(',').map(str::to_owned).collect::<Vec<_>>();
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--rounds" => options.rounds = Some(value()?.parse()?),
                "--rows" => options.rows = names(value()?),
                "--servers" => options.servers = names(value()?),
                "--disk" => options.disk = value()?.into(),
                "--packages" => options.packages = value()?.into(),
                "--other" => options.other = Some(value()?.into()),
                "--certificate" => options.certificate = value()?.into(),
                "--key" => options.key = value()?.into(),
                "--program" => options.program = value()?.into(),
                "--output" => options.output = Some(value()?.into()),
                "--list" => options.list = true,
                _ => return Err(format!("{argument} is not known\n\n{USAGE}").into()),
            }
        }
        options.check_names()?;
        Ok(options)
    }

    fn check_names(&self) -> Outcome<()> {
        let rows: Vec<_> = work::ALL.iter().map(|work| work.name).collect();
        let servers: Vec<_> = servers::ALL.iter().map(|server| server.name).collect();
        for (given, known) in [(&self.rows, rows), (&self.servers, servers)] {
            if let Some(name) = given.iter().find(|name| !known.contains(&name.as_str())) {
                return Err(format!("{name} is not among {}", known.join(", ")).into());
            }
        }
        Ok(())
    }

    /// Whether work of this name is to be done.
    pub fn wants_work(&self, name: &str) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|row| row == name)
    }

    /// Whether a server is to be measured; ours always is, because the others are compared to it.
    pub fn wants_server(&self, name: &str) -> bool {
        match name {
            servers::OURS => true,
            servers::OTHER => self.other.is_some(),
            _ => self.servers.is_empty() || self.servers.iter().any(|server| server == name),
        }
    }
}
