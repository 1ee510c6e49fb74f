//! Passwords from `~/.netrc`, as ftp, curl and Net::POP3 read it.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use zeroize::Zeroizing;

use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Phase};

/// Octets of a netrc file: some thousand entries.
const MAX_NETRC_OCTETS: u64 = 1024 * 1024;

impl Credentials {
    /// The password for a host, and a user if one is named, from `$NETRC` or `~/.netrc`. `None` if there is no file or no
    /// entry in it.
    ///
    /// ```no_run
    /// use net_pop3::Credentials;
    ///
    /// let credentials = Credentials::netrc("pop.example.org", None)?.expect("an entry in ~/.netrc");
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`netrc_file`](Credentials::netrc_file).
    pub fn netrc(host: &str, user: Option<&str>) -> Result<Option<Credentials>, Error> {
        let path = match std::env::var_os("NETRC") {
            Some(path) => PathBuf::from(path),
            None => match std::env::home_dir() {
                Some(home) => home.join(".netrc"),
                None => return Ok(None),
            },
        };
        Credentials::netrc_file(&path, host, user)
    }

    /// As [`netrc`](Credentials::netrc), from a file that is named.
    ///
    /// ```
    /// # use std::os::unix::fs::PermissionsExt;
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("netrc");
    /// std::fs::write(&path, "machine pop.example.org login mrose password tanstaaf\n")?;
    /// std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    /// let credentials = net_pop3::Credentials::netrc_file(&path, "pop.example.org", None)?;
    /// assert_eq!(credentials.unwrap().user(), Some("mrose"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] if the file cannot be read, belongs to somebody else, or others may read it.
    pub fn netrc_file(
        path: &Path,
        host: &str,
        user: Option<&str>,
    ) -> Result<Option<Credentials>, Error> {
        let failed = |reason: String| {
            let reason = format!("{}: {reason}", path.display());
            Error::new(Phase::Connect, ErrorKind::Configuration(reason))
        };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        };
        let metadata = file.metadata().map_err(|error| failed(error.to_string()))?;
        // By the descriptor: what is checked is what is read.
        if metadata.mode() & 0o077 != 0 {
            return Err(failed("others may read it; chmod 600".to_owned()));
        }
        if metadata.uid() != geteuid().as_raw() && metadata.uid() != 0 {
            return Err(failed("it belongs to somebody else".to_owned()));
        }
        let mut text = Zeroizing::new(String::new());
        Read::by_ref(&mut file)
            .take(MAX_NETRC_OCTETS)
            .read_to_string(&mut text)
            .map_err(|error| failed(error.to_string()))?;
        Ok(find(&text, host, user))
    }
}

/// The first entry that fits. `default` fits every host and stands last.
fn find(text: &str, host: &str, user: Option<&str>) -> Option<Credentials> {
    let mut tokens = Tokens { rest: text };
    let mut entry = Entry::default();
    while let Some(token) = tokens.next() {
        match token.as_str() {
            "machine" | "default" => {
                if let Some(found) = entry.credentials(user) {
                    return Some(found);
                }
                let is_ours = *token == "default"
                    || tokens
                        .next()
                        .is_some_and(|name| name.eq_ignore_ascii_case(host));
                entry = Entry {
                    is_ours,
                    ..Entry::default()
                };
            }
            "login" => entry.login = tokens.next(),
            "password" => entry.password = tokens.next(),
            "account" => drop(tokens.next()),
            "macdef" => tokens.skip_macro(),
            _ => (),
        }
    }
    entry.credentials(user)
}

#[derive(Default)]
struct Entry {
    is_ours: bool,
    login: Option<Zeroizing<String>>,
    password: Option<Zeroizing<String>>,
}

impl Entry {
    fn credentials(&self, wanted: Option<&str>) -> Option<Credentials> {
        let password = self.password.as_ref().filter(|_| self.is_ours)?;
        let user = match (self.login.as_ref().map(|login| login.as_str()), wanted) {
            (Some(login), Some(wanted)) if login != wanted => return None,
            (login, wanted) => login.or(wanted)?,
        };
        Some(Credentials::password(user, password.as_bytes()))
    }
}

/// Words between white space; in double quotes a word may hold any, and `\` takes the next character as it is.
struct Tokens<'a> {
    rest: &'a str,
}

impl Tokens<'_> {
    fn next(&mut self) -> Option<Zeroizing<String>> {
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.strip_prefix('#') {
                Some(comment) => self.rest = comment.split_once('\n').map_or("", |(_, rest)| rest),
                None => break,
            }
        }
        let mut token = Zeroizing::new(String::new());
        let mut is_quoted = false;
        let mut characters = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' if at == 0 => is_quoted = true,
                '"' if is_quoted => {
                    end = at.saturating_add(1);
                    break;
                }
                '\\' => token.extend(characters.next().map(|(_, character)| character)),
                character if character.is_whitespace() && !is_quoted => {
                    end = at;
                    break;
                }
                character => token.push(character),
            }
        }
        let is_there = !self.rest.is_empty();
        self.rest = self.rest.get(end..).unwrap_or_default();
        is_there.then_some(token)
    }

    /// A macro ends with an empty line.
    fn skip_macro(&mut self) {
        self.rest = self.rest.split_once("\n\n").map_or("", |(_, rest)| rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const FILE: &str = "# mine\n\
        machine ftp.example.org login anonymous password guest\n\
        macdef init\nmachine pop.example.org login evil password macro\n\n\
        machine POP.example.org\n\tlogin mrose\n\taccount x password \"tan \\\"staaf\"\n\
        machine pop.example.org login other password second\n\
        default login any password last";

    fn shown(found: Option<Credentials>) -> Option<(String, String)> {
        match found?.0 {
            crate::credentials::Kind::Password { user, password, .. } => Some((
                user,
                String::from_utf8(password.as_bytes().to_vec()).unwrap(),
            )),
            _ => None,
        }
    }

    #[test]
    fn the_first_entry_that_fits_is_taken() {
        let find = |host, user| shown(find(FILE, host, user));
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(find("pop.example.org", None), pair("mrose", "tan \"staaf"));
        assert_eq!(
            find("pop.example.org", Some("other")),
            pair("other", "second")
        );
        assert_eq!(find("imap.example.org", None), pair("any", "last"));
        assert_eq!(find("imap.example.org", Some("nobody")), None);
        assert_eq!(shown(super::find("machine h login u", "h", None)), None);
        assert_eq!(shown(super::find("", "h", None)), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("netrc");
        assert!(Credentials::netrc_file(&path, "h", None).unwrap().is_none());
        std::fs::write(&path, "machine h login u password p").unwrap();
        for (mode, is_fine) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let found = Credentials::netrc_file(&path, "h", None);
            assert_eq!(
                found.is_ok_and(|found| found.is_some()),
                is_fine,
                "{mode:o}"
            );
        }
    }
}
