//! Files of secrets that are changed as a whole: written anew beside the old one and renamed, so that whoever reads gets the one
//! or the other, whole; owner and mode stay, and a new file is its owner's alone. Two of us at a time are kept apart by a lock on
//! the directory.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

/// The most that others may do with the file; auth refuses it otherwise.
const MAX_MODE: u32 = 0o640;

/// Reads a file.
///
/// # Errors
/// One sentence with its name.
pub fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Reads a file, which need not exist yet, changes it, and writes it anew.
///
/// # Errors
/// One sentence; the file is as it was.
pub fn change(
    path: &Path,
    change: impl FnOnce(&mut String) -> Result<(), String>,
) -> Result<(), String> {
    let text = |error: io::Error| format!("{}: {error}", path.display());
    // A link stays one.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = File::open(directory_of(path)).map_err(text)?;
    flock(&directory, FlockOperation::LockExclusive).map_err(|error| text(error.into()))?;
    let old = match fs::metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(text(error)),
    };
    let mut contents = match old {
        Some(_) => read(path)?,
        None => Zeroizing::default(),
    };
    change(&mut contents)?;
    let new = path.with_file_name(format!(
        ".{}.{}",
        path.file_name().unwrap_or_default().display(),
        std::process::id()
    ));
    let written = write(&new, &contents, old.as_ref()).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        drop(fs::remove_file(&new));
    }
    written.and_then(|()| directory.sync_all()).map_err(text)
}

fn write(path: &Path, contents: &str, old: Option<&fs::Metadata>) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    if let Some(old) = old {
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
        file.set_permissions(Permissions::from_mode(old.mode() & MAX_MODE))?;
    }
    file.write_all(contents.as_bytes())?;
    file.sync_all()
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
