//! Whose maildrop a user's is, and where: as auth and the spawner would find it, without a password.

use std::fmt;
use std::path::{Path, PathBuf};

use confine::identity::Identity;
use confine::users;
use maildrop::{Expanded, Location};
use messages::account::{Account, Rights};
use messages::auth::{AuthConfig, Backend, DecoyKey};
use messages::spawner::SpawnerConfig;
use role_master::configuration::Configuration;
use role_master::installation::Installation;

use crate::helper::{self, Input, Task};
use crate::state::State;
use crate::users_file::UsersFile;

/// A user's maildrop.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Whose it is.
    pub account: Account,
    /// The template of its location.
    pub template: String,
    /// Where it is.
    pub location: Expanded,
    /// The directory of all mailboxes, if it is in one.
    pub spool: Option<PathBuf>,
}

impl Owner {
    /// The same account with its maildrop elsewhere.
    ///
    /// # Errors
    /// The template is wrong, or the account does not fit it.
    pub fn elsewhere(&self, template: &str) -> Result<Owner, String> {
        locate(self.account.clone(), template.to_owned())
    }

    /// The maildrop's path, by which its files in the state directory are named.
    pub fn path(&self) -> PathBuf {
        self.location.path()
    }
}

/// Looks users up.
pub struct Accounts {
    auth: AuthConfig,
    /// How the server works on their maildrops.
    pub spawner: SpawnerConfig,
}

/// Why a user has no account here.
#[derive(Debug, PartialEq, Eq)]
pub enum NoAccount {
    /// No store knows the user.
    Unknown,
    /// It is root's.
    Root,
    /// What a store says of the user will not do.
    Unusable(&'static str),
    /// A store cannot be asked: one sentence.
    Unanswered(String),
}

impl fmt::Display for NoAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no such user",
            Self::Root => "is root, whose mail is not served",
            Self::Unusable(reason) => reason,
            Self::Unanswered(reason) => reason,
        })
    }
}

impl Accounts {
    /// Of a server that is configured so.
    pub fn of(configuration: &Configuration) -> Self {
        // The key makes salts of strangers, and there are none here.
        let no_key = DecoyKey(Default::default());
        Accounts {
            auth: configuration.auth(&no_key),
            spawner: configuration.spawner(),
        }
    }

    /// The user's maildrop. Virtual domains by address are not looked into: their users are not known by name alone.
    ///
    /// # Errors
    /// One sentence: no store knows the user, or the maildrop cannot be located.
    pub fn owner(&self, name: &str) -> Result<Owner, String> {
        let account = self.account(name).map_err(|error| error.to_string())?;
        self.locate(account)
    }

    /// Where an account's maildrop is.
    ///
    /// # Errors
    /// One sentence: the template is wrong, or the account does not fit it.
    pub fn locate(&self, account: Account) -> Result<Owner, String> {
        let template = account.maildrop.as_ref().unwrap_or(&self.spawner.location);
        let template = template.clone();
        locate(account, template)
    }

    /// Asks one store after the other.
    ///
    /// # Errors
    /// [`NoAccount`].
    pub fn account(&self, name: &str) -> Result<Account, NoAccount> {
        for backend in &self.auth.backends {
            let found = match backend {
                Backend::UsersFile => self.of_users_file(&self.auth.users_file, name)?,
                Backend::Pam | Backend::Shadow => of_system(name)?,
            };
            if let Some(account) = found {
                return Ok(account);
            }
        }
        Err(NoAccount::Unknown)
    }

    fn of_users_file(&self, path: &Path, name: &str) -> Result<Option<Account>, NoAccount> {
        let file = UsersFile::read(path).map_err(NoAccount::Unanswered)?;
        let Some(line) = file.users().find(|line| line.name == name) else {
            return Ok(None);
        };
        let [uid, gid, home, maildrop] = line.fields();
        let mut account = match (&self.auth.own, uid, gid) {
            (Some(own), ..) => own.clone(),
            (None, Some(uid), Some(gid)) => {
                let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else {
                    return Err(NoAccount::Unusable("has no usable uid and gid"));
                };
                account(name, uid, gid, home.unwrap_or("/nonexistent"))?
            }
            _ => of_system(name)?.ok_or(NoAccount::Unusable(
                "has no uid, and is no user of the system",
            ))?,
        };
        name.clone_into(&mut account.name);
        account.maildrop = maildrop.map(str::to_owned);
        Ok(Some(account))
    }
}

fn of_system(name: &str) -> Result<Option<Account>, NoAccount> {
    let user = users::by_name(name)
        .map_err(|error| NoAccount::Unanswered(format!("password database: {error}")))?;
    user.map(|user| account(&user.name, user.uid, user.gid, &user.home))
        .transpose()
}

fn account(name: &str, uid: u32, gid: u32, home: &str) -> Result<Account, NoAccount> {
    let (Ok(uid), Ok(gid)) = (uid.try_into(), gid.try_into()) else {
        return Err(NoAccount::Root);
    };
    Ok(Account {
        name: name.to_owned(),
        uid,
        gid,
        home: home.to_owned(),
        maildrop: None,
        rights: Rights::Full,
    })
}

fn locate(account: Account, template: String) -> Result<Owner, String> {
    let fail = |error| format!("{template}: {error}");
    let location = Location::parse(&template).map_err(fail)?;
    let spool = location.spool();
    let named = maildrop::Account {
        name: &account.name,
        home: &account.home,
    };
    let location = location.expand(&named).map_err(fail)?;
    Ok(Owner {
        account,
        template,
        location,
        spool,
    })
}

/// Whom a helper process of this account becomes; `None` where it is the caller, who is not root.
pub fn identity(installation: &Installation, account: &Account) -> Option<Identity> {
    installation.spawner().map(|_| Identity {
        uid: account.uid,
        gid: account.gid,
        groups: vec![account.gid],
    })
}

/// Refuses an mbox that the server has yet to put in order after a crash.
///
/// # Errors
/// It is one.
pub fn check_finished(
    installation: &Installation,
    state: &State,
    owner: &Owner,
) -> Result<(), String> {
    let Some(journal) = (match owner.location.is_mbox() {
        true => state.journal(owner)?,
        false => None,
    }) else {
        return Ok(());
    };
    let identity = identity(installation, &owner.account);
    match helper::run(identity.as_ref(), &Task::Unfinished, Input::File(journal))? {
        false => Ok(()),
        true => Err(
            "an update of the mailbox was interrupted; start the server, which finishes it, and try again"
                .to_owned(),
        ),
    }
}
