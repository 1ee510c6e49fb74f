//! dlopen(3) and dlsym(3).

use std::ffi::{CStr, c_void};
use std::fmt;
use std::ptr::NonNull;

/// A shared library; it stays loaded until the process ends, so that function pointers taken from it stay valid.
pub(super) struct Library {
    handle: NonNull<c_void>,
}

/// A library, or a function in it, that this system does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingLibrary {
    /// What was looked for.
    pub name: String,
}

impl Library {
    /// Loads the first of `names` there is.
    pub fn open(names: &[&CStr]) -> Result<Self, MissingLibrary> {
        names
            .iter()
            .find_map(|name| open(name))
            .map(|handle| Self { handle })
            .ok_or_else(|| MissingLibrary::named(names.first().copied().unwrap_or(c"")))
    }

    /// The address of a function.
    pub fn function(&self, name: &CStr) -> Result<NonNull<c_void>, MissingLibrary> {
        // SAFETY: the handle is a loaded library's and is never closed; the name is NUL-terminated.
        let address = unsafe { libc::dlsym(self.handle.as_ptr(), name.as_ptr()) };
        NonNull::new(address).ok_or_else(|| MissingLibrary::named(name))
    }
}

fn open(name: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: the name is NUL-terminated. Loading runs the library's constructors; libcrypt's and libpam's do nothing
    // that a single-threaded process need fear. RTLD_NOW: what is missing shows here and not at the first login.
    NonNull::new(unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) })
}

impl MissingLibrary {
    fn named(name: &CStr) -> Self {
        Self {
            name: name.to_string_lossy().into_owned(),
        }
    }
}

impl fmt::Display for MissingLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not to be found", self.name)
    }
}

impl std::error::Error for MissingLibrary {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named() {
        let error = Library::open(&[c"libno-such-thing.so.7"]).err().unwrap();
        assert_eq!(
            error.to_string(),
            "libno-such-thing.so.7 is not to be found"
        );
    }

    #[test]
    fn a_missing_function_is_named() {
        let library = Library::open(&[c"libc.so.6"]).unwrap();
        assert!(library.function(c"getpid").is_ok());
        let error = library.function(c"no_such_function").unwrap_err();
        assert_eq!(error.name, "no_such_function");
    }
}
