//! The part of a conversion that is done as the maildrop's owner.

use std::fs::File;
use std::io;
use std::path::Path;

use maildrop::{Expanded, Location, Maildrop, UniqueId};
use pop3_proto::multiline::Encoder;
use rustix::fs::{CWD, RenameFlags, renameat_with, syncfs};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::write::{self, New};
use crate::mailbox::Mailbox;

/// Octets read at a time.
const BLOCK: usize = 64 * 1024;

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
pub struct Conversion {
    /// Where the mail is.
    pub source: Mailbox,
    /// Where it is to be.
    pub target: Mailbox,
    /// How far to go.
    pub step: Step,
}

/// The two steps, between which the list of unique-ids is written.
#[derive(Debug, Serialize, Deserialize)]
pub enum Step {
    /// Write the new maildrop beside its place.
    Copy,
    /// Put it into its place.
    Finish {
        /// Of the maildrop that was copied.
        state: State,
        /// Whether the messages are to be removed from the old maildrop.
        remove_source: bool,
    },
}

/// A sum over ids and octets of all messages.
pub type State = [u8; 32];

/// What was copied.
#[derive(Debug, Serialize, Deserialize)]
pub struct Copied {
    /// Our own ids of each message, before and after.
    pub ids: Vec<(String, String)>,
    /// Of the maildrop they are from.
    pub state: State,
}

/// Does one step. The second has nothing to say but that it is done.
///
/// # Errors
/// One sentence. Nothing was put into the target's place, or all was and the sentence says so.
pub fn convert(conversion: &Conversion, copies: Option<File>) -> Result<Copied, String> {
    let location = conversion.source.location()?;
    let place = conversion.target.location()?;
    let new = New::beside(&place);
    if place.path().symlink_metadata().is_ok() {
        return Err(format!("{}: something is there", place.path().display()));
    }
    let _lock = match location.is_mbox() {
        true => Some(conversion.source.lock(&location.path())?),
        false => None,
    };
    let mut source = conversion.source.open_locked(&location, copies)?;
    let done = match &conversion.step {
        Step::Copy => copy(conversion, source.as_mut(), &new),
        Step::Finish {
            state,
            remove_source,
        } => finish(source, state, &new, &place.path(), *remove_source),
    };
    done.inspect_err(|_| new.remove())
}

fn copy(conversion: &Conversion, source: &mut dyn Maildrop, new: &New) -> Result<Copied, String> {
    new.remove();
    write::write(source, new)
        .and_then(|()| sync(new))
        .map_err(|error| format!("{}: {error}", new.path().display()))?;
    let mut target = conversion.target.open_locked(&new.location()?, None)?;
    let copied = compare(source, target.as_mut())?;
    source.check().map_err(|error| error.to_string())?;
    Ok(copied)
}

fn finish(
    mut source: Box<dyn Maildrop>,
    state: &State,
    new: &New,
    place: &Path,
    remove_source: bool,
) -> Result<Copied, String> {
    source.check().map_err(|error| error.to_string())?;
    if state_of(source.as_ref()) != *state {
        return Err("the maildrop was changed meanwhile; try again".to_owned());
    }
    let fail = |error: io::Error| format!("{}: {error}", place.display());
    // Whatever has come there meanwhile stays.
    renameat_with(CWD, new.path(), CWD, place, RenameFlags::NOREPLACE)
        .map_err(|error| fail(error.into()))?;
    let parent = place.parent().unwrap_or(Path::new("/"));
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| format!("{}; the new maildrop may or may not be there", fail(error)))?;
    if remove_source {
        source
            .update(&|_| true)
            .map_err(|error| format!("the new maildrop is there, the old one: {error}"))?;
    }
    Ok(Copied {
        ids: Vec::new(),
        state: *state,
    })
}

fn state_of(maildrop: &dyn Maildrop) -> State {
    let mut sum = Sha256::new();
    for index in 0..maildrop.count() {
        let id = maildrop.unique_id(index);
        sum.update(id.as_ref().map(UniqueId::as_bytes).unwrap_or_default());
        sum.update(b" ");
        sum.update(maildrop.octets(index).unwrap_or(0).to_le_bytes());
    }
    sum.finalize().into()
}

/// Compares every message as it goes over the wire.
fn compare(source: &mut dyn Maildrop, target: &mut dyn Maildrop) -> Result<Copied, String> {
    let mut copied = Copied {
        ids: Vec::new(),
        state: state_of(source),
    };
    for index in 0..source.count() {
        let number = index.saturating_add(1);
        let inexact = || {
            format!(
                "message {number} would not be the same there: it has a line that an mbox takes for the beginning of \
                 another message. Nothing was changed"
            )
        };
        let digest = |maildrop: &mut dyn Maildrop| {
            wire_digest(maildrop, index).map_err(|error| format!("message {number}: {error}"))
        };
        if target.octets(index) != source.octets(index) || digest(source)? != digest(target)? {
            return Err(inexact());
        }
        let id = |maildrop: &dyn Maildrop| maildrop.unique_id(index).map(|id| id.to_string());
        match (id(source), id(target)) {
            (Some(old), Some(new)) => copied.ids.push((old, new)),
            _ => return Err(format!("message {number} has no unique-id")),
        }
    }
    match target.count() == source.count() {
        true => Ok(copied),
        false => Err("there would be more messages than there are. Nothing was changed".to_owned()),
    }
}

/// A sum over what RETR sends.
fn wire_digest(maildrop: &mut dyn Maildrop, index: u32) -> io::Result<[u8; 32]> {
    let (mut stored, mut wire) = (vec![0; BLOCK], vec![0; BLOCK]);
    let (mut encoder, mut sum, mut offset) = (Encoder::retr(), Sha256::new(), 0_u64);
    loop {
        let read = maildrop.read(index, offset, &mut stored)?;
        let mut rest = stored.get(..read).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
        offset = offset.saturating_add(read as u64);
        while !rest.is_empty() {
            let progress = encoder.encode(rest, &mut wire);
            sum.update(wire.get(..progress.produced).unwrap_or_default());
            rest = rest.get(progress.consumed..).unwrap_or_default();
        }
    }
    loop {
        let progress = encoder.finish(&mut wire);
        sum.update(wire.get(..progress.produced).unwrap_or_default());
        if progress.done {
            return Ok(sum.finalize().into());
        }
    }
}

/// Makes all that was written durable: one call for however many files.
fn sync(new: &New) -> io::Result<()> {
    Ok(syncfs(File::open(new.path())?)?)
}

impl New {
    /// Where the server would find it.
    fn location(&self) -> Result<Expanded, String> {
        let path = self.path().to_str().ok_or("a path that is not UTF-8")?;
        let kind = if self.is_mbox() { "mbox" } else { "maildir" };
        let template = format!("{kind}:{}", path.replace('%', "%%"));
        let nobody = maildrop::Account {
            name: "",
            home: "/",
        };
        Location::parse(&template)
            .and_then(|location| location.expand(&nobody))
            .map_err(|error| format!("{template}: {error}"))
    }
}
