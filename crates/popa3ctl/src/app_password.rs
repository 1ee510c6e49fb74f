//! `popa3ctl user app-password`: further passwords of a user, one for each client (docs/users-file.md).
//!
//! They are drawn here and printed once. A password from standard input has to be a drawn one too: what is kept of it is made
//! fast, and would not protect what a person chooses.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use app_passwords::{
    AppPassword, Day, Hash, MAX_PER_USER, PASSWORD_RANDOM_OCTETS, Restriction, SALT_OCTETS,
    generate, is_generated, is_label, networks_of,
};
use clap::{Args, Subcommand};
use ipnet::IpNet;
use rustix::rand::{GetRandomFlags, getrandom};
use zeroize::Zeroizing;

use crate::text_file;
use crate::user::{check_name, read_password};

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Draws an app password, and prints it: it is not to be seen again.
    Add {
        #[command(flatten)]
        which: Which,
        /// The day from which on it is refused, in UTC: 2027-01-31, or 90d for so many days from today.
        #[arg(long, value_parser = parse_day)]
        expires: Option<Day>,
        /// Where clients may use it from: 192.0.2.0/24,2001:db8::/32.
        #[arg(long, value_parser = parse_networks)]
        networks: Option<Networks>,
        /// What it may do with the mail; everything, if this is left out.
        #[arg(long, value_parser = parse_restriction)]
        rights: Option<Restriction>,
        /// Take a password of this form from the first line of standard input, or from the terminal.
        #[arg(long)]
        stdin: bool,
    },
    /// Deletes an app password.
    Del {
        #[command(flatten)]
        which: Which,
    },
    /// Lists app passwords: user, label, rights, expiry and networks.
    List {
        /// The file of app passwords.
        file: PathBuf,
        /// Only this user's.
        name: Option<String>,
    },
}

/// An app password in a file.
#[derive(Debug, Args)]
pub struct Which {
    /// The file of app passwords.
    file: PathBuf,
    /// The user's name, as clients send it.
    name: String,
    /// What the log calls it: letters, digits and `._-`.
    #[arg(long)]
    label: String,
}

/// One argument.
#[derive(Clone, Debug)]
pub struct Networks(Vec<IpNet>);

/// Does it.
///
/// # Errors
/// One sentence for the administrator.
pub fn run(command: Command) -> Result<(), String> {
    match command {
        Command::Add {
            which,
            expires,
            networks,
            rights,
            stdin,
        } => {
            check_name(&which.name)?;
            if !is_label(&which.label) {
                return Err("a label is 1 to 64 letters, digits and `._-`".to_owned());
            }
            let password = if stdin {
                given_password()?
            } else {
                generate(&random::<PASSWORD_RANDOM_OCTETS>()?)
            };
            let entry = AppPassword {
                user: which.name,
                label: which.label,
                hash: Hash::of(password.as_bytes(), &random::<SALT_OCTETS>()?),
                restriction: rights,
                expires,
                networks: networks.map(|networks| networks.0).unwrap_or_default(),
            };
            text_file::change(&which.file, |text| add(text, &entry))?;
            if stdin {
                return Ok(());
            }
            writeln!(io::stdout(), "{}", *password).map_err(|error| error.to_string())
        }
        Command::Del { which } => {
            text_file::change(&which.file, |text| delete(text, &which.name, &which.label))
        }
        Command::List { file, name } => {
            let text = text_file::read(&file)?;
            let mut output = io::stdout().lock();
            let listed = |entry: &AppPassword| name.as_ref().is_none_or(|name| *name == entry.user);
            for entry in entries(&text).filter(listed) {
                writeln!(output, "{}", line_of_list(&entry)).map_err(|error| error.to_string())?;
            }
            Ok(())
        }
    }
}

fn entries(text: &str) -> impl Iterator<Item = AppPassword> {
    text.lines()
        .filter_map(|line| AppPassword::parse(line).ok().flatten())
}

fn add(text: &mut String, entry: &AppPassword) -> Result<(), String> {
    let labels: Vec<String> = entries(text)
        .filter(|other| other.user == entry.user)
        .map(|other| other.label)
        .collect();
    if labels.contains(&entry.label) {
        return Err(format!(
            "{} has an app password {} already",
            entry.user, entry.label
        ));
    }
    if labels.len() >= MAX_PER_USER {
        return Err(format!("{} has {MAX_PER_USER} already", entry.user));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&format!("{entry}\n"));
    Ok(())
}

fn delete(text: &mut String, user: &str, label: &str) -> Result<(), String> {
    let is_it = |line: &str| {
        let mut fields = line.split(':');
        fields.next() == Some(user) && fields.next() == Some(label)
    };
    if !text.lines().any(is_it) {
        return Err(format!("{user} has no app password {label}"));
    }
    let kept: String = text
        .lines()
        .filter(|line| !is_it(line))
        .map(|line| format!("{line}\n"))
        .collect();
    *text = kept;
    Ok(())
}

fn line_of_list(entry: &AppPassword) -> String {
    let rights = entry.restriction.map_or("full", Restriction::name);
    let expires = entry
        .expires
        .map_or("never".to_owned(), |day| day.to_string());
    let networks: Vec<String> = entry.networks.iter().map(IpNet::to_string).collect();
    let networks = match networks.is_empty() {
        true => "everywhere".to_owned(),
        false => networks.join(","),
    };
    let (user, label) = (&entry.user, &entry.label);
    format!("{user}\t{label}\t{rights}\t{expires}\t{networks}")
}

fn given_password() -> Result<Zeroizing<String>, String> {
    let password = read_password().map_err(|error| format!("password: {error}"))?;
    if !is_generated(&password) {
        return Err(
            "password: not of the form of those that are drawn, which is all that can be kept this way"
                .to_owned(),
        );
    }
    Ok(password)
}

fn random<const OCTETS: usize>() -> Result<[u8; OCTETS], String> {
    let mut octets = [0; OCTETS];
    getrandom(&mut octets, GetRandomFlags::empty()).map_err(|error| error.to_string())?;
    Ok(octets)
}

fn parse_day(text: &str) -> Result<Day, String> {
    let in_days = text.strip_suffix('d').and_then(|days| days.parse().ok());
    let day = match in_days {
        Some(days) => Day::of(SystemTime::now()).after(days),
        None => Day::parse(text),
    };
    day.ok_or_else(|| "a day is written 2027-01-31, or 90d for so many days from today".to_owned())
}

fn parse_networks(text: &str) -> Result<Networks, String> {
    networks_of(text)
        .map(Networks)
        .map_err(|error| format!("it {error}"))
}

/// For this and for the users file.
pub fn parse_restriction(text: &str) -> Result<Restriction, String> {
    Restriction::of_name(text).ok_or_else(|| "`read-only` or `no-delete`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(user: &str, label: &str) -> AppPassword {
        AppPassword {
            user: user.to_owned(),
            label: label.to_owned(),
            hash: Hash::of_nobody(),
            restriction: None,
            expires: None,
            networks: Vec::new(),
        }
    }

    #[test]
    fn a_label_is_a_users_own_and_there_is_a_limit() {
        let mut text = "# phones".to_owned();
        add(&mut text, &entry("joe", "phone")).unwrap();
        add(&mut text, &entry("ann", "phone")).unwrap();
        assert!(add(&mut text, &entry("joe", "phone")).is_err());
        for number in 1..MAX_PER_USER {
            add(&mut text, &entry("joe", &number.to_string())).unwrap();
        }
        assert!(add(&mut text, &entry("joe", "more")).is_err());
        assert!(text.starts_with("# phones\njoe:phone:"));
    }

    #[test]
    fn only_the_one_that_is_named_goes_bad_lines_too() {
        let mut text = "# a\njoe:phone:x\njoe:phone2:x\njo:phone:x\n".to_owned();
        delete(&mut text, "joe", "phone").unwrap();
        assert_eq!(text, "# a\njoe:phone2:x\njo:phone:x\n");
        assert!(delete(&mut text, "joe", "phone").is_err());
    }

    #[test]
    fn a_list_says_everything_but_the_hash() {
        let mut shown = entry("joe", "phone");
        assert_eq!(line_of_list(&shown), "joe\tphone\tfull\tnever\teverywhere");
        shown.restriction = Some(Restriction::ReadOnly);
        shown.expires = Day::parse("2027-01-31");
        shown.networks = networks_of("192.0.2.0/24,::1").unwrap();
        let line = "joe\tphone\tread-only\t2027-01-31\t192.0.2.0/24,::1/128";
        assert_eq!(line_of_list(&shown), line);
    }

    #[test]
    fn a_day_is_a_date_or_a_number_of_days() {
        assert_eq!(parse_day("2027-01-31").unwrap().to_string(), "2027-01-31");
        let today = Day::of(SystemTime::now());
        let later = parse_day("90d").unwrap();
        assert!((today.0 + 90..=today.0 + 91).contains(&later.0));
        for text in ["", "d", "-1d", "90", "2027-02-30", "4294967295d"] {
            assert!(parse_day(text).is_err(), "{text}");
        }
    }
}
