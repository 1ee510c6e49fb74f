//! Which popa3d is meant: the one of this workspace, or Debian's as the oracle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// Where Debian's package puts the original.
const ORIGINAL: &str = "usr/sbin/popa3d";

/// A popa3d to be run.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Debian's popa3d 1.0.3: no options but `-D` and `-V`, no configuration.
    pub is_original: bool,
}

impl Program {
    /// The server under test: this workspace's, built if it is not; or what `POPA3D_UNDER_TEST` says: the path of
    /// another build, or `original` to try the tests themselves against the program they were modelled on.
    ///
    /// # Panics
    /// When it cannot be built.
    pub fn under_test() -> Program {
        static OURS: OnceLock<PathBuf> = OnceLock::new();
        match std::env::var("POPA3D_UNDER_TEST") {
            Ok(name) if name == "original" => Program::original().expect("Debian's popa3d"),
            Ok(path) => Program {
                path: path.into(),
                is_original: false,
            },
            Err(_) => Program {
                path: OURS.get_or_init(|| build("popa3d")).clone(),
                is_original: false,
            },
        }
    }

    /// Debian's popa3d, if it is there.
    pub fn original() -> Option<Program> {
        let path = debian(ORIGINAL)?;
        Some(Program {
            path,
            is_original: true,
        })
    }
}

/// Another program of this workspace, built if it is not; or what `NAME_UNDER_TEST` says.
///
/// # Panics
/// When it cannot be built.
pub fn tool(name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(format!("{}_UNDER_TEST", name.to_uppercase())) {
        return path.into();
    }
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().expect("no build failed");
    let path = built.entry(name.to_owned()).or_insert_with(|| build(name));
    path.clone()
}

/// A file of a Debian package that is installed, or that `tests/run` has taken apart below the target directory.
pub fn debian(path: &str) -> Option<PathBuf> {
    let apart = profile().with_file_name("debian");
    [Path::new("/"), &apart]
        .map(|root| root.join(path))
        .into_iter()
        .find(|path| path.exists())
}

/// The directory of this build: `target/debug` or `target/release`.
fn profile() -> PathBuf {
    let this = std::env::current_exe().expect("the path of this program");
    // Tests are in `deps` below it.
    this.ancestors()
        .skip(1)
        .find(|directory| !directory.ends_with("deps"))
        .expect("a profile directory")
        .to_owned()
}

/// Builds a program as the tests themselves were built: `cargo test` alone does not build another package's program.
fn build(package: &str) -> PathBuf {
    let profile = profile();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", package]);
    if profile.file_name().is_some_and(|name| name == "release") {
        cargo.arg("--release");
    }
    cargo.env(
        "CARGO_TARGET_DIR",
        profile.parent().expect("a target directory"),
    );
    cargo
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .stdin(Stdio::null());
    assert!(
        cargo.status().expect("cargo").success(),
        "{package} does not build"
    );
    profile.join(package)
}
