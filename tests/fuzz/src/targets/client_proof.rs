//! Handshakes of TLS by which a client is to prove whose certificate it has.

use client_proof::fuzz;
use client_proof::made_up::{Parts, message};

use super::Target;

/// `fuzz::handshake` and `fuzz::proof`: what is taken out lies in it, and without authorities it proves nothing.
pub const HANDSHAKE: Target = Target {
    name: "client-handshake",
    run,
    pieces,
    max_octets: 4096,
};

fn run(data: &[u8]) {
    let Some((_, data)) = data.split_first() else {
        return;
    };
    fuzz::handshake(data);
    fuzz::proof(data);
}

/// Single messages, and the whole cut at each of them.
fn pieces() -> Vec<Vec<u8>> {
    let messages = Parts::unsigned().messages();
    let cut = |at: usize| {
        let (before, behind) = messages.split_at(at);
        [before.concat(), behind.concat()]
    };
    let retry = [message(254, &[7; 32]), message(2, &[8; 40])].concat();
    (0..messages.len())
        .flat_map(cut)
        .chain(messages.clone())
        .chain([retry])
        .collect()
}
