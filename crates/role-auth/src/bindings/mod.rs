//! Foreign functions: libcrypt and libpam, loaded at run time so that no development package is needed to build.
//!
//! All `unsafe` code of this crate is here: one foreign call per wrapper, each with what makes it sound. Runs in auth's
//! worker processes (the libraries are loaded before the fork); single-threaded throughout.
#![allow(unsafe_code)]

mod dynamic;

pub mod crypt;
pub mod pam;

pub use dynamic::MissingLibrary;
