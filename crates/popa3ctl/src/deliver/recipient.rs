//! Whose maildrop, and where: found as auth and the spawner find it, without a password.

use std::path::{Path, PathBuf};

use confine::identity::{NonRootGid, NonRootUid};
use confine::users;
use maildrop::Expanded;
use messages::spawner::SpawnerConfig;
use role_master::configuration::{Configuration, Runner};

use super::exit::Failure;
use crate::accounts::{Accounts, NoAccount};

/// A user who gets mail.
pub struct Recipient {
    /// The owner of the maildrop.
    pub uid: NonRootUid,
    /// The owner's group.
    pub gid: NonRootGid,
    /// Where it is.
    pub location: Expanded,
    /// The directory of all mailboxes, if it is in one.
    pub spool: Option<PathBuf>,
    /// How the server works on it.
    pub spawner: SpawnerConfig,
}

impl Recipient {
    /// Finds a user. Where the caller is not root, the server of the system is asked first, and then one of the caller's own.
    ///
    /// # Errors
    /// There is no such user, or the configuration or the stores it names cannot be read.
    pub fn find(name: &str, configuration: Option<&Path>) -> Result<Self, Failure> {
        let own = rustix::process::geteuid();
        let found = find(name, configuration, Runner::Root);
        if own.is_root() {
            return found;
        }
        if found
            .as_ref()
            .is_ok_and(|it| it.uid.as_raw() == own.as_raw())
        {
            return found;
        }
        let runner = role_master::runner::find().map_err(Failure::temporary)?;
        find(name, configuration, runner).or(found)
    }
}

/// Who meets the network, as user and group; `None` where that is the caller, who is not root.
///
/// # Errors
/// The configuration cannot be read, or names a user that is not there.
pub fn network_user(path: Option<&Path>) -> Result<Option<(u32, u32)>, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let configuration =
        Configuration::read(path, Runner::Root, String::new()).map_err(Failure::temporary)?;
    let name = configuration.users().network.to_owned();
    let user = users::by_name(&name)
        .map_err(|error| Failure::temporary(format_args!("password database: {error}")))?;
    let user = user.ok_or_else(|| Failure::temporary(format_args!("{name:?}: no such user")))?;
    Ok(Some((user.uid, user.gid)))
}

fn find(name: &str, path: Option<&Path>, runner: Runner) -> Result<Recipient, Failure> {
    let configuration =
        Configuration::read(path, runner, String::new()).map_err(Failure::temporary)?;
    let accounts = Accounts::of(&configuration);
    let account = accounts.account(name).map_err(|error| match error {
        NoAccount::Unknown => Failure::no_user(format_args!("{name:?}: no such user")),
        NoAccount::Root => Failure::no_user("root's mail is not served"),
        NoAccount::Unusable(reason) => Failure::temporary(format_args!("{name:?}: {reason}")),
        NoAccount::Unanswered(reason) => Failure::temporary(reason),
    })?;
    let owner = accounts.locate(account).map_err(Failure::cannot_create)?;
    Ok(Recipient {
        uid: owner.account.uid,
        gid: owner.account.gid,
        location: owner.location,
        spool: owner.spool,
        spawner: accounts.spawner,
    })
}
