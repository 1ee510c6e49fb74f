//! `popa3ctl user`: the lines of a users file (docs/users-file.md), each with a verifier made here.
//!
//! A password comes from the terminal or from standard input, and never from the command line, which everybody can read.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use app_passwords::Restriction;
use clap::{Args, Subcommand};
use rustix::rand::{GetRandomFlags, getrandom};
use sasl::saslprep::prepare_name;
use sasl::scram::{DEFAULT_ITERATIONS, Hash, SALT_OCTETS, Verifier};
use zeroize::Zeroizing;

use crate::app_password;
use crate::users_file::UsersFile;

/// Octets of a password: auth refuses longer ones.
const MAX_PASSWORD_OCTETS: usize = 512;

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Adds a user. The password comes from the terminal or from the first line of standard input.
    Add {
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        cost: Cost,
        /// User number; without it, the name is a user of the system.
        #[arg(long, requires = "gid")]
        uid: Option<u32>,
        /// Group number.
        #[arg(long, requires = "uid")]
        gid: Option<u32>,
        /// Home directory.
        #[arg(long, requires = "uid")]
        home: Option<String>,
        /// What a login by this password may do with the mail; everything, if this is left out.
        #[arg(long, value_parser = app_password::parse_restriction)]
        rights: Option<Restriction>,
        /// The user's own maildrop: `mbox:…` or `maildir:…`.
        #[arg(long)]
        maildrop: Option<String>,
    },
    /// Changes a user's password, and unlocks the account.
    Passwd {
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        cost: Cost,
    },
    /// Deletes a user.
    Del {
        #[command(flatten)]
        who: Who,
    },
    /// Further passwords of users, in a file of their own.
    #[command(subcommand)]
    AppPassword(app_password::Command),
    /// Lists the users, and how their passwords are kept.
    List {
        /// The users file.
        file: PathBuf,
    },
}

/// A user in a file.
#[derive(Debug, Args)]
pub struct Who {
    /// The users file.
    file: PathBuf,
    /// The name, as clients send it.
    name: String,
}

/// What each check of the password costs.
#[derive(Debug, Args)]
pub struct Cost {
    /// Iterations of the verifier. Strangers are told the number that most users have.
    #[arg(long, default_value_t = DEFAULT_ITERATIONS)]
    iterations: u32,
}

/// Does it.
///
/// # Errors
/// One sentence for the administrator.
pub fn run(command: Command) -> Result<(), String> {
    match command {
        Command::Add {
            who,
            cost,
            uid,
            gid,
            home,
            rights,
            maildrop,
        } => {
            check_name(&who.name)?;
            let number = |id: Option<u32>| id.map(|id| id.to_string()).unwrap_or_default();
            let mut fields = [
                number(uid),
                number(gid),
                home.unwrap_or_default(),
                maildrop.unwrap_or_default(),
            ];
            check_fields(&fields)?;
            if let (Some(rights), [.., last]) = (rights, &mut fields) {
                *last = format!("{}:{last}", rights.name());
            }
            UsersFile::change(&who.file, |users| {
                users.check_unknown(&who.name)?;
                let verifier = read_verifier(&cost)?;
                users.add(&who.name, &verifier, &fields)
            })
        }
        Command::Passwd { who, cost } => UsersFile::change(&who.file, |users| {
            users.check_known(&who.name)?;
            let verifier = read_verifier(&cost)?;
            users.set_hash(&who.name, &verifier)
        }),
        Command::Del { who } => UsersFile::change(&who.file, |users| users.remove(&who.name)),
        Command::AppPassword(command) => app_password::run(command),
        Command::List { file } => {
            let mut output = io::stdout().lock();
            for user in UsersFile::read(&file)?.users() {
                writeln!(output, "{}\t{}", user.name, user.kept())
                    .map_err(|error| error.to_string())?;
            }
            Ok(())
        }
    }
}

/// What auth can look up, and what clients can send.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.starts_with('#') || name.contains(':') || name.trim() != name {
        return Err(format!("{name:?} cannot be a name in a users file"));
    }
    match prepare_name(name.as_bytes()) {
        Some(prepared) if prepared == name => Ok(()),
        Some(prepared) => Err(format!("{name:?} is sent by clients as {prepared:?}")),
        None => Err(format!("{name:?} cannot be a user's name")),
    }
}

fn check_fields([uid, gid, home, maildrop]: &[String; 4]) -> Result<(), String> {
    if uid == "0" || gid == "0" {
        return Err("uid and gid cannot be 0".to_owned());
    }
    if !home.is_empty() && (!home.starts_with('/') || home.contains(':')) {
        return Err("home must be an absolute path without `:`".to_owned());
    }
    let is_location = maildrop.starts_with("mbox:") || maildrop.starts_with("maildir:");
    if !maildrop.is_empty() && !is_location {
        return Err("maildrop must be `mbox:…` or `maildir:…`".to_owned());
    }
    if [home, maildrop]
        .iter()
        .any(|field| field.chars().any(char::is_control))
    {
        return Err("no field can have control characters".to_owned());
    }
    Ok(())
}

fn read_verifier(cost: &Cost) -> Result<String, String> {
    let password = read_password().map_err(|error| format!("password: {error}"))?;
    if password.len() > MAX_PASSWORD_OCTETS {
        return Err(format!(
            "password: longer than {MAX_PASSWORD_OCTETS} octets"
        ));
    }
    let mut salt = [0; SALT_OCTETS];
    getrandom(&mut salt, GetRandomFlags::empty()).map_err(|error| error.to_string())?;
    let verifier = Verifier::derive(Hash::Sha256, password.as_bytes(), &salt, cost.iterations);
    let verifier = verifier.map_err(|error| format!("the verifier {error}"))?;
    Ok(verifier.to_text())
}

/// From the terminal, or the first line of standard input.
pub fn read_password() -> io::Result<Zeroizing<String>> {
    if io::stdin().is_terminal() {
        let password = Zeroizing::new(rpassword::prompt_password("Password: ")?);
        let again = Zeroizing::new(rpassword::prompt_password("Again: ")?);
        return if password == again {
            Ok(password)
        } else {
            Err(io::Error::other("not the same twice"))
        };
    }
    let mut line = Zeroizing::new(String::new());
    io::stdin().lock().read_line(&mut line)?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    Ok(Zeroizing::new(
        password.strip_suffix('\r').unwrap_or(password).to_owned(),
    ))
}
