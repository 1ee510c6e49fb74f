//! The PROXY header, which the listener reads ahead of a client's octets.

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use role_listener::proxy_header::{Addresses, Malformed, parse};

use super::{Target, literal};

/// A header is found whole or not at all, wherever the octets are cut; more is never waited for than is looked at; and
/// another implementation reads the same addresses.
pub const HEADER: Target = Target {
    name: "proxy-header",
    run: header,
    pieces,
    max_octets: 4096,
};

/// The most that the listener looks at.
const MAX_LOOKED_AT: usize = 2048;

fn header(data: &[u8]) {
    let Some((_, data)) = data.split_first() else {
        return;
    };
    match parse(data) {
        Ok(None) => assert!(data.len() < MAX_LOOKED_AT),
        Err(Malformed) => assert_eq!(parse(&[data, b"\r\n"].concat()), Err(Malformed)),
        Ok(Some(found)) => {
            let (header, _) = data.split_at(found.octets);
            for cut in 0..header.len() {
                assert_eq!(parse(&header[..cut]), Ok(None));
            }
            assert_eq!(parse(header), Ok(Some(found)));
            // That one refuses a LOCAL header whose addresses are cut short.
            if let Ok((theirs, octets)) = ProxyHeader::parse(header, ParseConfig::default()) {
                let stream = theirs
                    .proxied_address()
                    .filter(|address| address.protocol == Protocol::Stream);
                let canonical = |mut address: std::net::SocketAddr| {
                    address.set_ip(address.ip().to_canonical());
                    address
                };
                let theirs = stream.map(|address| Addresses {
                    source: canonical(address.source),
                    destination: canonical(address.destination),
                });
                assert_eq!((found.octets, found.addresses), (octets, theirs));
            }
        }
    }
}

fn pieces() -> Vec<Vec<u8>> {
    let mut pieces = literal(&[
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 110\r\n",
        b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.2 1 65535\r\n",
        b"PROXY UNKNOWN\r\n",
        b"PROXY ",
        b"TCP4 ",
        b"TCP6 ",
        b"UNKNOWN",
        b"192.0.2.1 ",
        b"2001:db8::1 ",
        b"65535",
        b" ",
        b"\r\n",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\xdc\x04\0\x6e",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x2b",
        b"\x21\x11\0\x0c",
        b"\x21\x21\0\x24",
        b"\x20\0\0\x03",
        b"\x04\0\x02",
        b"QUIT\r\n",
    ]);
    pieces.push(vec![1; 36]);
    pieces
}
