//! Where passwords and tokens come from: never from the command line or the URL, where others see them.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use net_pop3::Credentials;

use super::{Account, home};
use crate::failure::Failed;

impl Account {
    /// Finds the credentials, where the options say; else in $CREDENTIALS_DIRECTORY, in netrc, or by asking at the terminal.
    ///
    /// # Errors
    /// If there are none.
    pub fn credentials(&self) -> Result<Credentials, Failed> {
        let options = &self.options;
        if options.external {
            return Ok(Credentials::external());
        }
        let password = |password: Vec<u8>| {
            let user = self.user.as_deref().ok_or_else(|| self.no_user())?;
            Ok(Credentials::password(user, password))
        };
        if let Some(command) = &options.oauth2_token_command {
            let user = self.user.as_deref().ok_or_else(|| self.no_user())?;
            return Ok(Credentials::token(user, first_line_of(command)?));
        }
        if options.password_stdin {
            let mut text = Vec::new();
            io::stdin()
                .read_to_end(&mut text)
                .map_err(|error| Failed::usage(error.to_string()))?;
            return password(first_line(text));
        }
        if let Some(command) = &options.password_command {
            return password(first_line_of(command)?);
        }
        if let Some(secret) = self.systemd_credential()? {
            return password(secret);
        }
        let user = self.user.as_deref();
        let found = match &options.netrc {
            Some(path) => Credentials::netrc_file(&home(path.clone()), &self.host, user)?,
            None => Credentials::netrc(&self.host, user)?,
        };
        if let Some(found) = found {
            return Ok(found);
        }
        if !io::stderr().is_terminal() {
            let reason = format!(
                "{}: there is no password, and no terminal to ask for it",
                self.name
            );
            return Err(Failed::usage(reason));
        }
        let user = user.ok_or_else(|| self.no_user())?;
        let typed = rpassword::prompt_password(format!("Password of {user} at {}: ", self.host))
            .map_err(|error| Failed::usage(error.to_string()))?;
        password(typed.into_bytes())
    }

    fn systemd_credential(&self) -> Result<Option<Vec<u8>>, Failed> {
        let Some(directory) = std::env::var_os("CREDENTIALS_DIRECTORY") else {
            return match &self.options.credential {
                Some(_) => Err(Failed::usage(
                    "$CREDENTIALS_DIRECTORY is not set".to_owned(),
                )),
                None => Ok(None),
            };
        };
        let name = self.options.credential.as_ref().unwrap_or(&self.name);
        if name.contains('/') {
            return Ok(None);
        }
        let path = Path::new(&directory).join(name);
        match fs::read(&path) {
            Ok(text) => Ok(Some(first_line(text))),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && self.options.credential.is_none() =>
            {
                Ok(None)
            }
            Err(error) => Err(Failed::usage(format!("{}: {error}", path.display()))),
        }
    }

    fn no_user(&self) -> Failed {
        Failed::usage(format!("{}: which user? pop3s://USER@host", self.name))
    }
}

fn first_line_of(command: &str) -> Result<Vec<u8>, Failed> {
    let failed = |reason: String| Failed::usage(format!("{command}: {reason}"));
    let output = Command::new("/bin/sh")
        .args(["-c", command])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    match first_line(output.stdout) {
        line if line.is_empty() => Err(failed("it printed nothing".to_owned())),
        line => Ok(line),
    }
}

fn first_line(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(end) = text.iter().position(|octet| *octet == b'\n') {
        text.truncate(end);
    }
    if text.ends_with(b"\r") {
        text.pop();
    }
    text
}
