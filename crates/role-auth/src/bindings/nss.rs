//! The password database through the C library's name-service switch: files, LDAP, sssd, whatever the system has.

use std::ffi::{CStr, CString, c_char, c_int, c_long};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use zeroize::Zeroizing;

/// Octets that one entry's strings begin with, as glibc's own sysconf(_SC_GETPW_R_SIZE_MAX) says.
const FIRST_BUFFER_OCTETS: usize = 1024;

/// Octets that one entry's strings may have; a directory service that sends more is broken.
const MAX_BUFFER_OCTETS: usize = 1024 * 1024;

/// A line of the password database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passwd {
    /// The name as the database spells it.
    pub name: String,
    /// The hash, or `x` where there is a shadow entry.
    pub password: Zeroizing<String>,
    /// User id.
    pub uid: u32,
    /// The primary group's id.
    pub gid: u32,
    /// Home directory.
    pub home: String,
}

/// A line of the shadow database; days count from 1970-01-01, -1 means that the field is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// The hash.
    pub password: Zeroizing<String>,
    /// When the password was last changed; 0: it has to be changed now.
    pub last_change: c_long,
    /// How many days it may be kept.
    pub maximum: c_long,
    /// From when on the account is closed.
    pub expires: c_long,
}

/// getpwnam_r(3); `None` where there is no such user.
///
/// # Errors
/// The databases could not be asked, or an entry is not UTF-8.
pub fn passwd_by_name(name: &str) -> io::Result<Option<Passwd>> {
    let name = c_string(name)?;
    look_up(|buffer| {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = ptr::null_mut();
        // SAFETY: the name is NUL-terminated; the buffer's true length is given; both results live during the call.
        let error = unsafe {
            libc::getpwnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &mut found,
            )
        };
        if found.is_null() {
            return Err(error);
        }
        // SAFETY: a result that is not null points to the entry, which the call has filled.
        let entry = unsafe { entry.assume_init() };
        Ok(text(entry.pw_name).and_then(|name| {
            Ok(Passwd {
                name,
                password: Zeroizing::new(text(entry.pw_passwd)?),
                uid: entry.pw_uid,
                gid: entry.pw_gid,
                home: text(entry.pw_dir)?,
            })
        }))
    })
}

/// getspnam_r(3); `None` where there is no such user.
///
/// # Errors
/// As [`passwd_by_name`]; `PermissionDenied` where this process may not read /etc/shadow.
pub fn shadow_by_name(name: &str) -> io::Result<Option<Shadow>> {
    let name = c_string(name)?;
    look_up(|buffer| {
        let mut entry = MaybeUninit::<libc::spwd>::uninit();
        let mut found = ptr::null_mut();
        // SAFETY: as in `passwd_by_name`.
        let error = unsafe {
            libc::getspnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                &mut found,
            )
        };
        if found.is_null() {
            return Err(error);
        }
        // SAFETY: as in `passwd_by_name`.
        let entry = unsafe { entry.assume_init() };
        Ok(text(entry.sp_pwdp).map(|password| Shadow {
            password: Zeroizing::new(password),
            last_change: entry.sp_lstchg,
            maximum: entry.sp_max,
            expires: entry.sp_expire,
        }))
    })
}

fn c_string(name: &str) -> io::Result<CString> {
    CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Calls `call` with a buffer that grows until the entry fits. `call` answers what it found, or an error number where
/// it found nothing (0: there is nothing to be found).
fn look_up<T>(call: impl Fn(&mut [u8]) -> Result<io::Result<T>, c_int>) -> io::Result<Option<T>> {
    let mut octets = FIRST_BUFFER_OCTETS;
    loop {
        let mut buffer = Zeroizing::new(vec![0; octets]);
        match call(&mut buffer) {
            Ok(found) => return found.map(Some),
            // The manual page allows a "not found" to look like any of these.
            Err(0 | libc::ENOENT | libc::ESRCH | libc::EBADF) => return Ok(None),
            Err(libc::EINTR) => {}
            Err(libc::ERANGE) if octets < MAX_BUFFER_OCTETS => octets = octets.saturating_mul(4),
            Err(error) => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// The text that an entry points to.
fn text(string: *const c_char) -> io::Result<String> {
    if string.is_null() {
        return Ok(String::new());
    }
    // SAFETY: the strings of an entry are NUL-terminated and lie in the caller's buffer, which outlives this call.
    let string = unsafe { CStr::from_ptr(string) };
    string
        .to_str()
        .map(str::to_owned)
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_and_nobody_else_by_a_made_up_name() {
        let root = passwd_by_name("root").unwrap().unwrap();
        assert_eq!((root.name.as_str(), root.uid), ("root", 0));
        assert_eq!(passwd_by_name("no-such-user-here").unwrap(), None);
    }

    #[test]
    fn an_entry_larger_than_the_first_buffer_is_asked_for_again() {
        let found = look_up(|buffer| {
            if buffer.len() < 100_000 {
                return Err(libc::ERANGE);
            }
            Ok(Ok(buffer.len()))
        });
        assert!(found.unwrap().unwrap() >= 100_000);
        let endless = look_up::<()>(|_| Err(libc::ERANGE));
        assert_eq!(endless.unwrap_err().raw_os_error(), Some(libc::ERANGE));
    }
}
