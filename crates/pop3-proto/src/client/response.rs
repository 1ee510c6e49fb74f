//! The first line of a reply.

use crate::ResponseCode;

/// How the server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// `+OK`.
    Ok,
    /// `-ERR`.
    Err,
}

/// The first line of a reply (RFC 1939 section 3, RFC 2449 section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// What counts.
    pub status: Status,
    /// The reason, for the program.
    pub code: Option<ResponseCode<'a>>,
    /// The rest, for the user; as sent, so escape it before showing it.
    pub text: &'a [u8],
}

impl<'a> Response<'a> {
    /// Parses a line without its end. The status may be in any case and nothing may follow it, as some servers have it.
    ///
    /// `None` if the line is no reply at all.
    pub fn parse(line: &'a [u8]) -> Option<Response<'a>> {
        let (status, rest) = [(&b"+OK"[..], Status::Ok), (b"-ERR", Status::Err)]
            .into_iter()
            .find_map(|(name, status)| {
                let (start, rest) = line.split_at_checked(name.len())?;
                start.eq_ignore_ascii_case(name).then_some((status, rest))
            })?;
        // "+OKAY" is none.
        if rest.first().is_some_and(u8::is_ascii_alphanumeric) {
            return None;
        }
        let text = rest.strip_prefix(b" ").unwrap_or(rest);
        let (code, text) = match split_code(text) {
            Some((code, text)) => (Some(ResponseCode::parse(code)), text),
            None => (None, text),
        };
        Some(Response { status, code, text })
    }

    /// `+OK`.
    pub fn is_ok(&self) -> bool {
        self.status == Status::Ok
    }
}

/// `[CODE] text`, if that is what it is.
fn split_code(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let code = text.strip_prefix(b"[")?;
    let (code, rest) = code.split_at(memchr::memchr(b']', code)?);
    if code.is_empty() || !code.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let text = rest.get(1..)?;
    Some((code, text.strip_prefix(b" ").unwrap_or(text)))
}

/// The challenge of a continuation line, in base64: `+ challenge` (RFC 5034 section 5), or `+` alone as some servers send an
/// empty one.
pub(super) fn parse_challenge(line: &[u8]) -> Option<&[u8]> {
    match line {
        b"+" => Some(b""),
        _ => line.strip_prefix(b"+ "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply;
    use proptest::prelude::*;

    fn response(line: &[u8]) -> (Status, Option<ResponseCode<'_>>, &[u8]) {
        let Response { status, code, text } = Response::parse(line).unwrap();
        (status, code, text)
    }

    #[test]
    fn status_code_and_text_are_told_apart() {
        assert_eq!(response(b"+OK 2 320"), (Status::Ok, None, &b"2 320"[..]));
        assert_eq!(
            response(b"-ERR [IN-USE] Do you have another POP session running?"),
            (
                Status::Err,
                Some(ResponseCode::InUse),
                &b"Do you have another POP session running?"[..]
            )
        );
        assert_eq!(
            response(b"-ERR [X/Y]"),
            (Status::Err, Some(ResponseCode::Other(b"X/Y")), &b""[..])
        );
    }

    #[test]
    fn harmless_oddities_of_servers_are_let_pass() {
        assert_eq!(response(b"+OK"), (Status::Ok, None, &b""[..]));
        assert_eq!(response(b"+ok hi"), (Status::Ok, None, &b"hi"[..]));
        assert_eq!(response(b"-err\tno"), (Status::Err, None, &b"\tno"[..]));
        assert_eq!(
            response(b"+OK [not closed"),
            (Status::Ok, None, &b"[not closed"[..])
        );
        assert_eq!(response(b"+OK [] x"), (Status::Ok, None, &b"[] x"[..]));
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for line in [
            &b""[..],
            b"+",
            b"+O",
            b"OK",
            b"+OKAY",
            b"+ERR x",
            b"* BYE",
            b"220 smtp",
            b" +OK",
            b"-ERROR",
        ] {
            assert_eq!(Response::parse(line), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_challenge_may_be_empty() {
        assert_eq!(parse_challenge(b"+ AAAA"), Some(&b"AAAA"[..]));
        assert_eq!(parse_challenge(b"+ "), Some(&b""[..]));
        assert_eq!(parse_challenge(b"+"), Some(&b""[..]));
        assert_eq!(parse_challenge(b"+OK"), None);
    }

    proptest! {
        #[test]
        fn what_a_server_writes_a_client_reads(text in "[a-zA-Z0-9 ]{0,100}") {
            let mut out = Vec::new();
            reply::err(&mut out, Some(ResponseCode::SysPerm), &text);
            let line = out.strip_suffix(b"\r\n").unwrap();
            prop_assert_eq!(response(line), (Status::Err, Some(ResponseCode::SysPerm), text.as_bytes()));
        }

        #[test]
        fn any_line_is_parsed_or_refused(line in prop::collection::vec(any::<u8>(), 0..100)) {
            let text_octets = Response::parse(&line).map_or(0, |response| response.text.len());
            prop_assert!(text_octets <= line.len());
        }
    }
}
