//! The directories that the roles need, made where they are missing and checked where they are there.

use std::fmt;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use messages::role::Role;

use crate::configuration::{Configuration, Runner};
use crate::identities::Identities;

/// What is wrong with a directory.
#[derive(Debug)]
pub struct DirectoryError(String);

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes and checks the state directory and, for root, the empty directory.
///
/// # Errors
/// Names the directory and what is wrong with it.
pub fn prepare(
    configuration: &Configuration,
    identities: &Identities,
) -> Result<(), DirectoryError> {
    if let Runner::Root = configuration.runner() {
        in_directory(configuration.chroot(), prepare_empty)?;
    }
    let state = configuration.state_directory();
    in_directory(&state, |path| make(path, 0o755))?;
    let spawner = configuration.spawner();
    let verifiers = configuration.derived_verifiers();
    let directories = [
        Some((spawner.session_locks, Role::Spawner)),
        Some((spawner.indexes, Role::Spawner)),
        Some((spawner.unique_ids, Role::Spawner)),
        Some((spawner.journals, Role::Spawner)),
        verifiers.map(|directory| (directory, Role::Auth)),
    ];
    for (directory, role) in directories.into_iter().flatten() {
        in_directory(&directory, |path| {
            make(path, 0o700)?;
            if let Some(owner) = identities.of(role) {
                chown(path, Some(owner.uid.into()), Some(owner.gid.into()))?;
            }
            fs::set_permissions(path, Permissions::from_mode(0o700))
        })?;
    }
    Ok(())
}

fn in_directory(
    path: &Path,
    act: impl FnOnce(&Path) -> io::Result<()>,
) -> Result<(), DirectoryError> {
    act(path).map_err(|error| DirectoryError(format!("{}: {error}", path.display())))
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    let is_new = !path.exists();
    DirBuilder::new().recursive(true).mode(mode).create(path)?;
    if let (true, Some(parent)) = (is_new, path.parent()) {
        // A journal is worth nothing whose directory a power cut takes away.
        File::open(parent)?.sync_all()?;
    }
    // A link to a directory would do for `create`, but whoever can change the link would choose where state is kept.
    if !fs::symlink_metadata(path)?.is_dir() {
        return Err(io::Error::other("is not a directory"));
    }
    Ok(())
}

/// A place where there is nothing to find and nothing can be put.
fn prepare_empty(path: &Path) -> io::Result<()> {
    make(path, 0o755)?;
    let metadata = fs::metadata(path)?;
    if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other(
            "must belong to root and be writable by nobody else",
        ));
    }
    if fs::read_dir(path)?.next().is_some() {
        return Err(io::Error::other("is not empty"));
    }
    Ok(())
}
