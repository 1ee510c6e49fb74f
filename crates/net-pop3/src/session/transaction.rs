//! What a session can do with the maildrop.

/// Defines the methods; see [`driver`](super::driver).
macro_rules! transaction {
    (async: [$($async:ident)?], wait: $wait:ident, open: $open:literal, close: $close:literal, await: $await:literal, module: $module:literal) => {
        impl Session<Transaction> {
            /// How many messages there are, and their octets (STAT).
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("assert_eq!(session.stat()", $await, "?.messages, 2);")]
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`Error`].
            pub $($async)? fn stat(&mut self) -> Result<Stat, Error> {
                $wait!(self.core.stat())
            }

            /// Every message with its size and unique-id: LIST and UIDL together. Without ids if the server has no UIDL.
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("for message in session.listing()", $await, "? {")]
            ///     println!("{} {}", message.number.value(), message.octets);
            /// }
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`Error`].
            pub $($async)? fn listing(&mut self) -> Result<Vec<Listing>, Error> {
                $wait!(self.core.listing())
            }

            /// The size of a message in octets (LIST with a number).
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("assert_eq!(session.list(1)", $await, "?, 51);")]
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if there is no such message.
            pub $($async)? fn list(&mut self, message: impl MessageRef) -> Result<u64, Error> {
                $wait!(self.core.list(message.wanted()))
            }

            /// The sizes of all messages in octets (LIST).
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("let (number, octets) = session.list_all()", $await, "?[0];")]
            /// assert_eq!((number.value(), octets), (1, 51));
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`Error`].
            pub $($async)? fn list_all(&mut self) -> Result<Vec<(crate::MessageNumber, u64)>, Error> {
                $wait!(self.core.list_all())
            }

            /// The unique-id of a message (UIDL with a number).
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("assert_eq!(session.uidl(2)", $await, "?.as_str(), \"QhdPYR:00WBw1Ph7x7\");")]
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if there is no such message, or no UIDL.
            pub $($async)? fn uidl(&mut self, message: impl MessageRef) -> Result<UniqueId, Error> {
                $wait!(self.core.uidl(message.wanted()))
            }

            /// The unique-ids of all messages (UIDL).
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("assert_eq!(session.uidl_all()", $await, "?.len(), 2);")]
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if there is no UIDL.
            pub $($async)? fn uidl_all(
                &mut self,
            ) -> Result<Vec<(crate::MessageNumber, UniqueId)>, Error> {
                $wait!(self.core.uidl_all())
            }

            /// UIDL for each of these messages, pipelined where the server allows it.
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("for (number, id) in session.uidl_each([1, 2, 3])", $await, "? {")]
            ///     println!("{} {:?}", number.value(), id.ok());
            /// }
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// Those that end the session; refusals are in the list.
            pub $($async)? fn uidl_each<M: MessageRef>(
                &mut self,
                messages: impl IntoIterator<Item = M>,
            ) -> Result<Vec<(crate::MessageNumber, Result<UniqueId, Error>)>, Error> {
                $wait!(self.core.uidl_each(messages))
            }

            /// Asks for a message (RETR). It is read as it comes, while the session is borrowed; what is left unread when the
            /// reader is dropped is read away before the next command.
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("let message = session.retr(1)", $await, "?;")]
            #[doc = concat!("assert!(message.to_vec()", $await, "?.starts_with(b\"Subject: one\\r\\n\"));")]
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if there is no such message.
            pub $($async)? fn retr(&mut self, message: impl MessageRef) -> Result<Message<'_>, Error> {
                let number = $wait!(self.core.open_message(message.wanted(), None))?;
                Ok(Message::new(&mut self.core, number))
            }

            /// Asks for many messages, ahead where the server allows it (PIPELINING), as far as
            /// [`window`](Builder::window) says. [`Listing`]s tell the sizes that this goes by.
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("let listing = session.listing()", $await, "?;")]
            /// let mut messages = session.retr_all(&listing);
            #[doc = concat!("while let Some(message) = messages.next_message()", $await, " {")]
            ///     let message = message?;
            ///     let number = message.number();
            #[doc = concat!("    let octets = message.to_vec()", $await, "?;")]
            ///     println!("{}: {} octets", number.value(), octets.len());
            /// }
            #[doc = $close]
            /// ```
            pub fn retr_all<M: MessageRef>(
                &mut self,
                messages: impl IntoIterator<Item = M>,
            ) -> Messages<'_> {
                Messages { core: &mut self.core, batch: Batch::new(messages, None) }
            }

            /// Asks for the header of a message and the first lines of its body (TOP).
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("let header = session.top(1, 0)", $await, "?.to_vec()", $await, "?;")]
            /// assert_eq!(header, b"Subject: one\r\n\r\n");
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if there is no such message, or no TOP.
            pub $($async)? fn top(
                &mut self,
                message: impl MessageRef,
                lines: u64,
            ) -> Result<Message<'_>, Error> {
                let number = $wait!(self.core.open_message(message.wanted(), Some(lines)))?;
                Ok(Message::new(&mut self.core, number))
            }

            /// TOP for each of these messages; see [`retr_all`](Session::retr_all).
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            /// let mut headers = session.top_all([1, 2], 0);
            #[doc = concat!("while let Some(header) = headers.next_message()", $await, " {")]
            #[doc = concat!("    let header = header?.to_vec()", $await, "?;")]
            /// }
            #[doc = $close]
            /// ```
            pub fn top_all<M: MessageRef>(
                &mut self,
                messages: impl IntoIterator<Item = M>,
                lines: u64,
            ) -> Messages<'_> {
                Messages { core: &mut self.core, batch: Batch::new(messages, Some(lines)) }
            }

            /// Marks a message as deleted (DELE). It goes at [`quit`](Session::quit).
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("session.dele(1)", $await, "?;")]
            #[doc = concat!("assert_eq!(session.stat()", $await, "?.messages, 1);")]
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if there is no such message.
            pub $($async)? fn dele(&mut self, message: impl MessageRef) -> Result<(), Error> {
                $wait!(self.core.dele(message.wanted()))
            }

            /// Marks these messages as deleted, pipelined where the server allows it: what became of each.
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("let outcomes = session.dele_all([1, 2, 3])", $await, "?;")]
            /// assert!(outcomes[1].1.is_ok() && outcomes[2].1.is_err());
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// Those that end the session; refusals are in the list.
            pub $($async)? fn dele_all<M: MessageRef>(
                &mut self,
                messages: impl IntoIterator<Item = M>,
            ) -> Result<Vec<(crate::MessageNumber, Result<(), Error>)>, Error> {
                $wait!(self.core.dele_all(messages))
            }

            /// Takes all marks back (RSET).
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("session.dele(1)", $await, "?;")]
            #[doc = concat!("session.rset()", $await, "?;")]
            #[doc = concat!("assert_eq!(session.stat()", $await, "?.messages, 2);")]
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`Error`].
            pub $($async)? fn rset(&mut self) -> Result<(), Error> {
                $wait!(self.core.simple(pop3_proto::Command::Rset))
            }

            /// Does nothing, and keeps the server from giving the session up (NOOP).
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("session.noop()", $await, "?;")]
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`Error`].
            pub $($async)? fn noop(&mut self) -> Result<(), Error> {
                $wait!(self.core.simple(pop3_proto::Command::Noop))
            }

            /// How long the server takes to answer NOOP. There is no PING in any RFC.
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("println!(\"{:?}\", session.ping()", $await, "?);")]
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`Error`].
            pub $($async)? fn ping(&mut self) -> Result<std::time::Duration, Error> {
                $wait!(self.core.ping())
            }

            /// The highest message that has been read, in this session or one before (LAST, RFC 1460: few servers know it).
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("assert_eq!(session.last()", $await, "?, None);")]
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if the server does not know LAST.
            pub $($async)? fn last(&mut self) -> Result<Option<crate::MessageNumber>, Error> {
                $wait!(self.core.last())
            }
        }
    };
}

pub(crate) use transaction;
