//! The file with accounts.
//!
//! ```toml
//! [defaults]
//! maildir = "~/Mail"
//!
//! [accounts.work]
//! url = "pop3s://mrose@pop.example.org"
//! password-command = "pass show mail/work"
//! delete-after = "10d"
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::account::{Account, AccountOptions};
use crate::failure::Failed;

/// What the file holds.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Configuration {
    /// For accounts that do not say otherwise.
    defaults: AccountOptions,
    accounts: BTreeMap<String, AccountOptions>,
}

impl Configuration {
    /// Reads the file that is named, or else the user's own if there is one.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(named: Option<&Path>) -> Result<Configuration, Failed> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => match user_directory("XDG_CONFIG_HOME", ".config") {
                Some(directory) => directory.join("popget.toml"),
                None => return Ok(Configuration::default()),
            },
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
                return Ok(Configuration::default());
            }
            Err(error) => return Err(Failed::usage(format!("{}: {error}", path.display()))),
        };
        toml::from_str(&text).map_err(|error| Failed::usage(format!("{}: {error}", path.display())))
    }

    /// The account of that name, or at that URL.
    ///
    /// # Errors
    /// If it is neither.
    pub fn account(&self, named: &str, options: &AccountOptions) -> Result<Account, Failed> {
        match self.accounts.get(named) {
            Some(account) => {
                let options = options.over(&account.over(&self.defaults));
                match options.url.clone() {
                    Some(url) => Account::new(Some(named), &url, options),
                    None => Err(Failed::usage(format!("account {named} has no url"))),
                }
            }
            None => Account::new(None, named, options.over(&self.defaults)),
        }
    }

    /// The names of all accounts.
    pub fn names(&self) -> Vec<String> {
        self.accounts.keys().cloned().collect()
    }
}

/// Popget's directory in the one that a variable names, or in a directory at home.
pub fn user_directory(variable: &str, at_home: &str) -> Option<PathBuf> {
    let base = match std::env::var_os(variable).filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => std::env::home_dir()?.join(at_home),
    };
    Some(base.join("popget"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_takes_what_it_does_not_say_from_the_defaults() {
        let configuration: Configuration = toml::from_str(
            "[defaults]\nmaildir = \"/mail\"\ntimeout = 5\n\
             [accounts.work]\nurl = \"pop3s://u@h\"\ndelete-after = \"10d\"\nfilter = [\"size<1M\"]\n\
             [accounts.home]\nurl = \"pop3s://v@h\"\nmbox = \"/mbox\"\n",
        )
        .unwrap();
        assert_eq!(configuration.names(), ["home", "work"]);
        let none = AccountOptions::default();
        let work = configuration.account("work", &none).unwrap();
        assert_eq!(
            (work.name.as_str(), work.options.timeout),
            ("work", Some(5))
        );
        assert_eq!(work.options.maildir.as_deref(), Some(Path::new("/mail")));
        let home = configuration.account("home", &none).unwrap();
        assert_eq!(home.options.maildir, None);
        assert!(home.place().is_ok());
        assert!(configuration.account("other", &none).is_err());
        assert!(configuration.account("pop3s://w@h", &none).is_ok());
    }

    #[test]
    fn what_is_not_known_is_an_error_with_its_place() {
        let text = "[accounts.work]\nurl = \"pop3s://u@h\"\npassword = \"secret\"\n";
        let error = toml::from_str::<Configuration>(text)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("line 3") && error.contains("password-command"),
            "{error}"
        );
    }
}
