//! crypt(3) by the system's libcrypt: the one implementation that knows every format found in /etc/shadow.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;
use std::ptr::NonNull;

use zeroize::{Zeroize, Zeroizing};

use super::dynamic::{Library, MissingLibrary};
use crate::name::Password;

/// Octets of `struct crypt_data`: 32,768 in libxcrypt, 131,232 in the libcrypt of glibc before 2.28 or so; the larger,
/// rounded up, serves both.
const CRYPT_DATA_OCTETS: usize = 132 * 1024;

/// More than the alignment of a `long`, which is all that either declares.
const CRYPT_DATA_ALIGNMENT: usize = 16;

/// Octets of a hash: libxcrypt's CRYPT_OUTPUT_SIZE.
const MAX_HASH_OCTETS: usize = 384;

type CryptR = unsafe extern "C" fn(*const c_char, *const c_char, *mut c_void) -> *mut c_char;
type CheckSalt = unsafe extern "C" fn(*const c_char) -> c_int;

/// CRYPT_SALT_INVALID and CRYPT_SALT_METHOD_DISABLED of `crypt.h`.
const UNUSABLE_SALTS: [c_int; 2] = [1, 2];

/// The loaded library.
pub struct Crypt {
    crypt_r: CryptR,
    /// libxcrypt only.
    check_salt: Option<CheckSalt>,
}

impl Crypt {
    /// Loads the library.
    ///
    /// # Errors
    /// The system has none.
    pub fn load() -> Result<Self, MissingLibrary> {
        let library = Library::open(&[c"libcrypt.so.1", c"libcrypt.so.2"])?;
        let crypt_r = library.function(c"crypt_r")?;
        let check_salt = library.function(c"crypt_checksalt").ok();
        Ok(Self {
            // SAFETY: crypt(3) declares `char *crypt_r(const char *, const char *, struct crypt_data *)`.
            crypt_r: unsafe { transmute::<NonNull<c_void>, CryptR>(crypt_r) },
            // SAFETY: crypt_checksalt(3) declares `int crypt_checksalt(const char *)`.
            check_salt: check_salt
                .map(|address| unsafe { transmute::<NonNull<c_void>, CheckSalt>(address) }),
        })
    }

    /// The hash of `password` by `setting`, which may be a whole hash; `None` where the setting is of no known form.
    pub fn hash(&self, password: &Password, setting: &CStr) -> Option<Zeroizing<Vec<u8>>> {
        let data = CryptData::new();
        // SAFETY: both strings are NUL-terminated; the data are zeroed, as crypt_r(3) demands, large and aligned enough.
        let output = unsafe {
            (self.crypt_r)(
                password.as_c_str().as_ptr(),
                setting.as_ptr(),
                data.0.as_ptr().cast(),
            )
        };
        if output.is_null() {
            return None;
        }
        // SAFETY: what crypt_r returns points to a NUL-terminated string inside the data, which are still alive.
        let output = unsafe { CStr::from_ptr(output) }.to_bytes();
        // "*0" and "*1" are the failure tokens; no hash begins with an asterisk.
        if output.starts_with(b"*") || output.is_empty() || output.len() > MAX_HASH_OCTETS {
            return None;
        }
        Some(Zeroizing::new(output.to_vec()))
    }

    /// Whether this is a setting or hash that the library can compute with. `true` where the library cannot tell.
    pub fn understands(&self, setting: &CStr) -> bool {
        let Some(check_salt) = self.check_salt else {
            return true;
        };
        // SAFETY: the string is NUL-terminated and only read.
        !UNUSABLE_SALTS.contains(&unsafe { check_salt(setting.as_ptr()) })
    }
}

/// `struct crypt_data`, opaque; on the heap, and wiped before it is given back.
struct CryptData(NonNull<u8>);

impl CryptData {
    const LAYOUT: Layout = match Layout::from_size_align(CRYPT_DATA_OCTETS, CRYPT_DATA_ALIGNMENT) {
        Ok(layout) => layout,
        Err(_) => panic!("a constant layout"),
    };

    fn new() -> Self {
        // SAFETY: the layout's size is not zero.
        match NonNull::new(unsafe { alloc_zeroed(Self::LAYOUT) }) {
            Some(data) => Self(data),
            None => std::alloc::handle_alloc_error(Self::LAYOUT),
        }
    }
}

impl Drop for CryptData {
    fn drop(&mut self) {
        // SAFETY: this many octets were allocated, zeroed and therefore initialised, and nobody else refers to them.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr(), CRYPT_DATA_OCTETS) }.zeroize();
        // SAFETY: allocated with this layout and not freed before.
        unsafe { dealloc(self.0.as_ptr(), Self::LAYOUT) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From mkpasswd(1), for `pässword:1` in UTF-8.
    const VECTORS: [&CStr; 9] = [
        c"$y$j9T$uucIQOyT.tBwlbA9E9Bq2/$Nm4KFSw0q4aPRZq90sJwyEqaAYhaV.0H2EPcaFD2Wp2",
        c"$y$j75$onBJYEDOeiJaAOLRXyWZS.$sxQ2.oQmQu2vJrsGRocHVkVT747pyPQDSvvhqih/4u9",
        c"$gy$j9T$pKKZpKUWuLc1wL59vjec21$ZxS4eHCBZAMQz2WdTvVfSr3US2cIL9.5By9jtaHUPlB",
        c"$7$CU..../....PPNe0vqYM7cb2/wuJIHb5.$rmZV6EIx1HYtgkefsLG6XJ68PBnYtomdhjVF6541Cq7",
        c"$6$dqEtMmYQmWV5W1sc$qyQwkFR1LeGJoCuOGZJecxBy1mzlqHGC.kSIR9z5i51lqNgtHpegY48HdMUO3X1tLuGmZrEqMjI3GwRxSDHhY1",
        c"$5$4p72EzsVJ92vonVG$KUciMqzqKPHETFKl7Fot8DtONeUYups9QykVxgD5Sg1",
        c"$2b$05$jngh7a3dgkUcxEuKqjxKH.6sTuGYMlwQ.cJnLkpts19P0RIwI4Voe",
        c"$1$XPGtMBID$xh.YT3sdHgUarDIy6D/2D1",
        c"uUfVr7coT6yTg",
    ];

    #[test]
    fn every_format_of_the_system_is_computed() {
        let crypt = Crypt::load().unwrap();
        let right = Password::parse("pässword:1".as_bytes()).unwrap();
        let wrong = Password::parse(b"passw\xe4rd:1").unwrap();
        for hash in VECTORS {
            assert!(crypt.understands(hash), "{hash:?}");
            let computed = crypt.hash(&right, hash).unwrap();
            assert_eq!(computed.as_slice(), hash.to_bytes());
            assert_ne!(crypt.hash(&wrong, hash).unwrap(), computed, "{hash:?}");
        }
    }

    #[test]
    fn what_is_no_setting_has_no_hash() {
        let crypt = Crypt::load().unwrap();
        let password = Password::parse(b"secret").unwrap();
        for setting in [c"", c"*", c"*0", c"!", c"x", c"$nosuch$salt$", c"$6"] {
            assert_eq!(crypt.hash(&password, setting), None, "{setting:?}");
        }
        assert!(!crypt.understands(c"$nosuch$salt$"));
    }
}
