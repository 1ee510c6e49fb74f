//! Response codes: the machine's part of a reply's text (RFC 2449 section 8).

/// Why a command failed, for the client's program rather than its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResponseCode<'a> {
    /// `[IN-USE]`: the credentials were right, the maildrop is busy (RFC 2449 section 8.1.2).
    InUse,
    /// `[LOGIN-DELAY]`: the last login was too short a time ago (RFC 2449 section 8.1.1).
    LoginDelay,
    /// `[SYS/TEMP]`: trying again later makes sense (RFC 3206 section 4).
    SysTemp,
    /// `[SYS/PERM]`: somebody has to repair the server (RFC 3206 section 4).
    SysPerm,
    /// `[AUTH]`: the credentials are at fault and nothing else (RFC 3206 section 5).
    Auth,
    /// `[UTF8]`: the message can only be sent in UTF-8 mode (RFC 6856 section 5).
    Utf8,
    /// What a client received and does not know, without the brackets.
    Other(&'a [u8]),
}

impl<'a> ResponseCode<'a> {
    /// Reads what stands between the brackets: in any case, and without the further levels that a client must ignore
    /// (`SYS/TEMP/DISK`).
    pub fn parse(code: &'a [u8]) -> ResponseCode<'a> {
        let known = ResponseCode::KNOWN.iter().find(|known| {
            let mut levels = code.split(|octet| *octet == b'/');
            known.as_bytes().split(|octet| *octet == b'/').all(|name| {
                levels
                    .next()
                    .is_some_and(|level| level.eq_ignore_ascii_case(name))
            })
        });
        known.copied().unwrap_or(ResponseCode::Other(code))
    }

    const KNOWN: [ResponseCode<'static>; 6] = [
        ResponseCode::InUse,
        ResponseCode::LoginDelay,
        ResponseCode::SysTemp,
        ResponseCode::SysPerm,
        ResponseCode::Auth,
        ResponseCode::Utf8,
    ];

    /// The code without its brackets.
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            ResponseCode::InUse => b"IN-USE",
            ResponseCode::LoginDelay => b"LOGIN-DELAY",
            ResponseCode::SysTemp => b"SYS/TEMP",
            ResponseCode::SysPerm => b"SYS/PERM",
            ResponseCode::Auth => b"AUTH",
            ResponseCode::Utf8 => b"UTF8",
            ResponseCode::Other(code) => code,
        }
    }

    /// The same command may succeed at another time, without anything being changed by the user.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            ResponseCode::InUse | ResponseCode::LoginDelay | ResponseCode::SysTemp
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_in_any_case_and_further_levels_ignored() {
        assert_eq!(ResponseCode::parse(b"in-use"), ResponseCode::InUse);
        assert_eq!(ResponseCode::parse(b"SYS/TEMP/DISK"), ResponseCode::SysTemp);
        assert_eq!(ResponseCode::parse(b"Auth/Expired"), ResponseCode::Auth);
    }

    #[test]
    fn an_unknown_code_is_kept_as_sent() {
        for code in [&b"SYS"[..], b"SYS/OTHER", b"AUTHX", b"", b"/"] {
            assert_eq!(ResponseCode::parse(code), ResponseCode::Other(code));
        }
    }

    #[test]
    fn every_code_is_read_as_it_is_written() {
        for code in ResponseCode::KNOWN {
            assert_eq!(ResponseCode::parse(code.as_bytes()), code);
        }
    }
}
