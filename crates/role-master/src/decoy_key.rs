//! The key that auth makes the salts of users who do not exist with (RFC 5802 section 9): made once, kept in the state directory.
//!
//! A salt that changes tells that its user does not exist, so the key outlives restarts. Auth is given the octets and never
//! the file. Who knows the key can find out which users exist, and nothing else.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use messages::auth::{DECOY_KEY_OCTETS, DecoyKey};
use rustix::fs::OFlags;
use rustix::rand::{GetRandomFlags, getrandom};

/// Its name in the state directory.
const NAME: &str = "decoy-key";

/// What is wrong with the file.
#[derive(Debug)]
pub struct DecoyKeyError(String);

impl fmt::Display for DecoyKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the key, or makes it where there is none.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn of(state_directory: &Path) -> Result<DecoyKey, DecoyKeyError> {
    let path = state_directory.join(NAME);
    let key = match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(&path).and_then(|()| read(&path))
        }
        other => other,
    };
    key.map_err(|error| DecoyKeyError(format!("{}: {error}", path.display())))
}

fn read(path: &Path) -> io::Result<DecoyKey> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.mode() & 0o077 != 0 {
        return Err(io::Error::other(
            "must be a file that only its owner may read",
        ));
    }
    let mut key = Vec::with_capacity(DECOY_KEY_OCTETS + 1);
    file.take(DECOY_KEY_OCTETS as u64 + 1)
        .read_to_end(&mut key)?;
    let key = key.try_into().map_err(|_| {
        io::Error::other(format!(
            "has not {DECOY_KEY_OCTETS} octets; remove it, and another is made"
        ))
    })?;
    Ok(DecoyKey(key))
}

/// Makes the file, whole from the moment it has its name; one that somebody else has made meanwhile (under inetd there are
/// several masters) stays.
fn make(path: &Path) -> io::Result<()> {
    let new = path.with_file_name(format!("{NAME}.{}", std::process::id()));
    let made = write(&new).and_then(|()| match fs::hard_link(&new, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    // What a master of the same number has left behind goes too.
    drop(fs::remove_file(&new));
    made
}

fn write(path: &Path) -> io::Result<()> {
    let mut key = [0; DECOY_KEY_OCTETS];
    getrandom(&mut key, GetRandomFlags::empty())?;
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&key)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn the_key_is_made_once_and_only_its_owner_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let key = of(directory.path()).unwrap();
        assert_ne!(key, DecoyKey([0; DECOY_KEY_OCTETS]));
        assert_eq!(of(directory.path()).unwrap(), key);
        let mode = fs::metadata(directory.path().join(NAME)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let another = tempfile::tempdir().unwrap();
        assert_ne!(of(another.path()).unwrap(), key);
    }

    #[test]
    fn a_key_that_others_know_or_that_is_cut_off_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        of(directory.path()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = of(directory.path()).unwrap_err().to_string();
        assert!(error.contains("only its owner"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, [7; DECOY_KEY_OCTETS - 1]).unwrap();
        assert!(of(directory.path()).is_err());
        fs::write(&path, [7; DECOY_KEY_OCTETS + 1]).unwrap();
        assert!(of(directory.path()).is_err());
        fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        assert!(of(directory.path()).is_err());
    }
}
