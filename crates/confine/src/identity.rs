//! Becoming somebody who is not root, for good.
//!
//! Every role but the master runs this once, early; the spawner's children run it from the
//! spawner's own, already lowered identity. Nothing is trusted: after the calls, the kernel is
//! asked what we are now, and root is tried for.

use std::fmt;

use rustix::process::getgroups;
use rustix::thread::{
    CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
};
use serde::{Deserialize, Serialize};

pub use rustix::thread::CapabilitySet as Capabilities;

use crate::error::ConfineError;
use crate::sys;

/// Neither root, nor the -1 that setresuid(2) takes for "leave it as it is".
macro_rules! non_root_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u32", into = "u32")]
        pub struct $name(u32);

        impl $name {
            /// The number, for system calls and logs.
            pub const fn as_raw(self) -> u32 {
                self.0
            }
        }

        impl TryFrom<u32> for $name {
            type Error = IsRoot;

            fn try_from(id: u32) -> Result<Self, IsRoot> {
                if matches!(id, 0 | u32::MAX) { Err(IsRoot) } else { Ok(Self(id)) }
            }
        }

        impl From<$name> for u32 {
            fn from(id: $name) -> u32 {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

non_root_id! {
    /// A user who is not root.
    NonRootUid
}

non_root_id! {
    /// A group that is not root's.
    NonRootGid
}

/// The number is root's, or no user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsRoot;

impl fmt::Display for IsRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id that is neither 0 nor 4294967295 is needed")
    }
}

impl std::error::Error for IsRoot {}

/// Who a process is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Real, effective and saved user.
    pub uid: NonRootUid,
    /// Real, effective and saved group.
    pub gid: NonRootGid,
    /// Supplementary groups, in any order.
    pub groups: Vec<NonRootGid>,
}

impl Identity {
    /// Who this process is; `None` where root comes into it.
    pub fn own() -> Option<Self> {
        let [uid, ..] = sys::uids().ok()?;
        let [gid, ..] = sys::gids().ok()?;
        let groups = getgroups().ok()?;
        Some(Self {
            uid: uid.try_into().ok()?,
            gid: gid.try_into().ok()?,
            groups: groups
                .iter()
                .filter_map(|group| group.as_raw().try_into().ok())
                .collect(),
        })
    }
}

/// Whether this process may become somebody else: it is root, or a spawner.
pub fn may_change() -> bool {
    capabilities(None).is_ok_and(|held| held.effective.contains(Capabilities::SETUID))
}

/// Becomes `identity`, without any capability, irreversibly. In a process that never had a
/// capability (a user's own server) nothing can be changed: then it is only verified that this is
/// its user and group already, and its supplementary groups stay as they are.
///
/// # Errors
/// [`ConfineError`]; the process may be half changed and has to end.
pub fn drop_to(identity: &Identity) -> Result<(), ConfineError> {
    drop_to_keeping(identity, Capabilities::empty())
}

/// As [`drop_to`], but keeps exactly the capabilities named: [`Capabilities::SETUID`] and
/// [`Capabilities::SETGID`] for a spawner. Its children come from there to no capability at all by
/// [`drop_to`].
///
/// # Errors
/// [`ConfineError`]; the process may be half changed and has to end.
pub fn drop_to_keeping(identity: &Identity, kept: Capabilities) -> Result<(), ConfineError> {
    if !sys::is_single_threaded() {
        return Err(ConfineError::Threads);
    }
    let held = capabilities(None).map_err(ConfineError::in_step("capget"))?;
    if held.permitted.is_empty() {
        verify_ids(identity)?;
    } else {
        // The bounding set first: emptying it takes CAP_SETPCAP, which only root has. It says what
        // an exec could bring back, so it is empty also where capabilities are kept.
        if held.effective.contains(Capabilities::SETPCAP) {
            empty_bounding_set()?;
        }
        if !kept.is_empty() {
            set_keep_capabilities(true).map_err(ConfineError::in_step("keep capabilities"))?;
        }
        change_ids(identity)?;
        let sets = CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: Capabilities::empty(),
        };
        set_capabilities(None, sets).map_err(ConfineError::in_step("capset"))?;
        set_keep_capabilities(false).map_err(ConfineError::in_step("keep capabilities"))?;
        verify_ids(identity)?;
        verify_groups(identity)?;
    }
    verify_capabilities(kept)?;
    verify_irreversible(kept)
}

fn empty_bounding_set() -> Result<(), ConfineError> {
    for capability in Capabilities::all().iter() {
        // An error: the kernel does not know this capability.
        if capability_is_in_bounding_set(capability).unwrap_or(false) {
            remove_capability_from_bounding_set(capability)
                .map_err(ConfineError::in_step("bounding set"))?;
        }
    }
    Ok(())
}

/// Groups first, the user last: the user's change ends the right to make the others.
fn change_ids(identity: &Identity) -> Result<(), ConfineError> {
    clear_ambient_capability_set().map_err(ConfineError::in_step("ambient set"))?;
    let groups: Vec<u32> = identity.groups.iter().map(|group| group.as_raw()).collect();
    sys::set_groups(&groups).map_err(ConfineError::in_step("setgroups"))?;
    sys::set_gid(identity.gid.as_raw()).map_err(ConfineError::in_step("setresgid"))?;
    sys::set_uid(identity.uid.as_raw()).map_err(ConfineError::in_step("setresuid"))
}

fn verify_ids(identity: &Identity) -> Result<(), ConfineError> {
    let uids = sys::uids().map_err(ConfineError::in_step("getresuid"))?;
    let gids = sys::gids().map_err(ConfineError::in_step("getresgid"))?;
    if uids != [identity.uid.as_raw(); 3] {
        return Err(ConfineError::NotInForce("user"));
    }
    if gids != [identity.gid.as_raw(); 3] {
        return Err(ConfineError::NotInForce("group"));
    }
    Ok(())
}

fn verify_groups(identity: &Identity) -> Result<(), ConfineError> {
    let sorted = |mut groups: Vec<u32>| {
        groups.sort_unstable();
        groups.dedup();
        groups
    };
    let groups = getgroups().map_err(ConfineError::in_step("getgroups"))?;
    let found = sorted(groups.iter().map(|group| group.as_raw()).collect());
    let wanted = sorted(identity.groups.iter().map(|group| group.as_raw()).collect());
    if found != wanted {
        return Err(ConfineError::NotInForce("supplementary groups"));
    }
    Ok(())
}

fn verify_capabilities(kept: Capabilities) -> Result<(), ConfineError> {
    let held = capabilities(None).map_err(ConfineError::in_step("capget"))?;
    // The ambient set is a part of the inheritable one (capabilities(7)), so it is empty with it.
    if held.effective != kept || held.permitted != kept || !held.inheritable.is_empty() {
        return Err(ConfineError::NotInForce("capabilities"));
    }
    Ok(())
}

/// Tries to become root, unless that is what was kept.
fn verify_irreversible(kept: Capabilities) -> Result<(), ConfineError> {
    if !kept.contains(Capabilities::SETUID) && sys::regain_root_uid().is_ok() {
        return Err(ConfineError::NotInForce("root's user id can be regained"));
    }
    if !kept.contains(Capabilities::SETGID) && sys::regain_root_gid().is_ok() {
        return Err(ConfineError::NotInForce("root's group id can be regained"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_minus_one_are_refused() {
        for id in [0, u32::MAX] {
            assert_eq!(NonRootUid::try_from(id), Err(IsRoot));
            assert_eq!(NonRootGid::try_from(id), Err(IsRoot));
        }
        assert_eq!(NonRootUid::try_from(1).map(NonRootUid::as_raw), Ok(1));
    }

    #[test]
    fn root_is_refused_in_a_message_too() {
        let root = postcard::to_allocvec(&0u32).unwrap();
        assert!(postcard::from_bytes::<NonRootUid>(&root).is_err());
        let user = postcard::to_allocvec(&1000u32).unwrap();
        assert_eq!(
            postcard::from_bytes::<NonRootUid>(&user).unwrap().as_raw(),
            1000
        );
    }
}
