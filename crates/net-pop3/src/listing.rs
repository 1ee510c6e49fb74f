//! What a maildrop holds.

use std::fmt;

use pop3_proto::MessageNumber;

use crate::error::{Error, ErrorKind, Phase};

/// A message's unique-id (RFC 1939 section 7): the same in every session, as long as the message is there.
///
/// One or more characters of 0x21 to 0x7E; some servers send more than the 70 that are allowed.
///
/// ```
/// # let mut session = scripted_server::doc::blocking!()?;
/// let id = session.uidl(1)?;
/// assert_eq!(id.as_str(), "whqtswO00WBw418f9t5JxYwZ");
/// # Ok::<(), net_pop3::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UniqueId(Box<str>);

impl UniqueId {
    pub(crate) fn received(id: &[u8]) -> UniqueId {
        UniqueId(String::from_utf8_lossy(id).into())
    }

    /// The id.
    ///
    /// ```
    /// # let mut session = scripted_server::doc::blocking!()?;
    /// assert_eq!(session.uidl(2)?.as_str(), "QhdPYR:00WBw1Ph7x7");
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for UniqueId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// The answer to STAT.
///
/// ```
/// # let mut session = scripted_server::doc::blocking!()?;
/// let stat = session.stat()?;
/// println!("{} messages, {} octets", stat.messages, stat.octets);
/// # Ok::<(), net_pop3::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Messages not marked as deleted.
    pub messages: u32,
    /// Their octets.
    pub octets: u64,
}

/// A message as LIST and UIDL tell of it.
///
/// ```
/// # let mut session = scripted_server::doc::blocking!()?;
/// for listing in session.listing()? {
///     println!("{} {} {:?}", listing.number.value(), listing.octets, listing.unique_id);
/// }
/// # Ok::<(), net_pop3::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Its number in this session.
    pub number: MessageNumber,
    /// Its octets, as the server counts them.
    pub octets: u64,
    /// Its unique-id, if the server has such.
    pub unique_id: Option<UniqueId>,
}

/// What names a message: its number, as a number or as the [`MessageNumber`] of a listing, or the [`Listing`] itself.
///
/// ```
/// # let mut session = scripted_server::doc::blocking!()?;
/// for message in &session.listing()? {
///     session.dele(message)?;
/// }
/// session.rset()?;
/// session.dele(1)?;
/// # Ok::<(), net_pop3::Error>(())
/// ```
pub trait MessageRef: sealed::Sealed {
    #[doc(hidden)]
    fn wanted(&self) -> Result<Wanted, Error>;
}

/// A message to be asked for.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub(crate) number: MessageNumber,
    pub(crate) octets: Option<u64>,
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for pop3_proto::MessageNumber {}
    impl Sealed for super::Listing {}
    impl<T: Sealed> Sealed for &T {}
}

impl MessageRef for u32 {
    fn wanted(&self) -> Result<Wanted, Error> {
        let number = MessageNumber::new(*self).ok_or_else(|| {
            let reason = "message numbers begin at 1".to_owned();
            Error::new(Phase::Command, ErrorKind::InvalidInput(reason))
        })?;
        number.wanted()
    }
}

impl MessageRef for MessageNumber {
    fn wanted(&self) -> Result<Wanted, Error> {
        Ok(Wanted {
            number: *self,
            octets: None,
        })
    }
}

impl MessageRef for Listing {
    fn wanted(&self) -> Result<Wanted, Error> {
        Ok(Wanted {
            number: self.number,
            octets: Some(self.octets),
        })
    }
}

impl<T: MessageRef> MessageRef for &T {
    fn wanted(&self) -> Result<Wanted, Error> {
        (**self).wanted()
    }
}
