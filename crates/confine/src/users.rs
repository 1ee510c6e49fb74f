//! The password and group databases, through the C library, so that every name service that the
//! machine uses is asked.
//!
//! The master asks at start for the users that roles become, auth at each login for the account.
//! Must be asked before a role has confined itself, or by a role whose confinement leaves it the
//! databases.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

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

/// Looks a user up by name.
///
/// # Errors
/// The database cannot be asked (now), or the entry is not UTF-8 or is unreasonably long. A name
/// that is not there is `Ok(None)`.
pub fn by_name(name: &str) -> io::Result<Option<User>> {
    let Ok(name) = CString::new(name) else {
        return Ok(None);
    };
    look_up(|entry, scratch, result| {
        // SAFETY: the name is NUL-terminated; the entry, the scratch space of the length given and
        // the result pointer are valid for writes for the call.
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

/// Looks a user up by number.
///
/// # Errors
/// As [`by_name`].
pub fn by_uid(uid: u32) -> io::Result<Option<User>> {
    look_up(|entry, scratch, result| {
        // SAFETY: as in `by_name`.
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

fn look_up(
    ask: impl Fn(*mut libc::passwd, &mut [u8], *mut *mut libc::passwd) -> libc::c_int,
) -> io::Result<Option<User>> {
    let mut scratch = vec![0; FIRST_SCRATCH_OCTETS];
    loop {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut result = ptr::null_mut();
        match ask(entry.as_mut_ptr(), &mut scratch, &raw mut result) {
            0 if result.is_null() => return Ok(None),
            0 => {
                // SAFETY: a result that is not null points to `entry`, filled in.
                let entry = unsafe { entry.assume_init_ref() };
                return Ok(Some(User {
                    name: text(entry.pw_name)?,
                    uid: entry.pw_uid,
                    gid: entry.pw_gid,
                    home: text(entry.pw_dir)?,
                    shell: text(entry.pw_shell)?,
                }));
            }
            libc::ERANGE if scratch.len() < MAX_SCRATCH_OCTETS => {
                scratch.resize(scratch.len().saturating_mul(2), 0);
            }
            libc::EINTR => {}
            // What some name services answer where they mean «not there» (getpwnam_r(3)).
            libc::ENOENT | libc::ESRCH => return Ok(None),
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
        .map_err(|_| io::Error::other("an entry of the password database is not UTF-8"))
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
}
