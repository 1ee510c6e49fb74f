//! A maildrop in another format, with the same messages in the same order, octet for octet, and by the same unique-ids.
//!
//! In this order, so that whatever ends it leaves a maildrop that is whole, and no client that fetches twice:
//!
//! 1. Sessions are kept off both places. The owner's process locks an mbox, writes the new maildrop beside its place, opens it
//!    as the server would, and compares all messages as they go over the wire.
//! 2. The list of unique-ids is written for the new place, where nothing is yet.
//! 3. The owner's process looks whether the old maildrop is still what was copied, and renames the new one into its place.
//! 4. Only if that was asked for, the messages that were copied are removed from the old one.

pub mod as_owner;
mod write;

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use clap::Args;
use confine::identity::Identity;
use maildrop::{IdMap, UniqueId};
use role_master::installation::Installation;

use crate::accounts::{Accounts, Owner, check_finished, identity};
use crate::helper::{self, Input, Task};
use crate::mailbox::Mailbox;
use crate::state::State;
use as_owner::{Conversion, Copied, Step};

/// What is to be converted, and into what.
#[derive(Debug, Args)]
pub struct Convert {
    /// The user.
    user: String,
    /// Where to: `mbox:PATH` or `maildir:PATH`, with `%u %n %d %h %%` as in the configuration. Nothing may be there.
    #[arg(long)]
    to: String,
    /// Remove the messages from the old maildrop once they are in the new one.
    #[arg(long)]
    remove_source: bool,
    /// The server's configuration file.
    #[arg(short, long)]
    configuration: Option<PathBuf>,
}

/// Does it.
///
/// # Errors
/// One sentence. Where it names no other place that was left, everything is as it was.
pub fn run(arguments: &Convert) -> Result<(), String> {
    let installation = Installation::find(arguments.configuration.as_deref())?;
    let fail = |error: String| format!("{}: {error}", arguments.user);
    let text = convert(&installation, arguments).map_err(fail)?;
    println!("{}: {text}", arguments.user);
    Ok(())
}

fn convert(installation: &Installation, arguments: &Convert) -> Result<String, String> {
    let state = State::of(installation);
    let source = Accounts::of(&installation.configuration).owner(&arguments.user)?;
    let target = source.elsewhere(&arguments.to)?;
    if target.path() == source.path() {
        return Err(format!("{} is where the mail is", target.path().display()));
    }
    let identity =
        identity(installation, &source.account).map(|identity| writer(identity, &target));
    let _locks = [state.lock(&source.path())?, state.lock(&target.path())?];
    check_finished(installation, &state, &source)?;
    let configuration = installation.configuration.spawner();
    let step = |step| -> Result<Copied, String> {
        let conversion = Conversion {
            source: Mailbox::new(&source, &configuration),
            target: Mailbox::new(&target, &configuration),
            step,
        };
        let copies = match source.location.is_mbox() {
            true => Input::File(state.copies(&source.path())?),
            false => Input::None,
        };
        helper::run(identity.as_ref(), &Task::Convert(conversion), copies)
    };
    let copied = step(Step::Copy)?;
    state.set_map(
        &target.path(),
        &carried_over(&state.map(&source.path())?, &copied)?,
    )?;
    step(Step::Finish {
        state: copied.state,
        remove_source: arguments.remove_source,
    })?;
    Ok(format!(
        "{} messages are in {}",
        copied.ids.len(),
        target.path().display()
    ))
}

/// The list of the new maildrop: each message is shown as it was.
fn carried_over(before: &IdMap, copied: &Copied) -> Result<IdMap, String> {
    let id = |text: &String| {
        UniqueId::new(text.as_bytes()).ok_or("helper process: no unique-id".to_owned())
    };
    let mut pairs = Vec::new();
    for (old, new) in &copied.ids {
        let (own, shown) = (id(new)?, before.shown_for(id(old)?));
        if own != shown {
            pairs.push((own, shown));
        }
    }
    IdMap::from_pairs(pairs).map_err(|error| error.to_string())
}

/// Who writes an mbox into a spool that belongs to root and lets its group write: the user, in that group.
fn writer(owner: Identity, target: &Owner) -> Identity {
    let directory = target.path().parent().and_then(|path| path.metadata().ok());
    let group = directory
        .filter(|directory| target.location.is_mbox() && directory.uid() == 0)
        .filter(|directory| directory.mode() & 0o022 == 0o020)
        .and_then(|directory| directory.gid().try_into().ok());
    match group {
        Some(gid) => Identity { gid, ..owner },
        None => owner,
    }
}
