//! Whose maildrop, and where: found as auth and the spawner find it, without a password.

use std::path::{Path, PathBuf};

use confine::identity::{NonRootGid, NonRootUid};
use confine::users::{self, User};
use maildrop::{Account, Expanded, Location};
use messages::auth::{AuthConfig, Backend, DecoyKey};
use messages::spawner::SpawnerConfig;
use role_master::configuration::{Configuration, Runner};

use super::exit::Failure;
use crate::users_file::UsersFile;

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
    let user = in_system(&name)?;
    let user = user.ok_or_else(|| Failure::temporary(format_args!("{name:?}: no such user")))?;
    Ok(Some((user.uid, user.gid)))
}

fn find(name: &str, path: Option<&Path>, runner: Runner) -> Result<Recipient, Failure> {
    let configuration =
        Configuration::read(path, runner, String::new()).map_err(Failure::temporary)?;
    // It makes salts of strangers, and nobody logs in here.
    let auth = configuration.auth(&DecoyKey(Default::default()));
    let spawner = configuration.spawner();
    for backend in &auth.backends {
        let found = match backend {
            Backend::UsersFile => in_users_file(&auth, name)?,
            Backend::Pam | Backend::Shadow => in_system(name)?.map(|user| Entry {
                user,
                maildrop: None,
            }),
        };
        if let Some(entry) = found {
            return entry.locate(spawner);
        }
    }
    Err(Failure::no_user(format_args!("{name:?}: no such user")))
}

/// What a store says of a user.
struct Entry {
    user: User,
    maildrop: Option<String>,
}

impl Entry {
    fn locate(self, spawner: SpawnerConfig) -> Result<Recipient, Failure> {
        let user = &self.user;
        let (Ok(uid), Ok(gid)) = (user.uid.try_into(), user.gid.try_into()) else {
            return Err(Failure::no_user("root's mail is not served"));
        };
        let template = self.maildrop.as_ref().unwrap_or(&spawner.location);
        let account = Account {
            name: &user.name,
            home: &user.home,
        };
        let fail = |error| Failure::cannot_create(format_args!("{template}: {error}"));
        let location = Location::parse(template).map_err(fail)?;
        let spool = location.spool();
        let location = location.expand(&account).map_err(fail)?;
        Ok(Recipient {
            uid,
            gid,
            location,
            spool,
            spawner,
        })
    }
}

fn in_system(name: &str) -> Result<Option<User>, Failure> {
    users::by_name(name)
        .map_err(|error| Failure::temporary(format_args!("password database: {error}")))
}

/// As auth reads it (`users_file.rs` there): `name:hash[:uid:gid:home:[rights:]maildrop]`.
fn in_users_file(auth: &AuthConfig, name: &str) -> Result<Option<Entry>, Failure> {
    let file = UsersFile::read(&auth.users_file).map_err(Failure::temporary)?;
    let Some(line) = file.users().find(|line| line.name == name) else {
        return Ok(None);
    };
    let [uid, gid, home, last] = line.fields();
    let maildrop = last.and_then(without_rights).map(str::to_owned);
    let number = |text: &str| {
        text.parse::<u32>()
            .map_err(|_| Failure::temporary(format_args!("{name:?}: has no usable uid and gid")))
    };
    let user = match (&auth.own, uid, gid) {
        (Some(own), ..) => User {
            name: name.to_owned(),
            uid: own.uid.into(),
            gid: own.gid.into(),
            home: own.home.clone(),
            shell: String::new(),
        },
        (None, Some(uid), Some(gid)) => User {
            name: name.to_owned(),
            uid: number(uid)?,
            gid: number(gid)?,
            home: home.unwrap_or("/nonexistent").to_owned(),
            shell: String::new(),
        },
        _ => in_system(name)?.ok_or_else(|| {
            Failure::temporary(format_args!(
                "{name:?}: has no uid, and is no user of the system"
            ))
        })?,
    };
    Ok(Some(Entry { user, maildrop }))
}

/// The last field without what a login may do, which delivery has nothing to do with.
fn without_rights(field: &str) -> Option<&str> {
    let (first, rest) = field.split_once(':').unwrap_or((field, ""));
    match first {
        "read-only" | "no-delete" => Some(rest).filter(|rest| !rest.is_empty()),
        _ => Some(field),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_no_part_of_a_location() {
        assert_eq!(without_rights("read-only:mbox:/a/%u"), Some("mbox:/a/%u"));
        assert_eq!(without_rights("no-delete"), None);
        assert_eq!(without_rights("maildir:/a"), Some("maildir:/a"));
    }
}
