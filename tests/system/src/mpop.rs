//! mpop, told which mechanism to log in by.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// mpop, which will print all mail of the account that `settings` are of, lines of its configuration. Its files are in
/// `directory`.
///
/// # Panics
/// When they cannot be written.
pub fn fetching(directory: &Path, settings: &str) -> Command {
    let path = directory.join("mpoprc");
    let text = format!(
        "account default\n{settings}\nkeep on\nonly_new off\nuidls_file {}.uidls\ndelivery mda /bin/cat\n",
        path.display(),
    );
    fs::write(&path, text).expect("mpop's configuration");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its mode");
    let mut mpop = Command::new("/usr/bin/mpop");
    mpop.env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C")
        .arg("-C")
        .arg(&path);
    mpop
}
