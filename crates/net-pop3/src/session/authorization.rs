//! What a session can do before the login.

/// Defines the methods; see [`driver`](super::driver).
macro_rules! authorization {
    (async: [$($async:ident)?], wait: $wait:ident, open: $open:literal, close: $close:literal, await: $await:literal, module: $module:literal) => {
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
            /// ```
            #[doc = concat!("use net_pop3::{", $module, "::Pop3, Security};")]
            ///
            #[doc = $open]
            /// # let server = scripted_server::Mailbox::sample().start();
            /// # let port = server.port();
            /// # let builder = Pop3::builder().host("127.0.0.1").port(port).security(Security::Plain);
            #[doc = concat!("let mut session = builder.connect()", $await, "?;")]
            #[doc = concat!("if session.stls()", $await, ".is_err() {")]
            ///     println!("this one has no TLS");
            /// }
            #[doc = $close]
            /// ```
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
    };
}

pub(crate) use authorization;
