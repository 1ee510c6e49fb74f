//! A slow and obvious reader of an mbox, and what compares the scanner with it: for tests and the fuzzer.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a panic is how a difference is told"
)]

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use md5::{Digest, Md5};
use rustix::fs::{MemfdFlags, memfd_create};

use super::{ScanError, scan};
use crate::mbox::table::Message;

/// A message found by the slow and obvious parser.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    from: usize,
    message: Vec<u8>,
    pub(crate) octets: u64,
    pub(crate) id: String,
}

/// Reads an mbox line by line, as the description of the original does.
fn reference(mbox: &[u8]) -> Option<Vec<Plain>> {
    let mut found: Vec<(usize, Vec<&[u8]>)> = Vec::new();
    let mut offset = 0;
    let mut before: &[u8] = b"\n";
    for line in mbox.split_inclusive(|&octet| octet == b'\n') {
        if line.starts_with(b"From ") && before == b"\n" {
            found.push((offset, Vec::new()));
        } else {
            found.last_mut()?.1.push(line);
        }
        offset += line.len();
        before = line;
    }
    let plain = |(from, mut lines): (usize, Vec<&[u8]>)| {
        let empty = |line: &&[u8]| matches!(*line, b"\n" | b"\r\n");
        let header = lines
            .iter()
            .position(empty)
            .map_or(lines.len(), |at| at + 1);
        let id = reference_id(&lines);
        if lines.len() > header && lines.last() == Some(&&b"\n"[..]) {
            lines.pop();
        }
        let message = lines.concat();
        let octets = wire(&message).len() as u64;
        Plain {
            from,
            message,
            octets,
            id,
        }
    };
    Some(found.into_iter().map(plain).collect())
}

fn reference_id(lines: &[&[u8]]) -> String {
    let mut hashed = Vec::new();
    let (mut received, mut choice) = (false, false);
    for line in lines.iter().take_while(|line| **line != b"\n") {
        let lower = line.to_ascii_lowercase();
        if lower.starts_with(b"received:") {
            choice = !received;
            received = true;
        } else if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            choice = lower.starts_with(b"delivered-to:")
                || (lower.starts_with(b"x-delivery-id:") && line.starts_with(b"X"))
                || (!received
                    && (lower.starts_with(b"date:") || lower.starts_with(b"message-id:")));
        }
        if choice {
            hashed.extend_from_slice(line);
        }
    }
    let digest = Md5::digest(&hashed);
    [3, 2, 1, 0, 7, 6, 5, 4]
        .map(|at| format!("{:02x}", digest[at]))
        .concat()
}

/// Runs the scanner over one file after another without making a file for each.
pub(crate) struct Scratch(File);

impl Scratch {
    pub(crate) fn new() -> Self {
        Scratch(memfd_create("mbox", MemfdFlags::CLOEXEC).unwrap().into())
    }

    pub(crate) fn scan(&self, mbox: &[u8], block: usize) -> Option<Vec<Plain>> {
        self.0.set_len(0).unwrap();
        self.0.write_all_at(mbox, 0).unwrap();
        let mut messages = Vec::new();
        let result = scan(&self.0, 0..mbox.len() as u64, block, |message| {
            messages.push(message);
            ControlFlow::Continue(())
        });
        match result {
            Ok(()) => {}
            Err(ScanError::NotMbox) => return None,
            Err(error) => panic!("{error:?}"),
        }
        let plain = |message: Message| {
            let start = message.start as usize;
            Plain {
                from: message.from as usize,
                message: mbox[start..start + message.stored as usize].to_vec(),
                octets: message.octets,
                id: message.unique_id().unwrap().to_string(),
            }
        };
        Some(messages.into_iter().map(plain).collect())
    }

    pub(crate) fn agrees(&self, mbox: &[u8], blocks: &[usize]) {
        let expected = reference(mbox);
        for &block in blocks {
            let found = self.scan(mbox, block);
            assert_eq!(found, expected, "{} at {block}", mbox.escape_ascii());
        }
    }
}

/// What RETR sends for a stored message, dot-stuffing and terminator apart: lines taken one by one.
pub(crate) fn wire(message: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    let mut in_header = true;
    for line in message.split_inclusive(|&octet| octet == b'\n') {
        let text = line
            .strip_suffix(b"\n")
            .map_or(line, |text| text.strip_suffix(b"\r").unwrap_or(text));
        sent.extend_from_slice(text);
        sent.extend_from_slice(b"\r\n");
        in_header &= !text.is_empty();
    }
    if in_header {
        sent.extend_from_slice(b"\r\n");
    }
    sent
}
