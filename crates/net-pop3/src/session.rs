//! The methods of a session, written once for both drivers: each is one call into the core, awaited or run to its end.

use std::fmt;

use crate::error::Error;

/// Before login (RFC 1939 section 4).
#[derive(Debug)]
pub enum Authorization {}

/// After login: the maildrop is locked for this session (RFC 1939 section 5).
#[derive(Debug)]
pub enum Transaction {}

/// A login that failed: why, and the session for another try if it still stands.
///
/// ```
/// use net_pop3::{Credentials, Security, blocking::Pop3};
///
/// let server = scripted_server::Mailbox::sample().start();
/// let session = Pop3::builder().host("127.0.0.1").port(server.port()).security(Security::Plain).connect()?;
/// let failed = session.login(&Credentials::password("mrose", "wrong")).unwrap_err();
/// println!("{}", failed.error());
/// let session = failed.into_session()?;
/// session.login(&Credentials::password("mrose", "tanstaaf"))?.quit()?;
/// # Ok::<(), net_pop3::Error>(())
/// ```
pub struct LoginFailed<S> {
    pub(crate) error: Error,
    pub(crate) session: Option<S>,
}

impl<S> LoginFailed<S> {
    /// Why.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The session as it was before.
    ///
    /// # Errors
    /// The error, if it ended the session.
    pub fn into_session(self) -> Result<S, Error> {
        self.session.ok_or(self.error)
    }
}

impl<S> fmt::Debug for LoginFailed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<S> fmt::Display for LoginFailed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<S> std::error::Error for LoginFailed<S> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}

impl<S> From<LoginFailed<S>> for Error {
    fn from(failed: LoginFailed<S>) -> Error {
        failed.error
    }
}

/// Defines `Pop3` and `Session` of a driver; `Message` and `Messages` are in the macro beside.
///
/// `$async` is `async` or nothing, `$wait` a macro that awaits a future or runs it; `$open`, `$close` and `$await` make the
/// examples ones of that driver.
macro_rules! driver {
    (
        driver: $driver:ty, socket: $socket:ty, async: [$($async:ident)?], wait: $wait:ident,
        open: $open:literal, close: $close:literal, await: $await:literal, module: $module:literal
    ) => {
        use crate::batch::Batch;
        use crate::capabilities::Capabilities;
        use crate::core::Core;
        use crate::credentials::Credentials;
        use crate::error::Error;
        use crate::listing::{Listing, MessageRef, Stat, UniqueId};
        use crate::session::{Authorization, LoginFailed, Transaction};

        /// Where a connection begins.
        #[derive(Debug)]
        pub enum Pop3 {}

        impl Pop3 {
            /// Says how to connect.
            ///
            /// ```
            #[doc = concat!("use net_pop3::{", $module, "::Pop3, Credentials, Security};")]
            ///
            #[doc = $open]
            /// # let server = scripted_server::Mailbox::sample().start();
            /// # let port = server.port();
            /// let session = Pop3::builder()
            ///     .host("127.0.0.1")
            ///     .port(port)
            ///     .security(Security::Plain)
            #[doc = concat!("    .connect()", $await, "?")]
            #[doc = concat!("    .login(&Credentials::password(\"mrose\", \"tanstaaf\"))", $await, "?;")]
            #[doc = $close]
            /// ```
            pub fn builder() -> Builder {
                Builder::new()
            }
        }

        /// Says how to connect, with this module's driver.
        pub type Builder = crate::builder::Builder<$driver>;

        impl Builder {
            /// Connects, up to the greeting and TLS.
            ///
            /// # Errors
            /// The last host's, if none lets itself be connected to.
            pub $($async)? fn connect(self) -> Result<Session<Authorization>, Error> {
                let core = $wait!(crate::connect::connect::<$driver>(self.settings))?;
                Ok(Session::new(Box::new(core)))
            }
        }

        /// A session with a server.
        ///
        /// Dropped without [`quit`](Session::quit) it just closes the connection, and the server deletes nothing (RFC 1939
        /// section 6): not on an early return, not on a panic.
        pub struct Session<State> {
            core: Box<Core<$socket>>,
            state: PhantomData<State>,
        }

        impl<State> Session<State> {
            fn new(core: Box<Core<$socket>>) -> Session<State> {
                Session { core, state: PhantomData }
            }

            /// What the server can do (CAPA, RFC 2449). Asked once, and again after STLS and after the login. A server that
            /// does not know CAPA is no error.
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("if session.capa()", $await, "?.pipelining {")]
            ///     println!("this will be fast");
            /// }
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// Those that end the session.
            pub $($async)? fn capa(&mut self) -> Result<Capabilities, Error> {
                $wait!(self.core.capa())
            }

            /// The text of the greeting, control octets escaped.
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let session = scripted_server::doc::", $module, "!()", $await, "?;")]
            /// assert!(session.banner().starts_with("ready"));
            #[doc = $close]
            /// ```
            pub fn banner(&self) -> &str {
                &self.core.banner
            }

            /// The host that was connected to, of those that were named.
            pub fn host(&self) -> &str {
                &self.core.peer.host
            }

            /// The address that was connected to; the proxy's if there is one.
            pub fn peer_addr(&self) -> std::net::SocketAddr {
                self.core.peer.address
            }

            /// Whether TLS protects the session.
            pub fn is_tls(&self) -> bool {
                self.core.channel.tls().is_some()
            }

            /// Asks for the texts of replies in a language, such as `de` or `*` (RFC 6856 section 3). Returns what the server
            /// says to it.
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("let text = session.lang(\"de\")", $await, "?;")]
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if the server does not have it.
            pub $($async)? fn lang(&mut self, range: &str) -> Result<String, Error> {
                $wait!(self.core.lang(range))
            }

            /// The languages that the server has: a tag and a description each (RFC 6856 section 3.2).
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("assert_eq!(session.languages()", $await, "?, [\"en English\"]);")]
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if the server does not know LANG.
            pub $($async)? fn languages(&mut self) -> Result<Vec<String>, Error> {
                $wait!(self.core.languages())
            }

            /// Allows UTF-8 in headers (RFC 6856 section 2); before the login, in names and passwords too.
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("session.utf8()", $await, "?;")]
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if the server does not know UTF8.
            pub $($async)? fn utf8(&mut self) -> Result<(), Error> {
                $wait!(self.core.simple(pop3_proto::Command::Utf8))
            }

            /// Ends the session: the server removes the messages marked as deleted (RFC 1939 section 6).
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
            #[doc = concat!("session.dele(1)", $await, "?;")]
            #[doc = concat!("session.quit()", $await, "?;")]
            /// println!("message 1 is gone");
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// Whatever is not the server's `+OK`. What was marked may be gone then or not: only the next session tells.
            pub $($async)? fn quit(mut self) -> Result<(), Error> {
                $wait!(self.core.quit())
            }
        }

        impl Session<Authorization> {
            /// Logs in by the strongest mechanism that the server offers and the credentials fit; if it has none, by USER and
            /// PASS. APOP is never chosen.
            ///
            /// ```
            #[doc = concat!("use net_pop3::{", $module, "::Pop3, Credentials, Security};")]
            ///
            #[doc = $open]
            /// # let server = scripted_server::Mailbox::sample().start();
            /// # let port = server.port();
            /// # let builder = Pop3::builder().host("127.0.0.1").port(port).security(Security::Plain);
            #[doc = concat!("let session = builder.connect()", $await, "?;")]
            /// let credentials = Credentials::password("mrose", "tanstaaf");
            #[doc = concat!("let mut session = session.login(&credentials)", $await, "?;")]
            #[doc = concat!("assert_eq!(session.stat()", $await, "?.messages, 2);")]
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`LoginFailed`], with the session for another try. In particular
            /// [`ErrorKind::WouldRevealCredentials`](crate::ErrorKind::WouldRevealCredentials).
            pub $($async)? fn login(
                mut self,
                credentials: &Credentials,
            ) -> Result<Session<Transaction>, LoginFailed<Self>> {
                let result = $wait!(self.core.login(credentials));
                self.after_login(result)
            }

            /// USER; [`pass`](Session::pass) is to follow.
            ///
            /// ```
            #[doc = concat!("use net_pop3::{", $module, "::Pop3, Security};")]
            ///
            #[doc = $open]
            /// # let server = scripted_server::Mailbox::sample().start();
            /// # let port = server.port();
            /// # let builder = Pop3::builder().host("127.0.0.1").port(port).security(Security::Plain);
            #[doc = concat!("let mut session = builder.connect()", $await, "?;")]
            #[doc = concat!("session.user(\"mrose\")", $await, "?;")]
            #[doc = concat!("let mut session = session.pass(\"tanstaaf\")", $await, "?;")]
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`ErrorKind::Refused`](crate::ErrorKind::Refused), [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput).
            pub $($async)? fn user(&mut self, name: &str) -> Result<(), Error> {
                $wait!(self.core.user(name))
            }

            /// PASS, after [`user`](Session::user).
            ///
            /// # Errors
            /// [`LoginFailed`], with the session for another try.
            pub $($async)? fn pass(
                mut self,
                password: impl AsRef<[u8]>,
            ) -> Result<Session<Transaction>, LoginFailed<Self>> {
                let result = $wait!(self.core.pass(password.as_ref()));
                self.after_login(result)
            }

            /// APOP: the password is not sent, but MD5 protects it badly; use TLS. The timestamp in the greeting is checked to
            /// be one, as a server in the middle could choose others to find the password out (CVE-2007-1558).
            ///
            /// ```
            #[doc = concat!("use net_pop3::{", $module, "::Pop3, Security};")]
            ///
            #[doc = $open]
            /// # let server = scripted_server::Mailbox::sample().start();
            /// # let port = server.port();
            /// # let builder = Pop3::builder().host("127.0.0.1").port(port).security(Security::Plain);
            #[doc = concat!("let session = builder.connect()", $await, "?.apop(\"mrose\", \"tanstaaf\")", $await, "?;")]
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`LoginFailed`]; [`ErrorKind::NoMechanism`](crate::ErrorKind::NoMechanism) without a timestamp.
            pub $($async)? fn apop(
                mut self,
                name: &str,
                password: impl AsRef<[u8]>,
            ) -> Result<Session<Transaction>, LoginFailed<Self>> {
                let result = $wait!(self.core.apop(name, password.as_ref()));
                self.after_login(result)
            }

            /// AUTH by one mechanism (RFC 5034).
            ///
            /// ```
            #[doc = concat!("use net_pop3::{", $module, "::Pop3, Credentials, Mechanism, Security};")]
            ///
            #[doc = $open]
            /// # let server = scripted_server::Mailbox::sample().start();
            /// # let port = server.port();
            /// # let builder = Pop3::builder().host("127.0.0.1").port(port).security(Security::Plain);
            /// let credentials = Credentials::password("mrose", "tanstaaf");
            #[doc = concat!("let session = builder.connect()", $await, "?;")]
            #[doc = concat!("let session = session.auth(Mechanism::Plain, &credentials)", $await, "?;")]
            #[doc = $close]
            /// ```
            ///
            /// # Errors
            /// [`LoginFailed`]; [`ErrorKind::Sasl`](crate::ErrorKind::Sasl) if the server does not prove what it has to.
            pub $($async)? fn auth(
                mut self,
                mechanism: crate::Mechanism,
                credentials: &Credentials,
            ) -> Result<Session<Transaction>, LoginFailed<Self>> {
                let result = $wait!(self.core.auth(mechanism, credentials));
                self.after_login(result)
            }

            /// STLS now, where [`Security::Plain`](crate::Security::Plain) was asked for (RFC 2595 section 4).
            ///
            /// # Errors
            /// [`ErrorKind::TlsNotOffered`](crate::ErrorKind::TlsNotOffered), and what can go wrong in the handshake.
            pub $($async)? fn stls(&mut self) -> Result<(), Error> {
                $wait!(self.core.starttls(true))
            }

            fn after_login(
                self,
                result: Result<(), Error>,
            ) -> Result<Session<Transaction>, LoginFailed<Self>> {
                match result {
                    Ok(()) => Ok(Session::new(self.core)),
                    Err(error) => {
                        let session = (!error.ends_session()).then_some(self);
                        Err(LoginFailed { error, session })
                    }
                }
            }
        }

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

        impl<State> std::fmt::Debug for Session<State> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct("Session")
                    .field("peer", &self.core.peer)
                    .field("is_tls", &self.is_tls())
                    .finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use driver;
