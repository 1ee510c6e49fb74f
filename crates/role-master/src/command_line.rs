//! The command line: what the original took, and a few options more.

use std::ffi::OsString;
use std::path::PathBuf;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// One session on standard input and output (inetd).
    Inetd,
    /// `-D`.
    Daemon {
        /// `-f`: stay in the foreground.
        foreground: bool,
    },
    /// `-t`.
    Check,
    /// `-V`.
    Version,
    /// `--demo`: a server with scratch mail for trying it.
    Demo,
}

/// The whole command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// What to do.
    pub command: Command,
    /// `-c FILE`.
    pub configuration: Option<PathBuf>,
}

/// What standard error gets for a command line that is none of the above; the exit status is 1.
pub const USAGE: &str = "\
usage: popa3d [-c FILE]            serve one session on standard input (inetd)
       popa3d -D [-f] [-c FILE]    be a daemon; -f: stay in the foreground
       popa3d -t [-c FILE]         check the configuration
       popa3d -V                   print the version
       popa3d --demo               serve scratch mail on loopback, to try it
";

/// What `-V` prints.
pub const VERSION: &str = concat!(
    "popa3d version ",
    env!("CARGO_PKG_VERSION"),
    " (2026-11-23)"
);

impl CommandLine {
    /// Takes the arguments behind the program's name; `None` for anything but what [`USAGE`] says.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let (mut daemon, mut foreground, mut check, mut version, mut demo) =
            (false, false, false, false, false);
        let mut configuration = None;
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let once = match argument.to_str()? {
                "-D" => &mut daemon,
                "-f" => &mut foreground,
                "-t" => &mut check,
                "-V" => &mut version,
                "--demo" => &mut demo,
                "-c" if configuration.is_none() => {
                    configuration = Some(PathBuf::from(arguments.next()?));
                    continue;
                }
                _ => return None,
            };
            if std::mem::replace(once, true) {
                return None;
            }
        }
        let command = match (daemon, foreground, check, version, demo) {
            (false, false, false, false, false) => Command::Inetd,
            (true, foreground, false, false, false) => Command::Daemon { foreground },
            (false, false, true, false, false) => Command::Check,
            (false, false, false, true, false) if configuration.is_none() => Command::Version,
            (false, false, false, false, true) if configuration.is_none() => Command::Demo,
            _ => return None,
        };
        Some(Self {
            command,
            configuration,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Option<CommandLine> {
        CommandLine::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn no_option_is_inetd() {
        assert_eq!(parse(&[]).unwrap().command, Command::Inetd);
    }

    #[test]
    fn options_combine_only_as_the_usage_says() {
        let line = parse(&["-D", "-f", "-c", "x.toml"]).unwrap();
        assert_eq!(line.command, Command::Daemon { foreground: true });
        assert_eq!(line.configuration, Some(PathBuf::from("x.toml")));
        for bad in [
            &["-x"][..],
            &["operand"],
            &["-D", "operand"],
            &["-D", "-D"],
            &["-f"],
            &["-c"],
            &["-V", "-D"],
            &["-t", "-D"],
            &["--demo", "-D"],
            &["-c", "a", "-c", "b"],
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
