//! SASL exchanges, either half against anything the other might say.

use sasl::fuzz;

use super::{Target, literal};

const MAX_OCTETS: usize = 4096;

/// `fuzz::server`: nobody is authenticated without a check.
pub const SERVER: Target = Target {
    name: "sasl-server",
    run: fuzz::server,
    pieces,
    max_octets: MAX_OCTETS,
};

/// `fuzz::client`: no server is believed that does not know the password.
pub const CLIENT: Target = Target {
    name: "sasl-client",
    run: fuzz::client,
    pieces,
    max_octets: MAX_OCTETS,
};

/// base64, verifiers and names.
pub const READERS: Target = Target {
    name: "sasl-readers",
    run: readers,
    pieces,
    max_octets: MAX_OCTETS,
};

fn readers(data: &[u8]) {
    let Some((_, data)) = data.split_first() else {
        return;
    };
    fuzz::base64(data);
    fuzz::verifier(data);
    fuzz::name(data);
}

fn pieces() -> Vec<Vec<u8>> {
    literal(&[
        b"n,,",
        b"y,,",
        b"p=tls-exporter,,",
        b"a=user,",
        b"n=user",
        b"n=us=2Cer",
        b",r=BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH",
        b",r=x",
        b"r=BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHx",
        b",s=QQ==",
        b",i=4096",
        b",m=1",
        b",z=1",
        b"c=biws",
        b",p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        b"v=AAAA",
        b"e=other-error",
        b"\0user\0pencil",
        b"user",
        b"\x01auth=Bearer token\x01\x01",
        b"\x01host=a\x01port=1",
        b"SCRAM-SHA-256$4096:QQ==$",
        b"{SCRAM-SHA-1}4096,QQ==,",
        b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        b"=",
        b",",
        b":",
        "\u{ad}\u{2168}\u{5d0}".as_bytes(),
        &[fuzz::SEPARATOR],
    ])
}
