//! Whom each role becomes.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use confine::identity::{Identity, NonRootGid, NonRootUid};
use confine::users;
use messages::role::Role;

use crate::configuration::{Configuration, Runner};

/// The roles' identities; none where the server is not root's.
#[derive(Clone, Debug)]
pub struct Identities {
    network: Option<Identity>,
    auth: Option<Identity>,
    spawner: Option<Identity>,
    /// Where there is a keyholder.
    key: Option<Identity>,
    /// Where there is a token role.
    token: Option<Identity>,
    /// Where there is a locker; its group is the spool's.
    locker: Option<Identity>,
}

/// Why a role's user will not do.
#[derive(Debug)]
pub struct IdentityError(String);

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Identities {
    /// Looks the configured users up.
    ///
    /// # Errors
    /// One is missing, is root, or is another's too; the text says what to type.
    pub fn look_up(configuration: &Configuration) -> Result<Self, IdentityError> {
        if let Runner::Ordinary(_) = configuration.runner() {
            return Ok(Self {
                network: None,
                auth: None,
                spawner: None,
                key: None,
                token: None,
                locker: None,
            });
        }
        let names = configuration.users();
        let network = identity(names.network, "user", false)?;
        let auth = identity(names.auth, "auth_user", true)?;
        let spawner = identity(names.spawner, "spawner_user", false)?;
        let key = names
            .key
            .map(|name| identity(name, "key_user", false))
            .transpose()?;
        let token = names
            .token
            .map(|name| identity(name, "token_user", false))
            .transpose()?;
        let locker = match (names.locker, configuration.locker_directory()) {
            (Some(name), Some(spool)) => Some(of_locker(name, spool)?),
            _ => None,
        };
        // Processes of one uid could signal each other, and own each other's files.
        let mut uids = vec![network.uid, auth.uid, spawner.uid];
        uids.extend(
            [&key, &token, &locker]
                .into_iter()
                .flatten()
                .map(|it| it.uid),
        );
        let roles = uids.len();
        uids.sort_unstable();
        uids.dedup();
        if uids.len() < roles {
            return Err(IdentityError(
                "user, auth_user, spawner_user, key_user, token_user and lock_user must all have different uids".into(),
            ));
        }
        Ok(Self {
            network: Some(network),
            auth: Some(auth),
            spawner: Some(spawner),
            key,
            token,
            locker,
        })
    }

    /// Whom a role becomes; `None`: it stays who it is.
    pub fn of(&self, role: Role) -> Option<&Identity> {
        match role {
            Role::Listener | Role::SessionSpawner => self.network.as_ref(),
            Role::Auth => self.auth.as_ref(),
            Role::Spawner => self.spawner.as_ref(),
            Role::Keyholder => self.key.as_ref(),
            Role::Token => self.token.as_ref(),
            Role::Locker => self.locker.as_ref(),
        }
    }
}

/// The locker's user, in the group that may make files in the spool: mail, as a rule.
fn of_locker(name: &str, spool: &Path) -> Result<Identity, IdentityError> {
    let own = identity(name, "lock_user", false)?;
    let owner = fs::metadata(spool)
        .map_err(|error| IdentityError(format!("maildrop.location: {}: {error}", spool.display())))?
        .gid();
    let Ok(gid) = NonRootGid::try_from(owner) else {
        // A spool of root's group is one that everybody writes to, or nobody.
        return Ok(own);
    };
    Ok(Identity {
        gid,
        groups: vec![gid],
        ..own
    })
}

/// The user by that name, with its own group, or all its groups where they are what it is for.
fn identity(name: &str, key: &str, all_groups: bool) -> Result<Identity, IdentityError> {
    let fail = |problem: &dyn fmt::Display| IdentityError(format!("{key} = \"{name}\": {problem}"));
    let user = users::by_name(name)
        .map_err(|error| fail(&error))?
        .ok_or_else(|| {
            let groups = if all_groups { " --groups shadow" } else { "" };
            fail(&format_args!(
                "there is no such user; make it with: useradd --system --user-group --no-create-home --home-dir /nonexistent \
                 --shell /usr/sbin/nologin{groups} {name}"
            ))
        })?;
    let uid = NonRootUid::try_from(user.uid).map_err(|_| fail(&"must not be root"))?;
    let gid = NonRootGid::try_from(user.gid).map_err(|_| fail(&"must not have root's group"))?;
    let mut groups = vec![gid];
    if all_groups {
        for group in users::groups_of(name, user.gid).map_err(|error| fail(&error))? {
            let group =
                NonRootGid::try_from(group).map_err(|_| fail(&"must not be in root's group"))?;
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
    }
    Ok(Identity { uid, gid, groups })
}
