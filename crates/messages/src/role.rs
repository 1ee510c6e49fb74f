//! What every role has in common: how it is started and what it reports back.

use std::path::PathBuf;

use confine::channel::Message;
use confine::identity::Identity;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Bound of a message that carries a role's configuration: networks and paths, some kilobytes at the most.
pub const MAX_CONFIGURATION_OCTETS: usize = 64 * 1024;

/// The processes that the master starts, each by executing a program: its own anew, or `popa3d-roles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Accepts connections, applies limits, greets.
    Listener,
    /// Forks one session process per connection that has spoken.
    SessionSpawner,
    /// Sees credentials and decides.
    Auth,
    /// Forks one maildrop process per login.
    Spawner,
    /// Holds the TLS keys and signs handshakes; there only where TLS is configured.
    Keyholder,
    /// Checks access tokens; there only where OAuth is configured.
    Token,
    /// Makes dotlocks in the spool; there only where they are configured.
    Locker,
}

impl Role {
    /// Every role, in the order in which they are started: what is spoken to comes before what speaks to it.
    pub const ALL: [Role; 7] = [
        Role::Keyholder,
        Role::Locker,
        Role::Spawner,
        Role::Token,
        Role::Auth,
        Role::SessionSpawner,
        Role::Listener,
    ];

    /// The name in process listings and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Listener => "listener",
            Role::SessionSpawner => "session-spawner",
            Role::Auth => "auth",
            Role::Spawner => "spawner",
            Role::Keyholder => "keyholder",
            Role::Token => "token",
            Role::Locker => "locker",
        }
    }

    /// Whether it loads libraries while it runs, as password stores and name services ask for. Such a role is in an
    /// executable that is linked dynamically.
    pub const fn loads_libraries(self) -> bool {
        matches!(self, Role::Auth | Role::Token)
    }

    /// The role whose `argv[0]` this is, as [`Role::program_name`] spells it.
    pub fn from_program_name(name: &[u8]) -> Option<Role> {
        Role::ALL
            .into_iter()
            .find(|role| role.program_name().to_bytes() == name)
    }

    /// `argv[0]` of the role's process.
    pub const fn program_name(self) -> &'static std::ffi::CStr {
        match self {
            Role::Listener => c"popa3d: listener",
            Role::SessionSpawner => c"popa3d: session spawner",
            Role::Auth => c"popa3d: auth",
            Role::Spawner => c"popa3d: spawner",
            Role::Keyholder => c"popa3d: keyholder",
            Role::Token => c"popa3d: token",
            Role::Locker => c"popa3d: locker",
        }
    }
}

/// How a role confines itself, the same for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confinement {
    /// Whom to become; `None` where the server was not started by root and every role stays the user who started it.
    pub identity: Option<Identity>,
    /// The empty directory to be confined to (root only; Landlock does the work elsewhere).
    pub chroot: Option<PathBuf>,
    /// A protection the kernel lacks ends the role instead of being logged (`sandbox = "required"`).
    pub required: bool,
}

/// The master's first message to a role. The role's log channel comes with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start<C> {
    /// What the role gives up before it looks at anything foreign.
    pub confinement: Confinement,
    /// The role's part of the configuration.
    pub configuration: C,
}

impl<C: Serialize + DeserializeOwned> Message for Start<C> {
    const MAX_OCTETS: usize = MAX_CONFIGURATION_OCTETS;

    /// The log channel.
    fn descriptors(&self) -> usize {
        1
    }
}

/// A role's word to the master on its control channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// Confined and at work.
    Ready {
        /// Protections that this kernel does not have, as short sentences for the log.
        missing: Vec<String>,
    },
    /// The role cannot do its work and ends; the reason is for the log.
    Failed {
        /// One sentence.
        reason: String,
    },
}

impl Message for Report {
    const MAX_OCTETS: usize = 4 * 1024;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_is_found_by_its_program_name() {
        for role in Role::ALL {
            assert_eq!(
                Role::from_program_name(role.program_name().to_bytes()),
                Some(role)
            );
        }
        assert_eq!(Role::from_program_name(b"popa3d"), None);
    }
}
