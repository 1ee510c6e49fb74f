//! Messages being read: what the readers of both drivers have in common.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use crate::channel::Socket;
use crate::core::Core;
use crate::error::Error;

/// Where in a message a reader is.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    /// The rest of a piece that had no room: a LF, behind a CR that was the last to fit.
    pending: Option<u8>,
    is_at_end: bool,
}

impl Cursor {
    /// Reads into `space`; 0 at the end.
    pub(crate) fn poll_read<S: Socket>(
        &mut self,
        core: &mut Core<S>,
        context: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<Result<usize, Error>> {
        let Some(first) = space.first_mut() else {
            return Poll::Ready(Ok(0));
        };
        if let Some(octet) = self.pending.take() {
            *first = octet;
            return Poll::Ready(Ok(1));
        }
        if self.is_at_end {
            return Poll::Ready(Ok(0));
        }
        let max = space.len();
        let mut pending = None;
        let taken = core.poll_message(context, max, |data| {
            let (fits, rest) = data.split_at(data.len().min(max));
            pending = rest.first().copied();
            if let Some(place) = space.get_mut(..fits.len()) {
                place.copy_from_slice(fits);
            }
            fits.len()
        });
        let taken = ready!(taken)?;
        self.pending = pending;
        self.is_at_end = taken.is_none();
        Poll::Ready(Ok(taken.unwrap_or(0)))
    }

    /// All that is left.
    pub(crate) async fn read_all<S: Socket>(
        mut self,
        core: &mut Core<S>,
    ) -> Result<Vec<u8>, Error> {
        let mut message = self.take_pending();
        while !self.is_at_end {
            self.is_at_end = !poll_fn(|context| core.poll_block(context, &mut message)).await?;
        }
        Ok(message)
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.is_at_end && self.pending.is_none()
    }

    /// What has been received already.
    pub(crate) fn take_pending(&mut self) -> Vec<u8> {
        Vec::from_iter(self.pending.take())
    }

    pub(crate) fn end(&mut self) {
        self.is_at_end = true;
    }
}

/// Defines `Message` and `Messages` of a driver; see [`driver`](crate::session::driver).
macro_rules! readers {
    (
        socket: $socket:ty, async: [$($async:ident)?], wait: $wait:ident,
        open: $open:literal, close: $close:literal, await: $await:literal, module: $module:literal
    ) => {
        use crate::message::Cursor;

        /// A message being received: a reader that borrows the session.
        ///
        /// Octets are as the server has them, lines ending with CRLF unless
        /// [`lf_line_ends`](Builder::lf_line_ends) was asked for; dots that POP3 adds are gone. An error of the reader holds an
        /// [`Error`].
        ///
        /// ```
        #[doc = $open]
        #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
        #[doc = concat!("let message = session.retr(1)", $await, "?;")]
        /// println!("message {}", message.number().value());
        #[doc = $close]
        /// ```
        pub struct Message<'session> {
            core: &'session mut Core<$socket>,
            number: crate::MessageNumber,
            cursor: Cursor,
        }

        impl<'session> Message<'session> {
            fn new(core: &'session mut Core<$socket>, number: crate::MessageNumber) -> Self {
                Message { core, number, cursor: Cursor::default() }
            }

            /// Which message it is.
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("assert_eq!(session.retr(1)", $await, "?.number().value(), 1);")]
            #[doc = $close]
            /// ```
            pub fn number(&self) -> crate::MessageNumber {
                self.number
            }

            /// Whether all of it has been read.
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("assert!(!session.retr(1)", $await, "?.is_at_end());")]
            #[doc = $close]
            /// ```
            pub fn is_at_end(&self) -> bool {
                self.cursor.is_at_end()
            }

            /// The whole message, in memory; see [`Limits::message_octets`](crate::Limits::message_octets).
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("let octets = session.retr(1)", $await, "?.to_vec()", $await, "?;")]
            /// assert!(octets.ends_with(b"\r\n"));
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`Error`].
            pub $($async)? fn to_vec(self) -> Result<Vec<u8>, Error> {
                $wait!(self.cursor.read_all(self.core))
            }

            /// Parses the whole message as MIME.
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("let parsed = session.retr(1)", $await, "?.parse()", $await, "?;")]
            /// assert_eq!(parsed.unwrap().subject(), Some("one"));
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`Error`]; `None` is what cannot be parsed at all.
            #[cfg(feature = "mime")]
            pub $($async)? fn parse(self) -> Result<Option<mail_parser::Message<'static>>, Error> {
                let octets = $wait!(self.cursor.read_all(self.core))?;
                let parsed = mail_parser::MessageParser::default().parse(&octets);
                Ok(parsed.map(mail_parser::Message::into_owned))
            }
        }

        impl std::fmt::Debug for Message<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "Message({})", self.number.value())
            }
        }

        /// Many messages, one after the other; made by [`Session::retr_all`] and [`Session::top_all`].
        ///
        /// ```
        #[doc = $open]
        #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
        /// let mut messages = session.retr_all([1, 2]);
        #[doc = concat!("while let Some(message) = messages.next_message()", $await, " {")]
        ///     println!("{}", message?.number().value());
        /// }
        #[doc = $close]
        /// ```
        pub struct Messages<'session> {
            core: &'session mut Core<$socket>,
            batch: Batch,
        }

        impl Messages<'_> {
            /// The next message; what is left unread of the one before is read away. `None` after the last.
            ///
            /// An error is that message's own if [`ends_session`](Error::ends_session) denies; then go on. Otherwise it is
            /// the last thing to come.
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            /// let mut messages = session.retr_all([1, 7, 2]);
            /// let mut missing = 0;
            #[doc = concat!("while let Some(message) = messages.next_message()", $await, " {")]
            ///     match message {
            ///         Ok(message) => println!("{}", message.number().value()),
            ///         Err(error) if error.ends_session() => return Err(error),
            ///         Err(_) => missing += 1,
            ///     }
            /// }
            /// assert_eq!(missing, 1);
            #[doc = $close]
            /// ```
            pub $($async)? fn next_message(&mut self) -> Option<Result<Message<'_>, Error>> {
                let next = $wait!(self.core.next_message(&mut self.batch))?;
                Some(next.map(|number| Message::new(self.core, number)))
            }
        }

        impl std::fmt::Debug for Messages<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("Messages")
            }
        }
    };
}

pub(crate) use readers;
