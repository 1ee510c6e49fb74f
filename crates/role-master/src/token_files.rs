//! The files that the token role reads, opened for it by the master, which does not read them: a key set or a client's secret,
//! and certificate authorities.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use confine::channel::{Channel, ChannelError};
use messages::token::ToToken;

use crate::certificates::open;
use crate::configuration::Configuration;

/// Others' permission to write: nobody but its owner and group decides who issues tokens.
const OTHERS_WRITE: u32 = 0o002;

/// Others' permission to read or write: no secret may give it.
const OTHERS: u32 = 0o007;

/// Opens them.
///
/// # Errors
/// One sentence about the first that will not do.
pub fn open_all(configuration: &Configuration) -> Result<Vec<File>, String> {
    let files = configuration.token_files();
    let open = |&(path, is_public): &(&Path, bool)| {
        open(path, if is_public { OTHERS_WRITE } else { OTHERS })
    };
    files.iter().map(open).collect()
}

/// Sends the token role what is configured, and the files.
///
/// # Errors
/// A file will not do, or the role does not take it.
pub fn send(control: &Channel, configuration: &Configuration) -> Result<(), ChannelError> {
    let Some(part) = configuration.token() else {
        return Ok(());
    };
    let files = open_all(configuration).map_err(io::Error::other)?;
    let descriptors: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    control.try_send(&ToToken::Load(Box::new(part)), &descriptors)
}
