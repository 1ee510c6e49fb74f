//! What can go wrong, said so that a program can decide what to do.

use std::fmt;
use std::io;

use pop3_proto::client::{CommandError, ProtocolError};

use crate::ResponseCode;
use crate::tls::Fingerprint;

/// Where in the life of a connection something went wrong.
///
/// ```
/// use net_pop3::Phase;
///
/// # let mut session = scripted_server::doc::blocking!()?;
/// let error = session.retr(7).unwrap_err();
/// assert_eq!(error.phase(), Phase::Command);
/// assert_eq!(Phase::Connect.to_string(), "connecting");
/// # Ok::<(), net_pop3::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// The name of the host, the TCP connection.
    Connect,
    /// What the proxy was asked.
    Proxy,
    /// The TLS handshake.
    Tls,
    /// The server's greeting.
    Greeting,
    /// A command that is answered at once.
    Command,
    /// A message or a listing.
    Data,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Connect => "connecting",
            Phase::Proxy => "asking the proxy",
            Phase::Tls => "the TLS handshake",
            Phase::Greeting => "awaiting the greeting",
            Phase::Command => "awaiting a reply",
            Phase::Data => "receiving data",
        })
    }
}

/// An error, with the phase and the command in which it came up.
///
/// ```
/// use net_pop3::blocking::Pop3;
/// use net_pop3::{Credentials, ErrorKind, Phase, Security};
///
/// let server = scripted_server::Mailbox::sample().start();
/// let session = Pop3::builder().host("127.0.0.1").port(server.port()).security(Security::Plain).connect()?;
/// let failed = session.login(&Credentials::password("mrose", "wrong")).unwrap_err();
/// let error = failed.error();
/// assert_eq!((error.phase(), error.command()), (Phase::Command, Some("AUTH")));
/// assert!(matches!(error.kind(), ErrorKind::Refused(_)));
/// assert!(!error.is_temporary());
/// # Ok::<(), net_pop3::Error>(())
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    phase: Phase,
    command: Option<&'static str>,
    host: Option<String>,
}

/// What went wrong.
///
/// ```
/// use net_pop3::ErrorKind;
///
/// # let mut session = scripted_server::doc::blocking!()?;
/// let error = session.retr(7).unwrap_err();
/// match error.kind() {
///     ErrorKind::Refused(refusal) => println!("the server says: {}", refusal.text),
///     ErrorKind::TimedOut => println!("later, perhaps"),
///     _ => println!("{error}"),
/// }
/// # Ok::<(), net_pop3::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The network, or the connection was closed by the other side.
    Io(io::Error),
    /// The time allowed for the [phase](Error::phase) has passed.
    TimedOut,
    /// The name of the host is not known, or has no address.
    UnknownHost,
    /// TLS failed for another reason than the server's certificate.
    Tls(rustls::Error),
    /// The server's certificate cannot be trusted. Its fingerprint is told so that it can be compared with what the
    /// server's operator says, and [pinned](crate::TlsOptions::pin_sha256).
    Certificate {
        /// SHA-256 of the certificate.
        fingerprint: Fingerprint,
        /// Why it is not trusted.
        reason: rustls::Error,
    },
    /// The proxy refused, or does not speak the protocol it is said to speak.
    Proxy(String),
    /// The server offers no TLS, and [`Security::Starttls`](crate::Security::Starttls) asks for it. No credentials were sent.
    TlsNotOffered,
    /// The credentials would have to be sent in the clear. They were not.
    WouldRevealCredentials,
    /// The server offers nothing that these credentials can be shown by.
    NoMechanism,
    /// The server said `-ERR`.
    Refused(Refusal),
    /// The SASL exchange failed on this side: the server did not prove what it has to.
    Sasl(sasl::client::ClientError),
    /// The server does not speak POP3, or does so beyond the [limits](crate::Limits). The session is over.
    Protocol(ProtocolError),
    /// More octets than [`Limits::session_octets`](crate::Limits::session_octets) were received. The session is over.
    TooManyOctets,
    /// The command was not sent, as an argument cannot be.
    InvalidInput(String),
    /// The command does not belong here, or the session is over since an earlier error.
    WrongState,
    /// The netrc file, certificate or key of this side is at fault.
    Configuration(String),
}

/// A negative reply.
///
/// ```
/// use net_pop3::{Refusal, ResponseCode};
///
/// let refusal = Refusal { code: Some(ResponseCode::InUse), text: "busy".to_owned() };
/// assert_eq!(refusal.to_string(), "[IN-USE] busy");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason for the program, if there is one.
    pub code: Option<ResponseCode>,
    /// The reason for the user, control octets escaped.
    pub text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "[{code}] {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl Error {
    pub(crate) fn new(phase: Phase, kind: ErrorKind) -> Error {
        Error(Box::new(Inner {
            kind,
            phase,
            command: None,
            host: None,
        }))
    }

    pub(crate) fn of_command(mut self, command: &'static str) -> Error {
        self.0.command.get_or_insert(command);
        self
    }

    pub(crate) fn at_host(mut self, host: &str) -> Error {
        self.0.host.get_or_insert_with(|| host.to_owned());
        self
    }

    /// Not sent, or not sendable.
    pub(crate) fn not_sent(error: CommandError) -> Error {
        let kind = match error {
            CommandError::InvalidInput(error) => ErrorKind::InvalidInput(error.to_string()),
            _ => ErrorKind::WrongState,
        };
        Error::new(Phase::Command, kind)
    }

    /// What went wrong.
    ///
    /// ```
    /// use net_pop3::ErrorKind;
    ///
    /// # let mut session = scripted_server::doc::blocking!()?;
    /// let error = session.retr(7).unwrap_err();
    /// assert!(matches!(error.kind(), ErrorKind::Refused(_)));
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// When.
    ///
    /// ```
    /// use net_pop3::Phase;
    ///
    /// # let mut session = scripted_server::doc::blocking!()?;
    /// let error = session.retr(7).unwrap_err();
    /// assert_eq!(error.phase(), Phase::Command);
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    pub fn phase(&self) -> Phase {
        self.0.phase
    }

    /// The name of the command that failed, without its arguments.
    ///
    /// ```
    /// # let mut session = scripted_server::doc::blocking!()?;
    /// let error = session.retr(7).unwrap_err();
    /// assert_eq!(error.command(), Some("RETR"));
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    pub fn command(&self) -> Option<&str> {
        self.0.command
    }

    /// The host that was being connected to; `None` once the session is there.
    ///
    /// ```
    /// use net_pop3::{Security, blocking::Pop3};
    ///
    /// let error = Pop3::builder().host("127.0.0.1:1").security(Security::Plain).connect().unwrap_err();
    /// assert_eq!(error.host(), Some("127.0.0.1:1"));
    /// ```
    pub fn host(&self) -> Option<&str> {
        self.0.host.as_deref()
    }

    /// The server's `-ERR`, if that is what it is.
    ///
    /// ```
    /// # let mut session = scripted_server::doc::blocking!()?;
    /// let error = session.retr(7).unwrap_err();
    /// assert!(error.refusal().is_some());
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    pub fn refusal(&self) -> Option<&Refusal> {
        match self.kind() {
            ErrorKind::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The server's reason for the program.
    ///
    /// ```
    /// # let mut session = scripted_server::doc::blocking!()?;
    /// let error = session.retr(7).unwrap_err();
    /// assert_eq!(error.response_code(), None);
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    pub fn response_code(&self) -> Option<&ResponseCode> {
        self.refusal()?.code.as_ref()
    }

    /// Whether the same may succeed at another time with nothing changed: the network failed, the maildrop is in use, the
    /// server has a passing trouble (RFC 2449 section 8.1, RFC 3206 section 4).
    ///
    /// ```
    /// use net_pop3::{Security, blocking::Pop3};
    ///
    /// let error = Pop3::builder().host("127.0.0.1:1").security(Security::Plain).connect().unwrap_err();
    /// assert!(error.is_temporary(), "nobody listens there so far");
    /// ```
    pub fn is_temporary(&self) -> bool {
        match self.kind() {
            ErrorKind::Io(_) | ErrorKind::TimedOut | ErrorKind::UnknownHost => true,
            ErrorKind::Protocol(error) => *error == ProtocolError::UnexpectedEnd,
            ErrorKind::Refused(refusal) => refusal
                .code
                .as_ref()
                .is_some_and(ResponseCode::is_temporary),
            _ => false,
        }
    }

    /// Whether the session is of no use any more. After a mere refusal, or a command that was not sent, it still is.
    ///
    /// ```
    /// # let mut session = scripted_server::doc::blocking!()?;
    /// let error = session.retr(7).unwrap_err();
    /// assert!(!error.ends_session());
    /// session.retr(1)?;
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    pub fn ends_session(&self) -> bool {
        !matches!(
            self.kind(),
            ErrorKind::Refused(_)
                | ErrorKind::InvalidInput(_)
                | ErrorKind::NoMechanism
                | ErrorKind::WouldRevealCredentials
                | ErrorKind::Configuration(_)
        )
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("phase", &self.0.phase)
            .field("command", &self.0.command)
            .field("host", &self.0.host)
            .finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.0.host {
            write!(f, "{host}: ")?;
        }
        if let Some(command) = self.0.command {
            write!(f, "{command}: ")?;
        }
        match &self.0.kind {
            ErrorKind::Io(error) => write!(f, "{}: {error}", self.0.phase),
            ErrorKind::TimedOut => write!(f, "{}: timed out", self.0.phase),
            ErrorKind::UnknownHost => f.write_str("no such host"),
            ErrorKind::Tls(error) => write!(f, "{}: {error}", self.0.phase),
            ErrorKind::Certificate {
                fingerprint,
                reason,
            } => write!(
                f,
                "the server's certificate is not trusted: {reason}; its fingerprint is {fingerprint}"
            ),
            ErrorKind::Proxy(reason) => write!(f, "proxy: {reason}"),
            ErrorKind::TlsNotOffered => f.write_str("the server offers no TLS"),
            ErrorKind::WouldRevealCredentials => {
                f.write_str("the credentials would be sent in the clear")
            }
            ErrorKind::NoMechanism => {
                f.write_str("the server offers no mechanism that these credentials fit")
            }
            ErrorKind::Refused(refusal) => write!(f, "the server refused: {refusal}"),
            ErrorKind::Sasl(error) => error.fmt(f),
            ErrorKind::Protocol(error) => write!(f, "{}: {error}", self.0.phase),
            ErrorKind::TooManyOctets => f.write_str("the server sent more than is allowed"),
            ErrorKind::InvalidInput(reason) => f.write_str(reason),
            ErrorKind::WrongState => f.write_str("the session is over, or not in that state"),
            ErrorKind::Configuration(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            ErrorKind::Io(error) => Some(error),
            ErrorKind::Tls(error) | ErrorKind::Certificate { reason: error, .. } => Some(error),
            ErrorKind::Sasl(error) => Some(error),
            ErrorKind::Protocol(error) => Some(error),
            _ => None,
        }
    }
}

/// For readers of messages, whose errors are of this type; the [`Error`] is inside.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match error.kind() {
            ErrorKind::Io(error) => error.kind(),
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ErrorKind::Protocol(ProtocolError::UnexpectedEnd) => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: Option<ResponseCode>) -> Error {
        let text = "no".to_owned();
        Error::new(Phase::Command, ErrorKind::Refused(Refusal { code, text })).of_command("PASS")
    }

    #[test]
    fn what_passes_by_itself_is_told_from_what_does_not() {
        for code in [
            ResponseCode::InUse,
            ResponseCode::LoginDelay,
            ResponseCode::SysTemp,
        ] {
            assert!(refused(Some(code)).is_temporary());
        }
        for code in [
            ResponseCode::Auth,
            ResponseCode::SysPerm,
            ResponseCode::Other("X".to_owned()),
        ] {
            assert!(!refused(Some(code)).is_temporary());
        }
        assert!(!refused(None).is_temporary());
        assert!(Error::new(Phase::Data, ErrorKind::TimedOut).is_temporary());
        let end = ErrorKind::Protocol(ProtocolError::UnexpectedEnd);
        assert!(Error::new(Phase::Data, end).is_temporary());
    }

    #[test]
    fn the_text_says_where_and_why() {
        let error = refused(Some(ResponseCode::Auth)).at_host("pop.example.org");
        assert_eq!(
            error.to_string(),
            "pop.example.org: PASS: the server refused: [AUTH] no"
        );
        assert!(!error.ends_session());
    }

    #[test]
    fn an_error_of_a_reader_can_be_taken_out_again() {
        let outer = io::Error::from(Error::new(Phase::Data, ErrorKind::TimedOut));
        assert_eq!(outer.kind(), io::ErrorKind::TimedOut);
        let inner = outer.get_ref().unwrap().downcast_ref::<Error>().unwrap();
        assert_eq!(inner.phase(), Phase::Data);
    }
}
