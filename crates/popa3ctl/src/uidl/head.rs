//! What a message is known by on two servers: its header, but for the fields that servers and mail readers write into it,
//! and its size, however that is counted.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Octets of a header that are looked at; longer ones are told apart by those.
pub const MAX_HEADER_OCTETS: usize = 256 * 1024;

/// Fields that are there on one server and not on another, or say something else: marks of mail readers, what an mbox keeps
/// beside its messages, and what delivery writes anew when mail is moved between formats.
const IGNORED: [&str; 13] = [
    "content-length",
    "lines",
    "return-path",
    "status",
    "x-evolution",
    "x-imap",
    "x-imapbase",
    "x-keywords",
    "x-mozilla-keys",
    "x-mozilla-status",
    "x-mozilla-status2",
    "x-status",
    "x-uid",
];

/// The field that qpopper and mailutils keep their unique-id in; ignored too.
const X_UIDL: &str = "x-uidl";

/// A header as it is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Over the fields that are not ignored.
    pub digest: [u8; 16],
    /// Octets to the end of the empty line, a line end counting as two.
    pub octets: u64,
    /// Line ends among them.
    pub lines: u64,
    /// The same of the fields that are ignored.
    pub ignored_octets: u64,
    /// Line ends among those.
    pub ignored_lines: u64,
    /// What an X-UIDL field says.
    pub x_uidl: Option<String>,
}

impl Head {
    /// Of a message that cannot be read: no other is like it.
    pub fn unlike_any() -> Self {
        Head {
            digest: [0xff; 16],
            octets: 0,
            lines: 0,
            ignored_octets: 0,
            ignored_lines: 0,
            x_uidl: None,
        }
    }

    /// Of a message, or the beginning of one, with lines ended either way.
    pub fn of(message: &[u8]) -> Self {
        let mut head = Head::unlike_any();
        let mut sum = Sha256::new();
        let mut is_ignored = false;
        for line in message.split_inclusive(|&octet| octet == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let octets = (line.len() as u64).saturating_add(2);
            head.octets = head.octets.saturating_add(octets);
            head.lines = head.lines.saturating_add(1);
            if line.is_empty() {
                break;
            }
            // A line that begins with a blank goes on with the field before.
            if !line.starts_with(b" ") && !line.starts_with(b"\t") {
                let (name, value) = field(line);
                is_ignored = name == X_UIDL || IGNORED.contains(&name.as_str());
                if name == X_UIDL && head.x_uidl.is_none() {
                    head.x_uidl = Some(value);
                }
            }
            if is_ignored {
                head.ignored_octets = head.ignored_octets.saturating_add(octets);
                head.ignored_lines = head.ignored_lines.saturating_add(1);
            } else {
                sum.update(line.trim_ascii_end());
                sum.update(b"\n");
            }
        }
        let sum = sum.finalize();
        head.digest.copy_from_slice(&sum[..16]);
        head
    }
}

/// A field's name in small letters, and what it says.
fn field(line: &[u8]) -> (String, String) {
    let colon = line.iter().position(|&octet| octet == b':');
    let (name, value) = line.split_at(colon.unwrap_or(line.len()));
    let text = |octets: &[u8]| String::from_utf8_lossy(octets.trim_ascii()).into_owned();
    (
        text(name).to_ascii_lowercase(),
        text(value.get(1..).unwrap_or_default()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_the_same_whatever_a_server_adds_to_it_or_ends_lines_with() {
        let plain = Head::of(b"Subject: x\n y\nTo: z\n\nbody\n");
        let added = b"X-UIDL: abc\r\nSubject: x\r\n y\r\nX-Mozilla-Status: 0001\r\n more\r\nTo: z \r\nStatus: RO\r\n\r\n";
        let added = Head::of(added);
        assert_eq!(plain.digest, added.digest);
        assert_eq!(added.x_uidl.as_deref(), Some("abc"));
        assert_eq!((plain.octets, plain.lines), (12 + 4 + 7 + 2, 4));
        assert_eq!(plain.ignored_octets, 0);
        assert_eq!(added.ignored_lines, 4);
        assert_eq!(added.octets - added.ignored_octets, plain.octets + 1);
        for other in [
            &b"Subject: x\n\n"[..],
            b"Subject: x y\nTo: z\n\n",
            b"",
            b"\n",
        ] {
            assert_ne!(Head::of(other).digest, plain.digest);
        }
    }
}
