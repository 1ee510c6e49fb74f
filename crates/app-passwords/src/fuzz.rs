//! Plain functions for a fuzzer: each takes any octets, and panics only where the crate breaks a promise.

use crate::AppPassword;

/// What is read as a line is written and read as the same.
pub fn line(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(Some(password)) = AppPassword::parse(text) {
        assert_eq!(
            AppPassword::parse(&password.to_string()),
            Ok(Some(password))
        );
    }
}
