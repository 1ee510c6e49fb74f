//! Whose maildrop a user's is: from an entry of the password database to an [`Account`].

use std::io;

use confine::identity::{NonRootGid, NonRootUid};
use confine::users::Passwd;
use messages::{Account, Rights};

use crate::work::Refusal;

/// Octets of a home directory or a maildrop's location: Linux's PATH_MAX.
const MAX_PATH_OCTETS: usize = 4096;

/// The account of a user of the password database.
///
/// # Errors
/// The refusal of root, and of everybody but `own` where that is the only account there can be.
pub fn of_passwd(entry: &Passwd, own: Option<&Account>) -> Result<Account, Refusal> {
    let account = account(&entry.name, entry.uid, entry.gid, &entry.home)?;
    match own {
        Some(own) if own.uid != account.uid => Err(Refusal::NotServed),
        Some(own) => Ok(Account {
            name: account.name,
            ..own.clone()
        }),
        None => Ok(account),
    }
}

/// An account from its parts.
///
/// # Errors
/// [`Refusal::Root`], or [`Refusal::Unusable`] for a home that is no absolute path.
pub fn account(name: &str, uid: u32, gid: u32, home: &str) -> Result<Account, Refusal> {
    let (Ok(uid), Ok(gid)) = (NonRootUid::try_from(uid), NonRootGid::try_from(gid)) else {
        return Err(Refusal::Root);
    };
    if !is_absolute_path(home) {
        return Err(Refusal::unusable(format!(
            "home directory {home:?} is no absolute path"
        )));
    }
    Ok(Account {
        name: name.to_owned(),
        uid,
        gid,
        home: home.to_owned(),
        maildrop: None,
        rights: Rights::Full,
    })
}

/// A path that can be given to the kernel as it is, and to the log.
pub fn is_absolute_path(path: &str) -> bool {
    path.starts_with('/') && path.len() < MAX_PATH_OCTETS && !path.chars().any(char::is_control)
}

/// A database that could not be asked.
pub fn unanswered(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Refusal::broken(format!("password database: {error}")),
        io::ErrorKind::InvalidData => Refusal::bad_record("password database: entry is not UTF-8"),
        _ => Refusal::unavailable(format!("password database: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn entry(uid: u32, gid: u32, home: &str) -> Passwd {
        Passwd {
            name: "joe".to_owned(),
            password: Zeroizing::new("x".to_owned()),
            uid,
            gid,
            home: home.to_owned(),
        }
    }

    #[test]
    fn root_and_roots_group_have_no_account() {
        for (uid, gid) in [(0, 0), (0, 1000), (1000, 0), (u32::MAX, 1000)] {
            assert_eq!(of_passwd(&entry(uid, gid, "/"), None), Err(Refusal::Root));
        }
    }

    #[test]
    fn a_server_of_one_user_serves_nobody_else() {
        let own = account("me", 1000, 1000, "/home/me").unwrap();
        assert_eq!(
            of_passwd(&entry(1001, 1001, "/home/joe"), Some(&own)),
            Err(Refusal::NotServed)
        );
        let served = of_passwd(&entry(1000, 7, "/elsewhere"), Some(&own)).unwrap();
        assert_eq!((served.name.as_str(), served.gid), ("joe", own.gid));
        assert_eq!(served.home, "/home/me");
    }

    #[test]
    fn a_home_is_an_absolute_path() {
        for home in ["", "home", "/a\nb"] {
            assert!(matches!(
                of_passwd(&entry(1000, 1000, home), None),
                Err(Refusal::Unusable(_))
            ));
        }
    }
}
