//! The file of app passwords.

use app_passwords::fuzz;

use super::{Target, literal};

/// A line that is read is written and read as the same.
pub const LINE: Target = Target {
    name: "app-passwords",
    run: fuzz::line,
    pieces,
    max_octets: 1024,
};

fn pieces() -> Vec<Vec<u8>> {
    literal(&[
        b"joe:phone:",
        b"sha256$AAECAwQFBgcICQoLDA0ODw==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        b":",
        b"read-only",
        b"no-delete",
        b"2027-01-31",
        b"2028-02-29",
        b"192.0.2.0/24",
        b"2001:db8::/32",
        b"::ffff:192.0.2.1",
        b",",
        b"#",
        b" ",
        "\u{e9}".as_bytes(),
    ])
}
