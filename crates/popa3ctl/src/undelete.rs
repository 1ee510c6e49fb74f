//! Messages that are out of sight of POP and still there, shown again: those that a user has deleted and that are kept for a
//! while (`maildrop.delete_grace`), and those that were retrieved (`maildrop.hide_acknowledged`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use app_passwords::Day;
use clap::Args;
use maildrop::{DatedIds, UniqueId};
use role_master::installation::Installation;
use serde::{Deserialize, Serialize};

use crate::accounts::{Accounts, identity};
use crate::helper::{self, Input, Task};
use crate::state::{Hidden, State};

/// 9999-12-31.
const LAST_DAY: u32 = 2_932_896;

/// What is to be shown again.
#[derive(Debug, Args)]
pub struct Messages {
    /// The user.
    user: String,
    /// Messages by their unique-ids; without any, all that are hidden.
    #[arg(value_name = "UID")]
    ids: Vec<String>,
    /// Write what is hidden, and change nothing: a line for each message, with its unique-id and the day it was deleted or
    /// retrieved; with `undelete` also the day from which on it may be removed.
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
pub fn run(which: Hidden, arguments: &Messages) -> Result<(), String> {
    let installation = Installation::find(arguments.configuration.as_deref())?;
    let text = show(&installation, which, arguments)
        .map_err(|error| format!("{}: {error}", arguments.user))?;
    let written = io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|error| format!("standard output: {error}"))
}

fn show(
    installation: &Installation,
    which: Hidden,
    arguments: &Messages,
) -> Result<String, String> {
    let state = State::of(installation);
    let owner = Accounts::of(&installation.configuration).owner(&arguments.user)?;
    let path = owner.path();
    // What a session has read it would write again.
    let _lock = state.lock(&path)?;
    let Some(file) = state.hidden(which, &path)? else {
        return match arguments.ids.first() {
            Some(id) => Err(not_hidden(id)),
            None => Ok(String::new()),
        };
    };
    let order = match arguments.list {
        true => Order::List,
        false => Order::Show(arguments.ids.clone()),
    };
    let identity = identity(installation, &owner.account);
    let task = Task::Undelete(order);
    let messages: Vec<Message> = helper::run(identity.as_ref(), &task, Input::File(file))?;
    if !arguments.list {
        let count = messages.len();
        return Ok(format!(
            "{}: {count} messages shown again\n",
            arguments.user
        ));
    }
    let grace = installation.configuration.spawner().delete_grace;
    let mut text = String::new();
    for Message { id, time } in messages {
        text += &format!("{} {}", id.escape_debug(), day(time));
        if which == Hidden::Deleted {
            let end = time.saturating_add(grace.as_secs());
            text += &format!(" {}", day(end));
        }
        text.push('\n');
    }
    Ok(text)
}

/// What the owner's process is to do: whoever wrote the file was one too.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Say what is hidden.
    List,
    /// Show these again, or all if there are none; says which.
    Show(Vec<String>),
}

/// A message that is hidden.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message {
    /// Its unique-id.
    id: String,
    /// When it was deleted or retrieved, in seconds since 1970.
    time: u64,
}

/// Carries an order out, as the maildrop's owner.
///
/// # Errors
/// One sentence; everything is as it was.
pub fn carry_out(order: &Order, file: Option<File>) -> Result<Vec<Message>, String> {
    let mut list = DatedIds::read(file.ok_or("no list of messages")?);
    let mut left = list.ids().clone();
    let message = |(id, time): (UniqueId, u64)| Message {
        id: id.to_string(),
        time,
    };
    let ids = match order {
        Order::List => return Ok(left.into_iter().map(message).collect()),
        Order::Show(ids) if ids.is_empty() => std::mem::take(&mut left),
        Order::Show(ids) => {
            let mut shown = BTreeMap::new();
            for text in ids {
                let id = UniqueId::new(text.as_bytes());
                let entry = id.and_then(|id| left.remove_entry(&id));
                shown.extend([entry.ok_or_else(|| not_hidden(text))?]);
            }
            shown
        }
    };
    list.replace(left)
        .map_err(|error| format!("state directory: {error}"))?;
    Ok(ids.into_iter().map(message).collect())
}

fn not_hidden(id: &str) -> String {
    format!("{}: no such message is hidden", id.escape_debug())
}

/// The day, in UTC; the last of the year 9999 for what is later, which only a damaged clock writes.
fn day(seconds: u64) -> Day {
    let days = seconds / (24 * 60 * 60);
    Day(u32::try_from(days).map_or(LAST_DAY, |days| days.min(LAST_DAY)))
}
