//! The fuzzer's functions, run on random input: some of it has the form of messages, else little would get past the first check.

use proptest::collection::vec;
use proptest::prelude::*;
use sasl::fuzz;

/// Octets as they come, and pieces that messages are made of.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
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
    ];
    let piece = prop_oneof![
        6 => proptest::sample::select(pieces).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..8),
    ];
    (any::<u8>(), vec(piece, 0..16)).prop_map(|(choice, pieces)| {
        let mut input = vec![choice];
        input.extend(pieces.concat());
        input
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn nothing_makes_the_server_half_panic_or_authenticate(input in input()) {
        fuzz::server(&input);
    }

    #[test]
    fn nothing_makes_the_client_half_panic_or_believe(input in input()) {
        fuzz::client(&input);
    }

    #[test]
    fn nothing_makes_the_readers_panic(input in input()) {
        fuzz::base64(&input);
        fuzz::base64(&input[1..]);
        fuzz::verifier(&input[1..]);
        fuzz::name(&input[1..]);
    }
}
