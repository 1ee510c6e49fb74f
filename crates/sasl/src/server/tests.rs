use super::*;
use crate::scram::{Hash, MIN_ITERATIONS, Nonce, Verifier};
use crate::{BindingType, TokenError};

const SHA_1: &str =
    "SCRAM-SHA-1$4096:QSXCR+Q6sek8bf92$6dlGYMOdZcOPutkcNY8U2g7vK9Y=:D+CSWLOshSulAsxiupA+qs2/fTE=";
const SHA_256: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

fn challenge(step: Step) -> Challenge {
    match step {
        Step::Challenge(challenge) => challenge,
        other => panic!("{other:?}"),
    }
}

fn failure(step: Step) -> Failure {
    match step {
        Step::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

fn user(step: Step) -> String {
    match step {
        Step::Authenticated(user) => user,
        other => panic!("{other:?}"),
    }
}

fn find(step: Step) -> FindVerifier {
    match step {
        Step::FindVerifier(find) => find,
        other => panic!("{other:?}"),
    }
}

fn binding() -> ChannelBinding {
    ChannelBinding::new(BindingType::TlsExporter, &[7; 32]).unwrap()
}

fn begin(mechanism: Mechanism, message: &[u8]) -> Step {
    start(mechanism, Some(message), &[])
}

#[test]
fn the_exchange_of_rfc_5802_section_5() {
    let step = begin(
        Mechanism::ScramSha1,
        b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
    );
    let found = find(step);
    assert_eq!((found.user(), found.hash()), ("user", Hash::Sha1));
    let nonce = Nonce::from_text("3rfcNHYJY1ZVvWVs7j").unwrap();
    let first = challenge(found.answer(Verifier::parse(SHA_1).unwrap(), &nonce));
    assert_eq!(
        first.octets().escape_ascii().to_string(),
        "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
    );
    let last = challenge(first.answer(
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    ));
    assert_eq!(last.octets(), b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=");
    assert_eq!(user(last.answer(b"")), "user");
}

/// Up to `server-first-message` in the exchange of RFC 7677 section 3.
fn rfc_7677() -> Challenge {
    let step = begin(Mechanism::ScramSha256, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let nonce = Nonce::from_text("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0").unwrap();
    challenge(find(step).answer(Verifier::parse(SHA_256).unwrap(), &nonce))
}

const CLIENT_FINAL_7677: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

#[test]
fn the_exchange_of_rfc_7677_section_3() {
    assert_eq!(
        rfc_7677().octets(),
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let last = challenge(rfc_7677().answer(CLIENT_FINAL_7677));
    assert_eq!(
        last.octets(),
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    );
    assert_eq!(user(last.answer(b"")), "user");
}

#[test]
fn every_changed_octet_of_the_clients_last_message_fails() {
    for at in 0..CLIENT_FINAL_7677.len() {
        for octet in 0..=u8::MAX {
            let mut message = CLIENT_FINAL_7677.to_vec();
            if message[at] == octet {
                continue;
            }
            message[at] = octet;
            failure(rfc_7677().answer(&message));
        }
        failure(rfc_7677().answer(&CLIENT_FINAL_7677[..at]));
    }
}

#[test]
fn the_client_must_let_the_servers_last_message_stand() {
    let last = challenge(rfc_7677().answer(CLIENT_FINAL_7677));
    assert_eq!(failure(last.answer(b"x")), Failure::Malformed);
}

#[test]
fn a_replayed_message_meets_another_nonce() {
    let step = begin(Mechanism::ScramSha256, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let nonce = Nonce::from_text("another").unwrap();
    let first = challenge(find(step).answer(Verifier::parse(SHA_256).unwrap(), &nonce));
    assert_eq!(failure(first.answer(CLIENT_FINAL_7677)), Failure::Nonce);
}

#[test]
fn a_verifier_of_another_hash_is_not_used() {
    let step = begin(Mechanism::ScramSha256, b"n,,n=user,r=x");
    let nonce = Nonce::from_text("y").unwrap();
    let step = find(step).answer(Verifier::parse(SHA_1).unwrap(), &nonce);
    assert_eq!(failure(step), Failure::VerifierHash);
}

#[test]
fn the_channel_binding_flag_must_fit_mechanism_and_offer() {
    let plain = Mechanism::ScramSha256;
    let plus = Mechanism::ScramSha256Plus;
    let bindings = [binding()];
    let flag = |mechanism, flag: &str, bindings: &[ChannelBinding]| {
        let message = format!("{flag},,n=user,r=x");
        match start(mechanism, Some(message.as_bytes()), bindings) {
            Step::FindVerifier(_) => None,
            other => Some(failure(other)),
        }
    };
    assert_eq!(flag(plain, "n", &[]), None);
    assert_eq!(flag(plain, "y", &[]), None);
    assert_eq!(flag(plain, "n", &bindings), None);
    assert_eq!(flag(plain, "y", &bindings), Some(Failure::Downgrade));
    assert_eq!(
        flag(plain, "p=tls-exporter", &bindings),
        Some(Failure::BindingFlag)
    );
    assert_eq!(flag(plus, "p=tls-exporter", &bindings), None);
    assert_eq!(flag(plus, "n", &bindings), Some(Failure::BindingFlag));
    assert_eq!(flag(plus, "y", &bindings), Some(Failure::BindingFlag));
    for unsupported in ["p=tls-unique", "p=tls-server-end-point", "p=TLS-EXPORTER"] {
        assert_eq!(
            flag(plus, unsupported, &bindings),
            Some(Failure::BindingType)
        );
    }
    assert_eq!(
        flag(plus, "p=tls-exporter", &[]),
        Some(Failure::BindingType)
    );
}

#[test]
fn mandatory_extensions_fail() {
    assert_eq!(
        failure(begin(Mechanism::ScramSha256, b"n,,m=1,n=user,r=x")),
        Failure::MandatoryExtension
    );
}

#[test]
fn nobody_acts_as_another_user() {
    for message in ["n,a=user,n=user,r=x", "n,a=us\u{ad}er,n=user,r=x"] {
        let found = find(begin(Mechanism::ScramSha256, message.as_bytes()));
        assert_eq!(found.user(), "user");
    }
    assert_eq!(
        failure(begin(Mechanism::ScramSha256, b"n,a=root,n=user,r=x")),
        Failure::AuthzidDiffers
    );
    assert_eq!(
        failure(begin(Mechanism::Plain, b"Ursel\0Kurt\0xipj3plmq")),
        Failure::AuthzidDiffers
    );
}

#[test]
fn plain_asks_for_the_password_to_be_checked() {
    for message in [
        &b"\0tim\0tanstaaftanstaaf"[..],
        b"tim\0tim\0tanstaaftanstaaf",
    ] {
        let Step::CheckPassword(check) = begin(Mechanism::Plain, message) else {
            panic!("no password to check");
        };
        assert_eq!(check.user(), "tim");
        assert!(check.password().is(b"tanstaaftanstaaf"));
        assert_eq!(user(check.accept()), "tim");
    }
    let Step::CheckPassword(check) = begin(Mechanism::Plain, b"\0tim\0\xe4") else {
        panic!("a Latin-1 password is one");
    };
    assert_eq!(failure(check.refuse()), Failure::WrongPassword);
}

#[test]
fn a_client_that_has_not_spoken_gets_an_empty_challenge() {
    for mechanism in Mechanism::ALL {
        let step = start(mechanism, None, &[]);
        match mechanism {
            Mechanism::CramMd5 => assert_eq!(failure(step), Failure::NoServerHalf),
            Mechanism::Login => assert_eq!(challenge(step).octets(), b"Username:"),
            _ => assert_eq!(challenge(step).octets(), b""),
        }
    }
    let step = challenge(start(Mechanism::Plain, None, &[])).answer(b"\0tim\0pass");
    assert!(matches!(step, Step::CheckPassword(_)));
}

#[test]
fn login_takes_the_name_at_once_or_when_asked() {
    let asked = challenge(start(Mechanism::Login, None, &[])).answer(b"tim");
    let at_once = begin(Mechanism::Login, b"tim");
    for step in [asked, at_once] {
        let second = challenge(step);
        assert_eq!(second.octets(), b"Password:");
        let Step::CheckPassword(check) = second.answer(b"pass word") else {
            panic!("no password to check");
        };
        assert_eq!(check.user(), "tim");
        assert!(check.password().is(b"pass word"));
    }
    assert_eq!(failure(begin(Mechanism::Login, b"")), Failure::UserName);
    let second = challenge(begin(Mechanism::Login, b"tim"));
    assert_eq!(failure(second.answer(b"")), Failure::Malformed);
}

#[test]
fn a_refused_token_is_explained_then_fails() {
    for (mechanism, message) in [
        (
            Mechanism::OAuthBearer,
            &b"n,a=user@example.com,\x01auth=Bearer t\x01\x01"[..],
        ),
        (
            Mechanism::XOAuth2,
            b"user=user@example.com\x01auth=Bearer t\x01\x01",
        ),
    ] {
        let check = |step| match step {
            Step::CheckToken(check) => check,
            other => panic!("{other:?}"),
        };
        let token = check(begin(mechanism, message));
        assert_eq!(token.user(), Some("user@example.com"));
        assert!(token.token().is(b"t"));
        assert_eq!(user(token.accept("user@example.com")), "user@example.com");

        let token = check(begin(mechanism, message));
        let explained = challenge(token.refuse(&TokenError::invalid_token()));
        assert_eq!(
            explained.octets(),
            b"{\"status\":\"invalid_token\",\"schemes\":\"bearer\"}"
        );
        assert_eq!(failure(explained.answer(b"\x01")), Failure::TokenRefused);

        let token = check(begin(mechanism, message));
        let explained = challenge(token.accept("other@example.com"));
        assert_eq!(failure(explained.answer(b"")), Failure::AuthzidDiffers);
    }
}

#[test]
fn an_empty_token_is_refused_even_if_the_caller_accepts() {
    let Step::CheckToken(check) = begin(Mechanism::OAuthBearer, b"n,,\x01auth=\x01\x01") else {
        panic!("no token to check");
    };
    let explained = challenge(check.accept("user"));
    assert_eq!(failure(explained.answer(b"\x01")), Failure::TokenRefused);
}

#[test]
fn a_certificate_names_the_user() {
    let check = |message: &[u8]| match begin(Mechanism::External, message) {
        Step::CheckCertificate(check) => check,
        other => panic!("{other:?}"),
    };
    assert_eq!(check(b"").user(), None);
    assert_eq!(user(check(b"").accept("user")), "user");
    assert_eq!(user(check(b"user").accept("user")), "user");
    assert_eq!(
        failure(check(b"root").accept("user")),
        Failure::AuthzidDiffers
    );
    assert_eq!(failure(check(b"").refuse()), Failure::CertificateRefused);
    assert_eq!(
        failure(begin(Mechanism::External, b"a\0b")),
        Failure::UserName
    );
}

#[test]
fn every_message_is_bounded() {
    for mechanism in Mechanism::ALL {
        if mechanism == Mechanism::CramMd5 {
            continue;
        }
        let long = vec![b'a'; mechanism.max_response_octets() + 1];
        assert_eq!(failure(begin(mechanism, &long)), Failure::TooLong);
    }
    let long = vec![b'a'; MAX_PASSWORD_OCTETS + 1];
    let second = challenge(begin(Mechanism::Login, b"tim"));
    assert_eq!(failure(second.answer(&long)), Failure::TooLong);
    let long = vec![b'a'; Mechanism::ScramSha256.max_response_octets() + 1];
    assert_eq!(failure(rfc_7677().answer(&long)), Failure::TooLong);
}

#[test]
fn the_longest_names_and_nonces_fit_the_bounds() {
    let name = ",".repeat(crate::MAX_NAME_OCTETS);
    let escaped = name.replace(',', "=2C");
    let nonce = "n".repeat(crate::scram::MAX_NONCE_OCTETS);
    let message = format!("p=tls-exporter,a={escaped},n={escaped},r={nonce}");
    let step = start(
        Mechanism::ScramSha256Plus,
        Some(message.as_bytes()),
        &[binding()],
    );
    let found = find(step);
    assert_eq!(found.user(), name);
    let verifier = Verifier::derive(Hash::Sha256, b"pencil", b"salt", MIN_ITERATIONS).unwrap();
    let first = challenge(found.answer(verifier, &Nonce::from_text(&nonce).unwrap()));
    let header = [
        format!("p=tls-exporter,a={escaped},").as_bytes(),
        binding().octets(),
    ]
    .concat();
    let message = format!(
        "c={},r={nonce}{nonce},p={}",
        *crate::base64::encode(&header),
        *crate::base64::encode(&[0; 32])
    );
    assert_eq!(
        failure(first.answer(message.as_bytes())),
        Failure::WrongPassword
    );
}

#[test]
fn only_credentials_concern_credentials() {
    assert!(Failure::WrongPassword.concerns_credentials());
    assert!(!Failure::Downgrade.concerns_credentials());
    assert!(!Failure::Malformed.concerns_credentials());
}
