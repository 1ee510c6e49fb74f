use super::*;
use crate::BindingType;
use crate::scram::MIN_ITERATIONS;

fn nonce(text: &str) -> Nonce {
    Nonce::from_text(text).unwrap()
}

fn password(user: &str, password: &[u8]) -> Credentials {
    Credentials::Password {
        user: user.to_owned(),
        password: Secret::copied(password),
        authzid: None,
    }
}

fn client(mechanism: Mechanism, text: &str) -> Client {
    Client::new(mechanism, &password("user", b"pencil"), None, &nonce(text)).unwrap()
}

/// After `client-first-message` in the exchange of RFC 7677 section 3.
fn rfc_7677() -> Client {
    let mut client = client(Mechanism::ScramSha256, "rOprNGfwEbeRWgbNEkqO");
    let message = client.initial_response().unwrap();
    assert_eq!(message.as_bytes(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    client
}

const SERVER_FIRST_7677: &[u8] =
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

#[test]
fn the_exchange_of_rfc_7677_section_3() {
    let mut client = rfc_7677();
    let message = client.respond(SERVER_FIRST_7677).unwrap();
    assert_eq!(
        message.as_bytes().escape_ascii().to_string(),
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    let message = client
        .respond(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
        .unwrap();
    assert_eq!(message.as_bytes(), b"");
    assert_eq!(client.finish(), Ok(()));
}

#[test]
fn the_exchange_of_rfc_5802_section_5() {
    let mut client = client(Mechanism::ScramSha1, "fyko+d2lbbFgONRv9qkxdawL");
    // Asked for, instead of sent along.
    let message = client.respond(b"").unwrap();
    assert_eq!(message.as_bytes(), b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL");
    let message = client
        .respond(b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096")
        .unwrap();
    assert_eq!(
        message.as_bytes(),
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
    );
    client.respond(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=").unwrap();
    assert_eq!(client.finish(), Ok(()));
}

#[test]
fn a_server_that_does_not_prove_itself_is_not_believed() {
    let unproven = Err(ClientError::Unproven);
    assert_eq!(rfc_7677().finish(), unproven);

    let mut client = rfc_7677();
    client.respond(SERVER_FIRST_7677).unwrap();
    assert_eq!(client.finish(), unproven);

    let mut client = rfc_7677();
    client.respond(SERVER_FIRST_7677).unwrap();
    assert_eq!(
        client.respond(b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
        Err(ClientError::ServerSignature)
    );
    assert_eq!(client.respond(b""), Err(ClientError::UnexpectedChallenge));
    assert_eq!(client.finish(), unproven);
}

#[test]
fn the_servers_reason_to_refuse_is_kept() {
    let mut client = rfc_7677();
    client.respond(SERVER_FIRST_7677).unwrap();
    assert_eq!(
        client.respond(b"e=invalid-proof"),
        Err(ClientError::Refused("invalid-proof".to_owned()))
    );
}

#[test]
fn the_servers_nonce_must_extend_the_clients() {
    for nonce in ["rOprNGfwEbeRWgbNEkqO", "rOprNGfwEbeRWgbNEkq", "other"] {
        let message = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        assert_eq!(
            rfc_7677().respond(message.as_bytes()),
            Err(ClientError::Nonce)
        );
    }
}

#[test]
fn iterations_are_bounded_both_ways() {
    for iterations in [1, MIN_ITERATIONS - 1, MAX_ITERATIONS + 1, u32::MAX] {
        let message = format!("r=rOprNGfwEbeRWgbNEkqOx,s=QQ==,i={iterations}");
        assert_eq!(
            rfc_7677().respond(message.as_bytes()),
            Err(ClientError::Iterations(iterations))
        );
    }
    let mut client = rfc_7677();
    client.limit_iterations(5000);
    assert_eq!(
        client.respond(b"r=rOprNGfwEbeRWgbNEkqOx,s=QQ==,i=5001"),
        Err(ClientError::Iterations(5001))
    );
}

#[test]
fn a_mandatory_extension_fails() {
    assert_eq!(
        rfc_7677().respond(b"m=x,r=rOprNGfwEbeRWgbNEkqOx,s=QQ==,i=4096"),
        Err(ClientError::MandatoryExtension)
    );
}

#[test]
fn the_flag_tells_what_the_client_could_bind() {
    let binding = ChannelBinding::new(BindingType::TlsExporter, &[7; 32]).unwrap();
    let first = |mechanism, binding| {
        Client::new(
            mechanism,
            &password("user", b"pencil"),
            binding,
            &nonce("x"),
        )
        .map(|mut client| {
            let message = client.initial_response().unwrap();
            String::from_utf8(message.as_bytes().to_vec()).unwrap()
        })
    };
    let bound = first(Mechanism::ScramSha256Plus, Some(&binding)).unwrap();
    assert_eq!(bound, "p=tls-exporter,,n=user,r=x");
    let not_offered = first(Mechanism::ScramSha256, Some(&binding)).unwrap();
    assert_eq!(not_offered, "y,,n=user,r=x");
    let unsupported = first(Mechanism::ScramSha256, None).unwrap();
    assert_eq!(unsupported, "n,,n=user,r=x");
    assert_eq!(
        first(Mechanism::ScramSha256Plus, None),
        Err(ClientError::Unsuitable)
    );
}

#[test]
fn the_name_is_prepared_and_escaped() {
    let credentials = password("I\u{ad}X=,", b"pencil");
    let mut client = Client::new(Mechanism::ScramSha256, &credentials, None, &nonce("x")).unwrap();
    assert_eq!(
        client.initial_response().unwrap().as_bytes(),
        b"n,,n=IX=3D=2C,r=x"
    );
}

#[test]
fn the_example_of_rfc_2195() {
    let credentials = password("tim", b"tanstaaftanstaaf");
    let mut client = Client::new(Mechanism::CramMd5, &credentials, None, &nonce("x")).unwrap();
    assert_eq!(client.initial_response(), None);
    let answer = client
        .respond(b"<1896.697170952@postoffice.reston.mci.net>")
        .unwrap();
    assert_eq!(answer.as_bytes(), b"tim b913a602c7eda7a495b4e6e7334d3890");
    assert_eq!(client.finish(), Ok(()));
}

#[test]
fn login_answers_in_turn_whatever_it_is_asked() {
    let mut client = client(Mechanism::Login, "x");
    assert_eq!(client.initial_response(), None);
    assert_eq!(client.respond(b"User Name\0").unwrap().as_bytes(), b"user");
    assert_eq!(client.respond(b"").unwrap().as_bytes(), b"pencil");
    assert_eq!(
        client.respond(b"Again:"),
        Err(ClientError::UnexpectedChallenge)
    );
}

#[test]
fn plain_sends_one_message() {
    let mut client = client(Mechanism::Plain, "x");
    let message = client.initial_response().unwrap();
    assert_eq!(message.as_bytes(), b"\0user\0pencil");
    assert_eq!(client.initial_response(), None);
    assert_eq!(client.finish(), Ok(()));
}

#[test]
fn external_may_send_an_empty_message() {
    let credentials = Credentials::Certificate { authzid: None };
    let mut client = Client::new(Mechanism::External, &credentials, None, &nonce("x")).unwrap();
    assert_eq!(client.initial_response().unwrap().as_bytes(), b"");
    assert_eq!(client.finish(), Ok(()));
}

#[test]
fn a_refused_token_is_acknowledged_and_never_believed() {
    let credentials = Credentials::Token {
        user: "user".to_owned(),
        token: Secret::copied(b"t"),
        host: "localhost".to_owned(),
        port: 995,
    };
    for (mechanism, dummy) in [
        (Mechanism::OAuthBearer, &b"\x01"[..]),
        (Mechanism::XOAuth2, b""),
    ] {
        let mut client = Client::new(mechanism, &credentials, None, &nonce("x")).unwrap();
        client.initial_response().unwrap();
        let answer = client.respond(b"{\"status\":\"invalid_token\"}").unwrap();
        assert_eq!(answer.as_bytes(), dummy);
        assert_eq!(client.refusal(), Some("{\"status\":\"invalid_token\"}"));
        assert!(matches!(client.finish(), Err(ClientError::Refused(_))));
    }
}

#[test]
fn what_cannot_be_sent_is_refused() {
    for (user, word) in [
        ("", &b"pencil"[..]),
        ("user", b""),
        ("us\0er", b"pencil"),
        ("user", b"pen\0cil"),
    ] {
        for mechanism in [Mechanism::Plain, Mechanism::Login, Mechanism::ScramSha256] {
            let refused = Client::new(mechanism, &password(user, word), None, &nonce("x"));
            assert_eq!(refused.err(), Some(ClientError::Unsendable));
        }
    }
    let other = Credentials::Password {
        user: "user".to_owned(),
        password: Secret::copied(b"pencil"),
        authzid: Some("other".to_owned()),
    };
    for mechanism in [Mechanism::Login, Mechanism::CramMd5, Mechanism::External] {
        let refused = Client::new(mechanism, &other, None, &nonce("x"));
        assert_eq!(refused.err(), Some(ClientError::Unsuitable));
    }
}
