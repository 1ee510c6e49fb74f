//! The header that a proxy sends ahead of its client's octets (PROXY protocol, versions 1 and 2).
//!
//! Parsed by the listener, from networks that the configuration trusts and from nowhere else. Stricter than most writers of it need: one space
//! between the fields of version 1, ports in decimal digits. Of version 2's further fields (TLVs) nothing is read.
//!
//! Specification: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use confine::socket;

/// The longest header of version 1, line end included (section 2.1).
const MAX_V1: usize = 107;

/// The longest header of version 2 that is read: addresses of 216 octets (section 2.2), and TLVs such as names, an
/// identifier and what TLS agreed on. A client's certificate, which some proxies can add, is not for us.
const MAX_V2: usize = 2048;

/// As much has to be looked at to find the end of a header, or that there is none.
const MAX_HEADER: usize = MAX_V2;

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const V2_FIXED: usize = 16;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its length; what lies behind belongs to the client.
    pub octets: usize,
    /// Both ends of the client's connection; `None` where the proxy speaks for itself (`LOCAL`, a health check) or the
    /// connection has no such addresses (`UNKNOWN`).
    pub addresses: Option<Addresses>,
}

/// Both ends of the connection between client and proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// What it connected to.
    pub destination: SocketAddr,
}

/// No header begins with these octets, whatever follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Takes the header off a non-blocking connection, and not one octet of what follows; `Ok(None)`: it is not whole yet.
///
/// # Errors
/// There is no header, or the other end has gone.
pub fn take(connection: impl AsFd) -> io::Result<Option<Header>> {
    let mut octets = [0; MAX_HEADER];
    let seen = match socket::peek(connection.as_fd(), &mut octets) {
        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
        Ok(seen) => octets.get(..seen).unwrap_or_default(),
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error),
    };
    let header = parse(seen).map_err(|Malformed| ErrorKind::InvalidData)?;
    if let Some(Header { octets: length, .. }) = header {
        // All there: they have been seen, and nobody else reads.
        let place = octets.get_mut(..length).unwrap_or_default();
        if rustix::io::read(connection, place)? != length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(header)
}

/// Reads the header at the beginning of `octets`; `Ok(None)`: it may be one, and is not whole yet.
///
/// # Errors
/// [`Malformed`], as soon as that is certain.
pub fn parse(octets: &[u8]) -> Result<Option<Header>, Malformed> {
    if begins(octets, V1) {
        parse_v1(octets)
    } else if begins(octets, V2) {
        parse_v2(octets)
    } else {
        Err(Malformed)
    }
}

/// `octets` begin with `signature`, as far as they go.
fn begins(octets: &[u8], signature: &[u8]) -> bool {
    octets.starts_with(signature) || signature.starts_with(octets)
}

fn parse_v1(octets: &[u8]) -> Result<Option<Header>, Malformed> {
    let within = octets.get(..MAX_V1).unwrap_or(octets);
    let Some(end) = within.iter().position(|&octet| octet == b'\n') else {
        return match within.len() {
            MAX_V1 => Err(Malformed),
            _ => Ok(None),
        };
    };
    let line = within
        .get(..end)
        .and_then(|line| line.strip_suffix(b"\r"))
        .and_then(|line| line.strip_prefix(V1))
        .and_then(|line| std::str::from_utf8(line).ok())
        .ok_or(Malformed)?;
    let mut fields = line.split(' ');
    let addresses = match fields.next() {
        Some("TCP4") => Some(addresses_v1::<Ipv4Addr>(fields)?),
        Some("TCP6") => Some(addresses_v1::<Ipv6Addr>(fields)?),
        // Whatever follows is to be ignored.
        Some("UNKNOWN") => None,
        _ => return Err(Malformed),
    };
    Ok(Some(Header {
        octets: end.saturating_add(1),
        addresses,
    }))
}

fn addresses_v1<'a, A>(mut fields: impl Iterator<Item = &'a str>) -> Result<Addresses, Malformed>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let mut next = || fields.next().ok_or(Malformed);
    let address = |text: &str| text.parse::<A>().map(Into::into).map_err(|_| Malformed);
    let port = |text: &str| {
        let digits = text.bytes().all(|octet| octet.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits).ok_or(Malformed)
    };
    let (source, destination) = (address(next()?)?, address(next()?)?);
    let (source_port, destination_port) = (port(next()?)?, port(next()?)?);
    match fields.next() {
        None => Ok(Addresses {
            source: canonical(source, source_port),
            destination: canonical(destination, destination_port),
        }),
        Some(_) => Err(Malformed),
    }
}

fn parse_v2(octets: &[u8]) -> Result<Option<Header>, Malformed> {
    let local = match octets.get(V2.len()) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(Malformed),
    };
    let Some(&[_, family, high, low]) = octets.get(V2.len()..V2_FIXED) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let whole = V2_FIXED.saturating_add(length);
    if whole > MAX_V2 {
        return Err(Malformed);
    }
    let Some(block) = octets.get(V2_FIXED..whole) else {
        return Ok(None);
    };
    let addresses = match family {
        // The family of a LOCAL header says nothing.
        _ if local => None,
        0x11 => Some(addresses_v2::<4>(block)?),
        0x21 => Some(addresses_v2::<16>(block)?),
        // Unspecified; datagrams and Unix sockets, which are no clients of ours: as UNKNOWN.
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => None,
        _ => return Err(Malformed),
    };
    Ok(Some(Header {
        octets: whole,
        addresses,
    }))
}

/// Two addresses of `N` octets each, then two ports.
fn addresses_v2<const N: usize>(block: &[u8]) -> Result<Addresses, Malformed>
where
    [u8; N]: Into<IpAddr>,
{
    let cut = || {
        let (source, rest) = block.split_first_chunk::<N>()?;
        let (destination, rest) = rest.split_first_chunk::<N>()?;
        let (source_port, rest) = rest.split_first_chunk::<2>()?;
        let (destination_port, _) = rest.split_first_chunk::<2>()?;
        Some(Addresses {
            source: canonical((*source).into(), u16::from_be_bytes(*source_port)),
            destination: canonical((*destination).into(), u16::from_be_bytes(*destination_port)),
        })
    };
    cut().ok_or(Malformed)
}

/// IPv4-mapped addresses are IPv4, as those of our own sockets.
fn canonical(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_header::{ProxiedAddress, ProxyHeader, Tlv};

    fn addresses(source: &str, destination: &str) -> Addresses {
        Addresses {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [V2, &[command, family], &length, block].concat()
    }

    /// What another implementation writes, of both versions, without and with TLVs.
    fn written(addresses: Option<Addresses>, tlv: Option<Tlv<'_>>) -> Vec<Vec<u8>> {
        let mut header = match addresses {
            Some(Addresses {
                source,
                destination,
            }) => ProxyHeader::with_address(ProxiedAddress::stream(source, destination)),
            None => ProxyHeader::with_local(),
        };
        let mut buffer = [0; 4096];
        let mut all = Vec::new();
        if let Some(tlv) = tlv {
            header.append_tlv(tlv);
        } else {
            let octets = header.encode_to_slice_v1(&mut buffer).unwrap();
            all.push(buffer[..octets].to_vec());
        }
        let octets = header.encode_to_slice_v2(&mut buffer).unwrap();
        all.push(buffer[..octets].to_vec());
        all
    }

    #[test]
    fn what_another_implementation_writes_is_read_wherever_it_is_cut() {
        let cases = [
            Some(addresses("192.0.2.1:56324", "198.51.100.7:110")),
            Some(addresses("[2001:db8::1]:1", "[2001:db8:0:1::2]:65535")),
            None,
        ];
        for addresses in cases {
            let mut headers = written(addresses, None);
            headers.extend(written(
                addresses,
                Some(Tlv::Authority("pop.example".into())),
            ));
            headers.extend(written(addresses, Some(Tlv::UniqueId(vec![7; 128].into()))));
            for header in headers {
                let whole = Header {
                    octets: header.len(),
                    addresses,
                };
                let shown = header.escape_ascii().to_string();
                for cut in 0..header.len() {
                    assert_eq!(parse(&header[..cut]), Ok(None), "{shown} at {cut}");
                }
                for behind in [&b""[..], b"QUIT\r\n", &header, &[0x16, 3, 1]] {
                    let octets = [&header, behind].concat();
                    assert_eq!(parse(&octets), Ok(Some(whole)), "{shown}");
                }
            }
        }
    }

    #[test]
    fn not_one_octet_behind_the_header_is_taken() {
        use std::io::{Read, Write};
        use std::os::unix::net::UnixStream;
        for header in written(Some(addresses("192.0.2.1:5", "192.0.2.2:110")), None) {
            for behind in [&b""[..], b"Q", b"QUIT\r\n"] {
                let (ours, mut proxy) = UnixStream::pair().unwrap();
                ours.set_nonblocking(true).unwrap();
                for octet in &header {
                    assert_eq!(take(&ours).unwrap(), None);
                    proxy.write_all(&[*octet]).unwrap();
                }
                proxy.write_all(behind).unwrap();
                assert_eq!(take(&ours).unwrap().unwrap().octets, header.len());
                drop(proxy);
                let mut rest = Vec::new();
                (&ours).read_to_end(&mut rest).unwrap();
                assert_eq!(rest, behind);
            }
        }
    }

    #[test]
    fn a_proxy_that_goes_away_or_sends_something_else_is_an_error() {
        use std::io::Write;
        use std::os::unix::net::UnixStream;
        for sent in [&b""[..], b"QUIT\r\n"] {
            let (ours, mut proxy) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            proxy.write_all(sent).unwrap();
            drop(proxy);
            assert!(take(&ours).is_err());
        }
    }

    #[test]
    fn headers_of_the_specification_are_read() {
        let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        let all_ones = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        for (line, expected) in [
            (longest, Some(addresses(all_ones, all_ones))),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
            (
                "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n",
                Some(addresses("192.0.2.1:1", "192.0.2.2:2")),
            ),
        ] {
            let header = Header {
                octets: line.len(),
                addresses: expected,
            };
            assert_eq!(parse(line.as_bytes()), Ok(Some(header)), "{line}");
        }
        assert!(longest.len() <= MAX_V1);
    }

    #[test]
    fn a_proxy_that_speaks_for_itself_or_for_no_internet_address_names_nobody() {
        for header in [
            v2(0x20, 0x00, b""),
            // The family of LOCAL is ignored, and so is what it would need.
            v2(0x20, 0x11, b""),
            v2(0x20, 0xff, b"xyz"),
            v2(0x21, 0x00, b""),
            v2(0x21, 0x12, &[1; 12]),
            v2(0x21, 0x31, &[b'/'; 216]),
        ] {
            let expected = Header {
                octets: header.len(),
                addresses: None,
            };
            assert_eq!(
                parse(&header),
                Ok(Some(expected)),
                "{}",
                header.escape_ascii()
            );
        }
    }

    #[test]
    fn what_cannot_become_a_header_is_malformed() {
        let mut hostile = vec![
            b"QUIT\r\n".to_vec(),
            b"\x16\x03\x01".to_vec(),
            b"proxy TCP4 ".to_vec(),
            b"\r\n\r\nQUIT".to_vec(),
            b"PROXY\r\n".to_vec(),
            vec![b'P'; 2],
            [V2, &[0x11]].concat(),
            [V2, &[0x22]].concat(),
            v2(0x21, 0x13, &[0; 12]),
            v2(0x21, 0x41, &[0; 36]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 35]),
            // Longer than what is read, though it may be a header.
            [V2, &[0x21, 0x11, 0x10, 0x00]].concat(),
            [V1, &[b'x'; MAX_V1]].concat(),
        ];
        for line in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
            "PROXY TCP4 ::1 ::2 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP6 fe80::1%lo ::2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4\r\n",
            "PROXY UNKNOWNX\r\n",
            "PROXY \r\n",
            "PROXY TCP4 192.0.2.1\0 192.0.2.2 1 2\r\n",
        ] {
            hostile.push(line.as_bytes().to_vec());
        }
        for octets in hostile {
            assert_eq!(parse(&octets), Err(Malformed), "{}", octets.escape_ascii());
        }
    }

    #[test]
    fn more_octets_are_never_waited_for_than_are_looked_at() {
        for begin in [V1, V2, &v2(0x21, 0x11, &[0; 11])[..V2_FIXED - 2]] {
            for fill in [0, 1, 7, b'x', b' '] {
                let mut octets = begin.to_vec();
                octets.resize(MAX_HEADER, fill);
                assert_ne!(parse(&octets), Ok(None));
            }
        }
    }
}
