//! The other server: its listing of one maildrop, with what each message is known by.
//!
//! Runs in a process that may meet the network and holds nothing but this one user's credentials.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};

use net_pop3::blocking::{Pop3, Session};
use net_pop3::{Credentials, Error, ErrorKind, Fingerprint, Security, TlsOptions, Transaction};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::head::{Head, MAX_HEADER_OCTETS};

/// Octets of what this process is told: a bundle of authorities and a password.
const MAX_ORDER_OCTETS: u64 = 8 * 1024 * 1024;

/// The server, and whom it is to trust with what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Server {
    /// Name or address, and its port behind a colon if that is not the usual one.
    pub host: String,
    /// TLS at once, after STLS, or not at all.
    pub encryption: Encryption,
    /// More authorities, in PEM.
    pub authorities: Option<Vec<u8>>,
    /// The certificate that it has.
    pub fingerprint: Option<String>,
}

/// How the connection is kept from being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encryption {
    /// TLS from the first octet.
    Tls,
    /// TLS after STLS.
    Starttls,
    /// None.
    Plain,
}

/// Who logs in.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Login {
    /// The name that is sent.
    pub name: String,
    /// The password.
    pub password: String,
}

/// All that such a process is told.
#[derive(Serialize, Deserialize)]
pub struct Order {
    /// Which server.
    pub server: Server,
    /// Who logs in.
    pub login: Login,
    /// Whether messages are to be looked at, or listed only.
    pub heads: bool,
}

/// A message there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// Its unique-id; servers are met that break the rules for them.
    pub id: String,
    /// Octets as LIST says.
    pub octets: u64,
    /// Its header.
    pub head: Option<Head>,
}

/// Does what it is told.
///
/// # Errors
/// One sentence.
pub fn list_as_told(input: impl Read) -> Result<Vec<Message>, String> {
    let order: Order = serde_json::from_reader(input.take(MAX_ORDER_OCTETS))
        .map_err(|error| format!("order: {error}"))?;
    list(&order).map_err(|failure| match failure.downcast_ref::<Error>().map(Error::kind) {
        Some(ErrorKind::Certificate { fingerprint, .. }) => format!(
            "{failure}; if the server's operator says that it is this one, use --fingerprint {fingerprint}"
        ),
        _ => failure.to_string(),
    })
}

/// The library's errors, or those of its reader, which hold one.
type Failure = Box<dyn std::error::Error>;

fn list(order: &Order) -> Result<Vec<Message>, Failure> {
    let server = &order.server;
    let mut tls = TlsOptions::platform();
    if let Some(pem) = &server.authorities {
        tls = tls.add_ca_pem(pem)?;
    }
    if let Some(fingerprint) = &server.fingerprint {
        tls = tls.pin_sha256(fingerprint.parse::<Fingerprint>()?);
    }
    let builder = Pop3::builder()
        .host(&server.host)
        .tls(tls)
        .security(match server.encryption {
            Encryption::Tls => Security::Tls,
            Encryption::Starttls => Security::Starttls,
            Encryption::Plain => Security::Plain,
        });
    let login = &order.login;
    let credentials = Credentials::password(login.name.as_str(), login.password.as_str());
    let mut session = builder.connect()?.login(&credentials)?;
    let mut messages: Vec<Message> = Vec::new();
    let ids = session.uidl_all()?;
    let sizes: HashMap<_, _> = session.list_all()?.into_iter().collect();
    let mut numbers = Vec::with_capacity(ids.len());
    for (number, id) in ids {
        numbers.push(number.value());
        messages.push(Message {
            id: id.as_str().to_owned(),
            octets: sizes.get(&number).copied().unwrap_or(0),
            head: None,
        });
    }
    if order.heads {
        read_heads(&mut session, &numbers, &mut messages)?;
    }
    // Nothing was marked as deleted. What a server says to QUIT does not matter any more.
    drop(session.quit());
    Ok(messages)
}

/// By TOP; where a server has none, or refuses it, by RETR.
fn read_heads(
    session: &mut Session<Transaction>,
    numbers: &[u32],
    messages: &mut [Message],
) -> Result<(), Failure> {
    let mut unread = HashSet::new();
    {
        let mut tops = session.top_all(numbers, 0);
        let mut places = numbers.iter().zip(messages.iter_mut());
        while let (Some(top), Some((&number, message))) = (tops.next_message(), places.next()) {
            match top {
                Ok(mut top) => message.head = Some(read_head(&mut top)?),
                Err(error) if error.ends_session() => return Err(error.into()),
                Err(_) => {
                    unread.insert(number);
                }
            }
        }
    }
    for (number, message) in numbers.iter().zip(messages.iter_mut()) {
        if unread.contains(number) {
            match session.retr(*number) {
                Ok(mut retr) => message.head = Some(read_head(&mut retr)?),
                Err(error) if error.ends_session() => return Err(error.into()),
                // Not readable there either: it is reported as one without a header.
                Err(_) => {}
            }
        }
    }
    Ok(())
}

/// The header of what is being received, as far as it is looked at.
fn read_head(message: &mut impl Read) -> io::Result<Head> {
    let mut header = Vec::new();
    let mut block = [0; 8192];
    loop {
        let read = message.read(&mut block)?;
        if read == 0 {
            return Ok(Head::of(&header));
        }
        let room = MAX_HEADER_OCTETS.saturating_sub(header.len());
        header.extend_from_slice(block.get(..room.min(read)).unwrap_or_default());
    }
}
