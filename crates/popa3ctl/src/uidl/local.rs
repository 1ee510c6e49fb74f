//! Our side of a comparison: a maildrop's messages with our own ids, and what they are known by on another server.
//!
//! Runs as the maildrop's owner.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use maildrop::id_map::{courier, dovecot, qmail};
use maildrop::{IdMap, IdMapError, Maildrop, UniqueId};
use serde::{Deserialize, Serialize};

use super::head::{Head, MAX_HEADER_OCTETS};
use crate::mailbox::Mailbox;

/// Octets of a list that another server has left in a Maildir: some hundred for each of a million messages.
const MAX_LIST_OCTETS: u64 = 512 * 1024 * 1024;

/// Octets of a message read at a time.
const BLOCK: usize = 256 * 1024;

/// What is to be listed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listing {
    /// The maildrop.
    pub mailbox: Mailbox,
    /// Whether messages are to be read, for what they are known by.
    pub heads: bool,
    /// Which server's ids are looked for in the maildrop itself.
    pub left_by: Option<LeftBy>,
}

/// A server that has left its ids in maildrops.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LeftBy {
    /// `dovecot-uidlist`, with this `pop3_uidl_format`.
    Dovecot(String),
    /// `courierpop3dsizelist`.
    Courier,
    /// The names of files.
    Qmail,
    /// X-UIDL header fields, as qpopper and mailutils write them.
    XUidl,
}

/// A message here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Our own id.
    pub own: String,
    /// Octets as LIST says.
    pub octets: u64,
    /// Line ends among them.
    pub lines: u64,
    /// Its header, if messages were read.
    pub head: Option<Head>,
    /// The id that another server has left.
    pub left: Option<String>,
}

/// Lists a maildrop.
///
/// # Errors
/// One sentence.
pub fn list(listing: &Listing, copies: Option<File>) -> Result<Vec<Message>, String> {
    let mut maildrop = listing.mailbox.open(copies)?;
    let left = match &listing.left_by {
        Some(server) => lists(server, &listing.mailbox.location()?.path())?,
        None => IdMap::default(),
    };
    let x_uidl = matches!(listing.left_by, Some(LeftBy::XUidl));
    let mut buffer = vec![0; BLOCK];
    let mut messages = Vec::new();
    for index in 0..maildrop.count() {
        let own = maildrop.unique_id(index).ok_or("a message without an id")?;
        let (head, lines) = match listing.heads || x_uidl {
            true => {
                let (head, lines) = read(maildrop.as_mut(), index, &mut buffer)
                    .map_err(|error| format!("message {}: {error}", index.saturating_add(1)))?;
                (Some(head), lines)
            }
            false => (None, 0),
        };
        let of_header = || head.as_ref().and_then(|head| head.x_uidl.clone());
        let shown = left.shown_for(own);
        messages.push(Message {
            own: own.to_string(),
            octets: maildrop.octets(index).unwrap_or(0),
            lines,
            left: match x_uidl {
                true => of_header(),
                false => (shown != own).then(|| shown.to_string()),
            },
            head,
        });
    }
    maildrop.check().map_err(|error| error.to_string())?;
    Ok(messages)
}

/// A message's header, and its line ends.
fn read(
    maildrop: &mut dyn Maildrop,
    index: u32,
    buffer: &mut [u8],
) -> std::io::Result<(Head, u64)> {
    let (mut beginning, mut lines, mut offset, mut last) = (Vec::new(), 0_u64, 0_u64, b'\n');
    loop {
        let read = maildrop.read(index, offset, buffer)?;
        let octets = buffer.get(..read).unwrap_or_default();
        let Some(&end) = octets.last() else {
            break;
        };
        last = end;
        let ends = octets.iter().filter(|&&octet| octet == b'\n').count();
        lines = lines.saturating_add(ends as u64);
        let room = MAX_HEADER_OCTETS.saturating_sub(beginning.len());
        beginning.extend_from_slice(octets.get(..room.min(read)).unwrap_or_default());
        offset = offset.saturating_add(read as u64);
    }
    // The last line is given an end.
    lines = lines.saturating_add(u64::from(last != b'\n'));
    Ok((Head::of(&beginning), lines))
}

/// The ids that a server has left in the Maildir at `path`.
fn lists(server: &LeftBy, path: &Path) -> Result<IdMap, String> {
    let of = |name: &str, parse: &dyn Fn(&[u8]) -> Result<IdMap, IdMapError>| {
        let path = path.join(name);
        let text = read_list(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    };
    match server {
        LeftBy::Dovecot(format) => {
            let format = dovecot::Format::parse(format)
                .ok_or_else(|| format!("{format}: is no pop3_uidl_format that can be followed"))?;
            of(dovecot::FILE, &|text| dovecot::parse(text, &format))
        }
        LeftBy::Courier => of(courier::FILE, &courier::parse),
        LeftBy::Qmail => {
            let mut names = Vec::new();
            for folder in ["new", "cur"] {
                let folder = path.join(folder);
                let entries = fs::read_dir(&folder)
                    .map_err(|error| format!("{}: {error}", folder.display()))?;
                names.extend(entries.flatten().map(|entry| entry.file_name()));
            }
            qmail::of_names(names.iter().map(|name| name.as_bytes()))
                .map_err(|error| error.to_string())
        }
        LeftBy::XUidl => Ok(IdMap::default()),
    }
}

fn read_list(path: &Path) -> std::io::Result<Vec<u8>> {
    // Not to wait for whoever writes into a fifo.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    let mut text = Vec::new();
    file.take(MAX_LIST_OCTETS).read_to_end(&mut text)?;
    Ok(text)
}

impl Message {
    /// Our own id.
    ///
    /// # Errors
    /// The helper process has sent something else.
    pub fn own_id(&self) -> Result<UniqueId, String> {
        UniqueId::new(self.own.as_bytes()).ok_or_else(|| "helper process: no unique-id".to_owned())
    }
}
