//! What the server says it can do.

use std::time::Duration;

use pop3_proto::client::Capability;
use pop3_proto::server::Expire;

/// The answer to CAPA (RFC 2449), kept until STLS or the login makes it void.
///
/// ```
/// # let mut session = scripted_server::doc::blocking!()?;
/// let capabilities = session.capa()?;
/// assert!(capabilities.uidl && capabilities.top);
/// assert_eq!(capabilities.implementation.as_deref(), Some("scripted"));
/// # Ok::<(), net_pop3::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The server knows CAPA at all. If not, nothing below says anything.
    pub capa: bool,
    /// APOP, which the greeting tells and not CAPA.
    pub apop: bool,
    /// TOP.
    pub top: bool,
    /// UIDL.
    pub uidl: bool,
    /// USER and PASS.
    pub user: bool,
    /// Response codes.
    pub resp_codes: bool,
    /// A login refused without `[AUTH]` was not the credentials' fault (RFC 3206 section 6).
    pub auth_resp_code: bool,
    /// Commands may be sent ahead.
    pub pipelining: bool,
    /// STLS.
    pub stls: bool,
    /// UTF8 (RFC 6856).
    pub utf8: bool,
    /// Names and passwords may be UTF-8 after UTF8 (RFC 6856 section 2.2).
    pub utf8_user: bool,
    /// LANG (RFC 6856).
    pub lang: bool,
    /// Names of SASL mechanisms, in upper case.
    pub sasl: Vec<String>,
    /// The time to wait between logins.
    pub login_delay: Option<Duration>,
    /// How many days mail is kept; `Some(None)` for ever.
    pub expire: Option<Option<u32>>,
    /// Which server it is.
    pub implementation: Option<String>,
    /// All else, a line each, control octets escaped.
    pub other: Vec<String>,
}

impl Capabilities {
    pub(crate) fn add(&mut self, capability: Capability<'_>) {
        match capability {
            Capability::Top => self.top = true,
            Capability::Uidl => self.uidl = true,
            Capability::User => self.user = true,
            Capability::RespCodes => self.resp_codes = true,
            Capability::AuthRespCode => self.auth_resp_code = true,
            Capability::Pipelining => self.pipelining = true,
            Capability::Sasl(_) => {
                let names = capability.mechanisms().map(|name| name.to_string());
                self.sasl.extend(names);
            }
            Capability::Stls => self.stls = true,
            Capability::LoginDelay { delay, .. } => self.login_delay = Some(delay),
            Capability::Expire { expire, .. } => {
                self.expire = Some(match expire {
                    Expire::Never => None,
                    Expire::Days(days) => Some(days),
                });
            }
            Capability::Implementation(text) => {
                self.implementation = Some(text.escape_ascii().to_string());
            }
            Capability::Utf8 { user } => (self.utf8, self.utf8_user) = (true, user),
            Capability::Lang => self.lang = true,
            Capability::Other(line) => self.other.push(line.escape_ascii().to_string()),
            _ => (),
        }
    }

    /// The capabilities as CAPA's lines, in an order of their own.
    ///
    /// ```
    /// # let mut session = scripted_server::doc::blocking!()?;
    /// assert!(session.capa()?.lines().contains(&"UIDL".to_owned()));
    /// # Ok::<(), net_pop3::Error>(())
    /// ```
    pub fn lines(&self) -> Vec<String> {
        let flags = [
            (self.top, "TOP"),
            (self.uidl, "UIDL"),
            (self.user, "USER"),
            (self.resp_codes, "RESP-CODES"),
            (self.auth_resp_code, "AUTH-RESP-CODE"),
            (self.pipelining, "PIPELINING"),
            (self.stls, "STLS"),
            (self.utf8 && !self.utf8_user, "UTF8"),
            (self.utf8_user, "UTF8 USER"),
            (self.lang, "LANG"),
        ];
        let flags = flags.iter().filter(|(is_set, _)| *is_set);
        let mut lines: Vec<String> = flags.map(|(_, name)| (*name).to_owned()).collect();
        if !self.sasl.is_empty() {
            lines.push(format!("SASL {}", self.sasl.join(" ")));
        }
        let delay = self.login_delay.map(|delay| delay.as_secs());
        lines.extend(delay.map(|seconds| format!("LOGIN-DELAY {seconds}")));
        lines.extend(self.expire.map(|days| match days {
            Some(days) => format!("EXPIRE {days}"),
            None => "EXPIRE NEVER".to_owned(),
        }));
        let implementation = self.implementation.as_ref();
        lines.extend(implementation.map(|text| format!("IMPLEMENTATION {text}")));
        lines.extend(self.other.iter().cloned());
        lines
    }
}
