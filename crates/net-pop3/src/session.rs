//! The methods of a session, written once for both drivers: each is one call into the core, awaited or run to its end.

pub(crate) mod authorization;
pub(crate) mod transaction;

use std::fmt;

use crate::error::Error;

/// Before login (RFC 1939 section 4).
///
/// ```
/// use net_pop3::{Authorization, Error, blocking::Session};
///
/// fn is_welcome(session: &Session<Authorization>) -> bool {
///     session.is_tls() && session.banner().contains("example.org")
/// }
/// ```
#[derive(Debug)]
pub enum Authorization {}

/// After login: the maildrop is locked for this session (RFC 1939 section 5).
///
/// ```
/// use net_pop3::{Error, Transaction, blocking::Session};
///
/// fn octets(session: &mut Session<Transaction>) -> Result<u64, Error> {
///     Ok(session.stat()?.octets)
/// }
/// # assert_eq!(octets(&mut scripted_server::doc::blocking!()?)?, 76);
/// # Ok::<(), Error>(())
/// ```
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
    ///
    /// ```
    /// # use net_pop3::{Credentials, Security, blocking::Pop3};
    /// # let server = scripted_server::Mailbox::sample().start();
    /// # let builder = Pop3::builder().host("127.0.0.1").port(server.port()).security(Security::Plain);
    /// let failed = builder.connect()?.login(&Credentials::password("mrose", "wrong")).unwrap_err();
    /// assert!(failed.error().refusal().is_some());
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The session as it was before.
    ///
    /// ```
    /// # use net_pop3::{Credentials, Security, blocking::Pop3};
    /// # let server = scripted_server::Mailbox::sample().start();
    /// # let builder = Pop3::builder().host("127.0.0.1").port(server.port()).security(Security::Plain);
    /// let failed = builder.connect()?.login(&Credentials::password("mrose", "wrong")).unwrap_err();
    /// let session = failed.into_session()?;
    /// session.login(&Credentials::password("mrose", "tanstaaf"))?;
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
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
        ///
        /// ```
        #[doc = concat!("use net_pop3::{", $module, "::Pop3, Security};")]
        ///
        #[doc = $open]
        /// # let server = scripted_server::Mailbox::sample().start();
        /// # let port = server.port();
        /// let builder = Pop3::builder().host("127.0.0.1").port(port).security(Security::Plain);
        #[doc = concat!("let session = builder.connect()", $await, "?;")]
        #[doc = $close]
        /// ```
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
        ///
        /// ```
        #[doc = concat!("use net_pop3::{", $module, "::Pop3, Security};")]
        ///
        #[doc = $open]
        /// # let server = scripted_server::Mailbox::sample().start();
        /// # let port = server.port();
        #[doc = concat!("let builder: net_pop3::", $module, "::Builder = Pop3::builder().host(\"127.0.0.1\").port(port);")]
        #[doc = concat!("let session = builder.security(Security::Plain).connect()", $await, "?;")]
        #[doc = $close]
        /// ```
        pub type Builder = crate::builder::Builder<$driver>;

        impl Builder {
            /// Connects, up to the greeting and TLS.
            ///
            /// ```
            #[doc = concat!("use net_pop3::{", $module, "::Pop3, Security};")]
            ///
            #[doc = $open]
            /// # let server = scripted_server::Mailbox::sample().start();
            /// # let port = server.port();
            /// let builder = Pop3::builder().host("127.0.0.1").port(port).security(Security::Plain);
            #[doc = concat!("let session = builder.connect()", $await, "?;")]
            #[doc = $close]
            /// ```
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
        ///
        /// ```
        #[doc = $open]
        #[doc = concat!("# let mut session = scripted_server::doc::", $module, "!()", $await, "?;")]
        #[doc = concat!("println!(\"{} messages\", session.stat()", $await, "?.messages);")]
        #[doc = concat!("session.quit()", $await, "?;")]
        #[doc = $close]
        /// ```
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
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let session = scripted_server::doc::", $module, "!()", $await, "?;")]
            /// assert_eq!(session.host(), "127.0.0.1");
            #[doc = $close]
            /// ```
            pub fn host(&self) -> &str {
                &self.core.peer.host
            }

            /// The address that was connected to; the proxy's if there is one.
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let session = scripted_server::doc::", $module, "!()", $await, "?;")]
            /// assert!(session.peer_addr().ip().is_loopback());
            #[doc = $close]
            /// ```
            pub fn peer_addr(&self) -> std::net::SocketAddr {
                self.core.peer.address
            }

            /// Whether TLS protects the session.
            ///
            /// ```
            #[doc = $open]
            #[doc = concat!("# let session = scripted_server::doc::", $module, "!()", $await, "?;")]
            /// assert!(!session.is_tls());
            #[doc = $close]
            /// ```
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

        crate::session::authorization::authorization! {
            async: [$($async)?], wait: $wait, open: $open, close: $close, await: $await, module: $module
        }

        crate::session::transaction::transaction! {
            async: [$($async)?], wait: $wait, open: $open, close: $close, await: $await, module: $module
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
