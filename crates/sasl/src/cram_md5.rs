//! CRAM-MD5 (RFC 2195), the client's answer. There is no server half: it would have to keep the password itself.

use std::fmt::Write;

use hmac::Hmac;
use md5::Md5;

use crate::Secret;
use crate::scram::mac;

/// Octets of a challenge, a message-id by RFC 2195; the names of hosts in it end at 255.
pub const MAX_CHALLENGE_OCTETS: usize = 512;

/// User name, space, keyed digest of the challenge.
pub fn answer(user: &str, password: &Secret, challenge: &[u8]) -> Vec<u8> {
    let digest = mac::<Hmac<Md5>>(password.as_bytes(), &[challenge]);
    let mut answer = format!("{user} ");
    for octet in digest.as_bytes() {
        // Writing into a string cannot fail.
        let _ = write!(answer, "{octet:02x}");
    }
    answer.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_2195() {
        let answer = answer(
            "tim",
            &Secret::copied(b"tanstaaftanstaaf"),
            b"<1896.697170952@postoffice.reston.mci.net>",
        );
        assert_eq!(answer, b"tim b913a602c7eda7a495b4e6e7334d3890");
    }

    /// RFC 2202 section 2, test case 6: a key longer than a block is hashed first.
    #[test]
    fn a_long_password_is_hashed_first() {
        let answer = answer(
            "tim",
            &Secret::copied(&[0xaa; 80]),
            b"Test Using Larger Than Block-Size Key - Hash Key First",
        );
        assert_eq!(answer, b"tim 6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd");
    }
}
