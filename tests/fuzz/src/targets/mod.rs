//! The targets.

mod app_passwords;
mod client_proof;
mod maildrop;
mod memory;
mod messages;
mod pop3;
mod proxy;
mod sasl;
mod tokens;

/// A function that takes any octets, and what to make octets of that get far in it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The same as that of its harness in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Panics where a promise is broken.
    pub run: fn(&[u8]),
    /// What input is put together from.
    pub pieces: fn() -> Vec<Vec<u8>>,
    /// The longest input.
    pub max_octets: usize,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    client_proof::HANDSHAKE,
    sasl::SERVER,
    sasl::CLIENT,
    sasl::READERS,
    proxy::HEADER,
    pop3::COMMAND,
    pop3::SERVER,
    pop3::MULTILINE,
    maildrop::MBOX_SCAN,
    memory::JOURNAL,
    memory::INDEX,
    memory::DELETIONS,
    messages::MESSAGES,
    tokens::TOKEN,
    tokens::KEYS,
    tokens::INTROSPECTION,
    app_passwords::LINE,
];

/// The one with this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Pieces written as literals.
fn literal(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    pieces.iter().map(|piece| piece.to_vec()).collect()
}
