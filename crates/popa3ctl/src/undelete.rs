//! Messages that a user has deleted and that are still kept (`maildrop.delete_grace`), shown again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use app_passwords::Day;
use clap::Args;
use maildrop::{Deletions, UniqueId};
use role_master::installation::Installation;
use serde::{Deserialize, Serialize};

use crate::accounts::{Accounts, identity};
use crate::helper::{self, Input, Task};
use crate::state::State;

/// 9999-12-31.
const LAST_DAY: u32 = 2_932_896;

/// What is to be shown again.
#[derive(Debug, Args)]
pub struct Undelete {
    /// The user.
    user: String,
    /// Messages by their unique-ids; without any, all that are kept.
    #[arg(value_name = "UID")]
    ids: Vec<String>,
    /// Write what is kept, and change nothing: a line for each message, with its unique-id, the day it was deleted, and the
    /// day it may be removed.
    #[arg(long, conflicts_with = "ids")]
    list: bool,
    /// The server's configuration file.
    #[arg(short, long)]
    configuration: Option<PathBuf>,
}

/// Does it.
///
/// # Errors
/// One sentence; everything is as it was.
pub fn run(arguments: &Undelete) -> Result<(), String> {
    let installation = Installation::find(arguments.configuration.as_deref())?;
    let text = undelete(&installation, arguments)
        .map_err(|error| format!("{}: {error}", arguments.user))?;
    let written = io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|error| format!("standard output: {error}"))
}

fn undelete(installation: &Installation, arguments: &Undelete) -> Result<String, String> {
    let state = State::of(installation);
    let owner = Accounts::of(installation).owner(&arguments.user)?;
    let path = owner.path();
    // What a session has read it would write again.
    let _lock = state.lock(&path)?;
    let Some(file) = state.deletions(&path)? else {
        return match arguments.ids.first() {
            Some(id) => Err(not_kept(id)),
            None => Ok(String::new()),
        };
    };
    let order = match arguments.list {
        true => Order::List,
        false => Order::Show(arguments.ids.clone()),
    };
    let identity = identity(installation, &owner.account);
    let task = Task::Undelete(order);
    let messages: Vec<Kept> = helper::run(identity.as_ref(), &task, Input::File(file))?;
    if !arguments.list {
        let count = messages.len();
        return Ok(format!(
            "{}: {count} messages shown again\n",
            arguments.user
        ));
    }
    let grace = installation.configuration.spawner().delete_grace;
    let mut text = String::new();
    for Kept { id, deleted } in messages {
        let end = deleted.saturating_add(grace.as_secs());
        text += &format!("{} {} {}\n", id.escape_debug(), day(deleted), day(end));
    }
    Ok(text)
}

/// What the owner's process is to do: whoever wrote the file was one too.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Say what is kept.
    List,
    /// Show these again, or all if there are none; says which.
    Show(Vec<String>),
}

/// A message that is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Its unique-id.
    id: String,
    /// Seconds since 1970.
    deleted: u64,
}

/// Carries an order out, as the maildrop's owner.
///
/// # Errors
/// One sentence; everything is as it was.
pub fn carry_out(order: &Order, file: Option<File>) -> Result<Vec<Kept>, String> {
    let mut deletions = Deletions::read(file.ok_or("no list of deleted messages")?);
    let mut left = deletions.deleted().clone();
    let kept = |(id, deleted): (UniqueId, u64)| Kept {
        id: id.to_string(),
        deleted,
    };
    let ids = match order {
        Order::List => return Ok(left.into_iter().map(kept).collect()),
        Order::Show(ids) if ids.is_empty() => std::mem::take(&mut left),
        Order::Show(ids) => {
            let mut shown = BTreeMap::new();
            for text in ids {
                let id = UniqueId::new(text.as_bytes());
                let entry = id.and_then(|id| left.remove_entry(&id));
                shown.extend([entry.ok_or_else(|| not_kept(text))?]);
            }
            shown
        }
    };
    deletions
        .replace(left)
        .map_err(|error| format!("state directory: {error}"))?;
    Ok(ids.into_iter().map(kept).collect())
}

fn not_kept(id: &str) -> String {
    format!("{}: no such message is kept", id.escape_debug())
}

/// The day, in UTC; the last of the year 9999 for what is later, which only a damaged clock writes.
fn day(seconds: u64) -> Day {
    let days = seconds / (24 * 60 * 60);
    Day(u32::try_from(days).map_or(LAST_DAY, |days| days.min(LAST_DAY)))
}
