//! The password, shadow and group databases, through the C library, so that every name service that the
//! machine uses is asked.
//!
//! The master asks at start for the users that roles become, auth at each login for the account.
//! Must be asked before a role has confined itself, or by a role whose confinement leaves it the
//! databases.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use zeroize::Zeroizing;

/// The scratch space starts with this many octets and doubles while the C library asks for more.
const FIRST_SCRATCH_OCTETS: usize = 4 * 1024;

/// An entry that needs more is refused: no real one does.
const MAX_SCRATCH_OCTETS: usize = 1024 * 1024;

/// Groups of one user; the kernel's own bound (NGROUPS_MAX).
const MAX_GROUPS: usize = 65_536;

/// An entry of the password database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name as the database spells it.
    pub name: String,
    /// User number; may be root's.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// An entry of the password database with its hash, for whoever verifies passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passwd {
    /// The name as the database spells it.
    pub name: String,
    /// The hash, or `x` where there is a shadow entry.
    pub password: Zeroizing<String>,
    /// User number; may be root's.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// Home directory.
    pub home: String,
}

/// An entry of the shadow database; days count from 1970-01-01, -1 means that the field is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// The hash.
    pub password: Zeroizing<String>,
    /// When the password was last changed; 0: it has to be changed now.
    pub last_change: libc::c_long,
    /// How many days it may be kept.
    pub maximum: libc::c_long,
    /// From when on the account is closed.
    pub expires: libc::c_long,
}

/// Looks a user up by name.
///
/// # Errors
/// The database cannot be asked (now), or the entry is not UTF-8 or is unreasonably long. A name
/// that is not there is `Ok(None)`.
pub fn by_name(name: &str) -> io::Result<Option<User>> {
    entry_by_name(name, user)
}

/// Looks a user up by number.
///
/// # Errors
/// As [`by_name`].
pub fn by_uid(uid: u32) -> io::Result<Option<User>> {
    look_up(user, |entry, scratch, result| {
        // SAFETY: the entry, the scratch space of the length given and the result pointer are
        // valid for writes for the call.
        unsafe {
            libc::getpwuid_r(
                uid,
                entry,
                scratch.as_mut_ptr().cast(),
                scratch.len(),
                result,
            )
        }
    })
}

/// Looks a user up by name, with the hash.
///
/// # Errors
/// As [`by_name`].
pub fn passwd_by_name(name: &str) -> io::Result<Option<Passwd>> {
    entry_by_name(name, |entry| {
        Ok(Passwd {
            name: text(entry.pw_name)?,
            password: Zeroizing::new(text(entry.pw_passwd)?),
            uid: entry.pw_uid,
            gid: entry.pw_gid,
            home: text(entry.pw_dir)?,
        })
    })
}

/// Looks a user's shadow entry up.
///
/// # Errors
/// As [`by_name`]; `PermissionDenied` where this process may not read /etc/shadow.
pub fn shadow_by_name(name: &str) -> io::Result<Option<Shadow>> {
    let Ok(name) = CString::new(name) else {
        return Ok(None);
    };
    let take = |entry: &libc::spwd| {
        Ok(Shadow {
            password: Zeroizing::new(text(entry.sp_pwdp)?),
            last_change: entry.sp_lstchg,
            maximum: entry.sp_max,
            expires: entry.sp_expire,
        })
    };
    look_up(take, |entry, scratch, result| {
        // SAFETY: as in `by_uid`; the name is NUL-terminated.
        unsafe {
            libc::getspnam_r(
                name.as_ptr(),
                entry,
                scratch.as_mut_ptr().cast(),
                scratch.len(),
                result,
            )
        }
    })
}

/// Every group of the user, the primary one (`gid`) included.
///
/// # Errors
/// More than the kernel would take.
pub fn groups_of(name: &str, gid: u32) -> io::Result<Vec<u32>> {
    let name = CString::new(name)?;
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut count = libc::c_int::try_from(groups.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the name is NUL-terminated and the array has room for `count` numbers.
        let result =
            unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        let wanted = usize::try_from(count).unwrap_or(0);
        if result >= 0 {
            groups.truncate(wanted);
            return Ok(groups);
        }
        if groups.len() >= MAX_GROUPS {
            return Err(io::Error::other("too many groups"));
        }
        groups.resize(
            wanted.max(groups.len().saturating_mul(2)).min(MAX_GROUPS),
            0,
        );
    }
}

fn entry_by_name<T>(
    name: &str,
    take: impl Fn(&libc::passwd) -> io::Result<T>,
) -> io::Result<Option<T>> {
    let Ok(name) = CString::new(name) else {
        return Ok(None);
    };
    look_up(take, |entry, scratch, result| {
        // SAFETY: as in `by_uid`; the name is NUL-terminated.
        unsafe {
            libc::getpwnam_r(
                name.as_ptr(),
                entry,
                scratch.as_mut_ptr().cast(),
                scratch.len(),
                result,
            )
        }
    })
}

fn user(entry: &libc::passwd) -> io::Result<User> {
    Ok(User {
        name: text(entry.pw_name)?,
        uid: entry.pw_uid,
        gid: entry.pw_gid,
        home: text(entry.pw_dir)?,
        shell: text(entry.pw_shell)?,
    })
}

/// Asks with scratch space that grows until the entry fits, and is wiped. `ask` is one of the C
/// library's functions, `take` makes of its entry what is wanted.
fn look_up<E, T>(
    take: impl Fn(&E) -> io::Result<T>,
    ask: impl Fn(*mut E, &mut [u8], *mut *mut E) -> libc::c_int,
) -> io::Result<Option<T>> {
    let mut octets = FIRST_SCRATCH_OCTETS;
    loop {
        let mut scratch = Zeroizing::new(vec![0; octets]);
        let mut entry = MaybeUninit::<E>::uninit();
        let mut result = ptr::null_mut();
        let error = ask(entry.as_mut_ptr(), &mut scratch, &raw mut result);
        if !result.is_null() {
            // SAFETY: a result that is not null points to `entry`, filled in.
            return take(unsafe { entry.assume_init_ref() }).map(Some);
        }
        match error {
            // What some name services answer where they mean «not there» (getpwnam_r(3)).
            0 | libc::ENOENT | libc::ESRCH | libc::EBADF => return Ok(None),
            libc::ERANGE if octets < MAX_SCRATCH_OCTETS => octets = octets.saturating_mul(2),
            libc::EINTR => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn text(field: *const libc::c_char) -> io::Result<String> {
    if field.is_null() {
        return Ok(String::new());
    }
    // SAFETY: the C library's strings are NUL-terminated and live as long as the scratch space,
    // which outlives this.
    let field = unsafe { CStr::from_ptr(field) };
    field
        .to_str()
        .map(str::to_owned)
        .map_err(|_| io::Error::other("an entry of the databases is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_by_number() {
        let root = by_name("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(by_uid(0).unwrap(), Some(root));
        assert!(groups_of("root", 0).unwrap().contains(&0));
    }

    #[test]
    fn an_unknown_name_is_not_an_error() {
        assert_eq!(by_name("no-such-user").unwrap(), None);
        assert_eq!(by_name("with\0nul").unwrap(), None);
        assert_eq!(by_uid(4_294_967_000).unwrap(), None);
    }

    #[test]
    fn an_entry_larger_than_the_first_scratch_space_is_asked_for_again() {
        let ask = |octets| {
            move |entry: *mut usize, scratch: &mut [u8], result: *mut *mut usize| {
                if scratch.len() < octets {
                    return libc::ERANGE;
                }
                // SAFETY: both are the caller's.
                unsafe {
                    *entry = scratch.len();
                    *result = entry;
                }
                0
            }
        };
        let found = look_up(|length| Ok(*length), ask(100_000)).unwrap();
        assert!(found.unwrap() >= 100_000);
        let endless = look_up(|length| Ok(*length), ask(usize::MAX));
        assert_eq!(endless.unwrap_err().raw_os_error(), Some(libc::ERANGE));
    }

    #[test]
    fn a_hash_comes_from_the_entry_of_the_same_name() {
        let root = passwd_by_name("root").unwrap().unwrap();
        assert_eq!((root.name.as_str(), root.uid), ("root", 0));
        assert_eq!(passwd_by_name("no-such-user").unwrap(), None);
    }
}
