//! What the administrator's tools have to know of the server: its configuration, whose its files are, and that their
//! directories are there.
//!
//! Runs in `popa3ctl`, as whoever calls that; the server itself need not run.

use std::path::Path;

use confine::identity::Identity;
use messages::role::Role;

use crate::configuration::Configuration;
use crate::identities::Identities;
use crate::{directories, runner, text};

/// A server as it is configured.
#[derive(Clone, Debug)]
pub struct Installation {
    /// Its configuration.
    pub configuration: Configuration,
    identities: Identities,
}

impl Installation {
    /// Reads the configuration file, or the default one, and makes the state directory if it is missing.
    ///
    /// # Errors
    /// One sentence: what `popa3d -t` would say, or what is wrong with a directory.
    pub fn find(path: Option<&Path>) -> Result<Self, String> {
        let runner = runner::find().map_err(text)?;
        let configuration = Configuration::read(path, runner, runner::host_name()).map_err(text)?;
        let identities = Identities::look_up(&configuration).map_err(text)?;
        directories::prepare(&configuration, &identities).map_err(text)?;
        Ok(Self {
            configuration,
            identities,
        })
    }

    /// Whose the files of the state directory are; `None` where they are the caller's.
    pub fn spawner(&self) -> Option<&Identity> {
        self.identities.of(Role::Spawner)
    }

    /// Who may meet the network; `None` where that is the caller.
    pub fn network(&self) -> Option<&Identity> {
        self.identities.of(Role::Listener)
    }
}
