//! What is left of a password in the process's memory once an exchange is over: nothing.
//!
//! A program of its own with one test, so that nothing else holds the password.

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;

use common::{USER, nonce};
use sasl::client::{Client, Credentials};
use sasl::scram::{Hash, Verifier};
use sasl::server::{self, Step};
use sasl::{Mechanism, Secret, base64};
use zeroize::{Zeroize, Zeroizing};

/// The password is never written here, or the program's own text would hold it.
const MASK: u8 = 0x55;
const MASKED: &[u8] = b"no such password, only its mask";

fn password() -> Secret {
    Secret::new(MASKED.iter().map(|octet| octet ^ MASK).collect())
}

/// How often the password is found in memory that can be written.
fn occurrences() -> usize {
    const CHUNK: usize = 1 << 20;
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = BufReader::new(File::open("/proc/self/maps").unwrap());
    let mut chunk = Zeroizing::new(vec![0; CHUNK]);
    let own = chunk.as_ptr().addr()..chunk.as_ptr().addr() + CHUNK;
    let mut found = 0;
    for line in maps.lines().map(Result::unwrap) {
        let mut fields = line.split(' ');
        let (from, to) = fields.next().unwrap().split_once('-').unwrap();
        if !fields.next().unwrap().starts_with("rw") {
            continue;
        }
        let address = |text| usize::from_str_radix(text, 16).unwrap();
        let (mut from, to) = (address(from), address(to));
        while from < to {
            let length = CHUNK.min(to - from);
            // Some special mappings cannot be read; they hold nothing of ours.
            let Ok(read) = memory.read_at(&mut chunk[..length], from as u64) else {
                break;
            };
            found += chunk[..read]
                .windows(MASKED.len())
                .enumerate()
                .filter(|(at, _)| !own.contains(&(from + at)))
                .filter(|(_, octets)| octets.iter().zip(MASKED).all(|(a, b)| a ^ MASK == *b))
                .count();
            if read < length || from + length == to {
                break;
            }
            // What lies across the edge is seen whole in the next chunk.
            from += length - MASKED.len();
        }
        // Not the vector's own `zeroize`, which would empty it.
        chunk.as_mut_slice().zeroize();
    }
    found
}

fn log_in(mechanism: Mechanism, verifier: &Verifier) -> bool {
    let credentials = Credentials::Password {
        user: USER.to_owned(),
        password: password(),
        authzid: None,
    };
    let mut client = Client::new(mechanism, &credentials, None, &nonce(1)).unwrap();
    drop(credentials);
    // As it goes over the wire.
    let carried = |message: &[u8]| {
        let line = base64::encode(message);
        base64::decode(line.as_bytes(), 4096).unwrap()
    };
    let initial = client
        .initial_response()
        .map(|message| carried(message.as_bytes()));
    let mut step = server::start(mechanism, initial.as_ref().map(|m| m.as_slice()), &[]);
    loop {
        step = match step {
            Step::CheckPassword(check) => {
                match verifier.verify_password(check.password().as_bytes()) {
                    true => check.accept(),
                    false => check.refuse(),
                }
            }
            Step::FindVerifier(find) => find.answer(verifier.clone(), &nonce(2)),
            Step::Challenge(challenge) => {
                let answer = client.respond(challenge.octets()).unwrap();
                challenge.answer(&carried(answer.as_bytes()))
            }
            Step::Authenticated(_) => return client.finish().is_ok(),
            _ => return false,
        }
    }
}

fn verifier() -> Verifier {
    Verifier::derive(Hash::Sha256, password().as_bytes(), &[3; 16], 4096).unwrap()
}

#[test]
fn no_password_is_left_in_memory() {
    let held = password();
    assert!(occurrences() > 0, "the search does not find what is there");
    drop(held);

    let verifier = verifier();
    for mechanism in [Mechanism::Plain, Mechanism::Login, Mechanism::ScramSha256] {
        assert!(log_in(mechanism, &verifier), "{mechanism}");
        assert_eq!(occurrences(), 0, "{mechanism}");
    }
}
