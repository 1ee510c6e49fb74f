//! The reason of a refusal, for the program.

use std::fmt;

/// A response code (RFC 2449 section 8, RFC 3206, RFC 6856), kept beyond the line it came in.
///
/// ```
/// use net_pop3::ResponseCode;
///
/// assert!(ResponseCode::InUse.is_temporary());
/// assert_eq!(ResponseCode::SysPerm.to_string(), "SYS/PERM");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResponseCode {
    /// `[IN-USE]`: the credentials are right, the maildrop is busy.
    InUse,
    /// `[LOGIN-DELAY]`: the last login was too short a time ago.
    LoginDelay,
    /// `[SYS/TEMP]`: the server has a passing trouble.
    SysTemp,
    /// `[SYS/PERM]`: somebody has to repair the server.
    SysPerm,
    /// `[AUTH]`: the credentials are wrong.
    Auth,
    /// `[UTF8]`: the message needs [`utf8`](crate::blocking::Session::utf8).
    Utf8,
    /// Any other, without its brackets.
    Other(String),
}

impl ResponseCode {
    /// Whether trying again later makes sense.
    ///
    /// ```
    /// use net_pop3::ResponseCode;
    ///
    /// assert!(ResponseCode::LoginDelay.is_temporary() && !ResponseCode::Auth.is_temporary());
    /// ```
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            ResponseCode::InUse | ResponseCode::LoginDelay | ResponseCode::SysTemp
        )
    }
}

impl From<pop3_proto::ResponseCode<'_>> for ResponseCode {
    fn from(code: pop3_proto::ResponseCode<'_>) -> ResponseCode {
        match code {
            pop3_proto::ResponseCode::InUse => ResponseCode::InUse,
            pop3_proto::ResponseCode::LoginDelay => ResponseCode::LoginDelay,
            pop3_proto::ResponseCode::SysTemp => ResponseCode::SysTemp,
            pop3_proto::ResponseCode::SysPerm => ResponseCode::SysPerm,
            pop3_proto::ResponseCode::Auth => ResponseCode::Auth,
            pop3_proto::ResponseCode::Utf8 => ResponseCode::Utf8,
            other => ResponseCode::Other(other.as_bytes().escape_ascii().to_string()),
        }
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResponseCode::InUse => "IN-USE",
            ResponseCode::LoginDelay => "LOGIN-DELAY",
            ResponseCode::SysTemp => "SYS/TEMP",
            ResponseCode::SysPerm => "SYS/PERM",
            ResponseCode::Auth => "AUTH",
            ResponseCode::Utf8 => "UTF8",
            ResponseCode::Other(code) => code,
        })
    }
}
