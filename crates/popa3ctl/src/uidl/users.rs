//! Whose unique-ids are carried over, and how they log in on the other server.
//!
//! ```text
//! # user here    password, to the end of the line
//! alice          wonderland
//! bob            |pass show old-mail/bob
//! carol=carol@example.org   christmas
//! dave
//! ```
//!
//! A name behind `=` is the one there. `|` begins a command whose first line of output is the password. Who has none in the
//! file has the common one: a master user's.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

/// Octets of a file of users.
const MAX_FILE_OCTETS: u64 = 64 * 1024 * 1024;

/// Somebody.
pub struct User {
    /// The name here.
    pub name: String,
    /// The name there, if it is another.
    login: Option<String>,
    password: Password,
}

enum Password {
    Is(Zeroizing<String>),
    Command(String),
    Common,
}

/// How those log in of whom the file does not say it.
pub struct Common {
    /// `%u` is the user, `%n` the part before `@`, `%d` the part behind it.
    pub template: String,
    /// The password.
    pub password: Option<Zeroizing<String>>,
}

impl User {
    /// Somebody with the common password.
    pub fn named(name: String) -> Self {
        User {
            name,
            login: None,
            password: Password::Common,
        }
    }

    /// Whether the common password is needed.
    pub fn needs_common(&self) -> bool {
        matches!(self.password, Password::Common)
    }

    /// The name that is sent there.
    pub fn login(&self, common: &Common) -> String {
        let name = self.login.as_ref().unwrap_or(&self.name);
        let (local, domain) = name.rsplit_once('@').unwrap_or((name, ""));
        // One after the other, so that a name with a percent sign stays what it is.
        let mut login = String::new();
        let mut rest = common.template.as_str();
        while let Some((before, after)) = rest.split_once('%') {
            login.push_str(before);
            let (value, length) = match after.chars().next() {
                Some('u') => (name.as_str(), 1),
                Some('n') => (local, 1),
                Some('d') => (domain, 1),
                Some('%') => ("%", 1),
                _ => ("%", 0),
            };
            login.push_str(value);
            rest = after.get(length..).unwrap_or_default();
        }
        login + rest
    }

    /// The password.
    ///
    /// # Errors
    /// There is none, or the command that says it fails.
    pub fn password(&self, common: &Common) -> Result<Zeroizing<String>, String> {
        match &self.password {
            Password::Is(password) => Ok(password.clone()),
            Password::Command(command) => of_command(command),
            Password::Common => common.password.clone().ok_or("no password".to_owned()),
        }
    }
}

/// Reads a file of users; `-` is standard input.
///
/// # Errors
/// It cannot be read, others can read it, or a line is wrong.
pub fn read(path: &Path) -> Result<Vec<User>, String> {
    let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut text = Zeroizing::new(String::new());
    if path == Path::new("-") {
        let input = io::stdin().lock().take(MAX_FILE_OCTETS);
        { input }.read_to_string(&mut text)
    } else {
        let file = File::open(path).map_err(|error| fail(&error))?;
        let mode = file.metadata().map_err(|error| fail(&error))?.mode();
        if mode & 0o007 != 0 {
            return Err(fail(&"everybody can read or write it; chmod o= it"));
        }
        file.take(MAX_FILE_OCTETS).read_to_string(&mut text)
    }
    .map_err(|error| fail(&error))?;
    parse(&text).map_err(|line| fail(&format_args!("line {line} names nobody")))
}

/// The users, or the number of a line that is wrong.
fn parse(text: &str) -> Result<Vec<User>, usize> {
    let mut users = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let end = line.find([' ', '\t']).unwrap_or(line.len());
        let (names, password) = line.split_at(end);
        let password = password.trim_start_matches([' ', '\t']);
        let (name, login) = match names.split_once('=') {
            Some((name, login)) => (name, Some(login.to_owned())),
            None => (names, None),
        };
        if name.is_empty() || login.as_deref() == Some("") {
            return Err(number);
        }
        users.push(User {
            name: name.to_owned(),
            login,
            password: match password.strip_prefix('|') {
                Some(command) => Password::Command(command.to_owned()),
                None if password.is_empty() => Password::Common,
                None => Password::Is(Zeroizing::new(password.to_owned())),
            },
        });
    }
    Ok(users)
}

/// The common password: what a command says, or from the terminal, or the first line of standard input.
///
/// # Errors
/// One sentence.
pub fn common_password(command: Option<&str>) -> Result<Zeroizing<String>, String> {
    let fail = |error: io::Error| format!("password: {error}");
    if let Some(command) = command {
        return of_command(command);
    }
    if io::stdin().is_terminal() {
        let password = rpassword::prompt_password("Password on the old server: ");
        return password.map(Zeroizing::new).map_err(fail);
    }
    let mut line = Zeroizing::new(String::new());
    io::stdin().lock().read_line(&mut line).map_err(fail)?;
    first_line(&line).ok_or("password: there is none on standard input".to_owned())
}

fn of_command(command: &str) -> Result<Zeroizing<String>, String> {
    let said = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("password command: {error}"))?;
    if !said.status.success() {
        return Err(format!("password command: {}", said.status));
    }
    let text = Zeroizing::new(String::from_utf8(said.stdout).unwrap_or_default());
    first_line(&text).ok_or("password command: it says none".to_owned())
}

fn first_line(text: &str) -> Option<Zeroizing<String>> {
    let line = text.lines().next().filter(|line| !line.is_empty())?;
    Some(Zeroizing::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(template: &str) -> Common {
        Common {
            template: template.to_owned(),
            password: Some(Zeroizing::new("common".to_owned())),
        }
    }

    #[test]
    fn a_line_says_who_there_and_by_which_password() {
        let text =
            "# people\n\nalice two  words \nbob=bob@old\t|echo 'of command'; echo x\n  carol\n";
        let users = parse(text).unwrap();
        let plain = common("%u");
        let found: Vec<_> = users
            .iter()
            .map(|user| {
                let password = user.password(&plain).unwrap();
                (user.name.as_str(), user.login(&plain), password.to_string())
            })
            .collect();
        let expected = [
            ("alice", "alice", "two  words "),
            ("bob", "bob@old", "of command"),
            ("carol", "carol", "common"),
        ]
        .map(|(name, login, password)| (name, login.to_owned(), password.to_owned()));
        assert_eq!(found, expected);
        for wrong in ["=x y", "x= y"] {
            assert!(parse(wrong).is_err());
        }
    }

    #[test]
    fn a_master_user_logs_in_for_everybody() {
        let user = User::named("joe%d@example.org".to_owned());
        assert_eq!(user.login(&common("%u*master")), "joe%d@example.org*master");
        assert_eq!(user.login(&common("%n+%d-100%%")), "joe%d+example.org-100%");
        assert_eq!(user.login(&common("x%")), "x%");
    }
}
