//! SCRAM's client half (RFC 5802 sections 3 and 5).

use super::ClientError;
use crate::gs2::{BindingFlag, Gs2Header};
use crate::scram::messages::{ClientFinal, ClientFirst, Fault, ServerFinal, ServerFirst};
use crate::scram::{CLIENT_KEY, Hash, MIN_ITERATIONS, Nonce, SERVER_KEY, xor};
use crate::{ChannelBinding, Secret};

impl From<Fault> for ClientError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::TooLong | Fault::Malformed => ClientError::Malformed,
            Fault::MandatoryExtension => ClientError::MandatoryExtension,
        }
    }
}

/// What is said of channel binding, with the data if it is used.
pub(super) fn flag(
    is_bound: bool,
    binding: Option<&ChannelBinding>,
) -> Result<(BindingFlag<'static>, &[u8]), ClientError> {
    match (is_bound, binding) {
        (true, Some(binding)) => Ok((BindingFlag::Bound(binding.kind().name()), binding.octets())),
        (true, None) => Err(ClientError::Unsuitable),
        (false, Some(_)) => Ok((BindingFlag::NotOffered, b"")),
        (false, None) => Ok((BindingFlag::Unsupported, b"")),
    }
}

/// `client-first-message` is sent.
#[derive(Debug)]
pub(super) struct First {
    hash: Hash,
    password: Secret,
    nonce: String,
    /// `client-first-message-bare`
    bare: String,
    /// `cbind-input`
    binding: Vec<u8>,
}

impl First {
    /// The message and what to remember of it. The name is prepared.
    pub(super) fn new(
        hash: Hash,
        user: &str,
        password: Secret,
        authzid: Option<&str>,
        (flag, data): (BindingFlag, &[u8]),
        nonce: &Nonce,
    ) -> (Secret, Self) {
        let header = Gs2Header::write(flag, authzid.filter(|authzid| !authzid.is_empty()));
        let bare = ClientFirst::write_bare(user, nonce.as_str());
        let message = format!("{header}{bare}");
        let first = Self {
            hash,
            password,
            nonce: nonce.as_str().to_owned(),
            bare,
            binding: [header.as_bytes(), data].concat(),
        };
        (Secret::new(message.into_bytes()), first)
    }

    /// `client-final-message`, after the slow part.
    pub(super) fn respond(
        self,
        server_first: &[u8],
        max_iterations: u32,
    ) -> Result<(Secret, Final), ClientError> {
        let parsed = ServerFirst::parse(server_first)?;
        // Longer than the client's: a server that adds nothing would let an old exchange be played again.
        let extends = parsed
            .nonce
            .strip_prefix(self.nonce.as_str())
            .is_some_and(|added| !added.is_empty());
        if !extends {
            return Err(ClientError::Nonce);
        }
        if !(MIN_ITERATIONS..=max_iterations).contains(&parsed.iterations) {
            return Err(ClientError::Iterations(parsed.iterations));
        }
        let salted =
            self.hash
                .salted_password(self.password.as_bytes(), &parsed.salt, parsed.iterations);
        let client_key = self.hash.hmac(salted.as_bytes(), &[CLIENT_KEY]);
        let stored_key = self.hash.digest(client_key.as_bytes());
        let server_key = self.hash.hmac(salted.as_bytes(), &[SERVER_KEY]);

        let without_proof = ClientFinal::write_without_proof(&self.binding, parsed.nonce);
        let auth_message: [&[u8]; 5] = [
            self.bare.as_bytes(),
            b",",
            server_first,
            b",",
            without_proof.as_bytes(),
        ];
        let client_signature = self.hash.hmac(stored_key.as_bytes(), &auth_message);
        let proof = xor(client_key.as_bytes(), client_signature.as_bytes());
        let message = ClientFinal::write(&without_proof, proof.as_bytes());
        let last = Final {
            server_signature: self.hash.hmac(server_key.as_bytes(), &auth_message),
        };
        Ok((Secret::new(message.into_bytes()), last))
    }
}

/// `client-final-message` is sent.
#[derive(Debug)]
pub(super) struct Final {
    server_signature: Secret,
}

impl Final {
    /// `server-final-message`: the server's proof, or its reason to refuse.
    pub(super) fn check(self, server_final: &[u8]) -> Result<(), ClientError> {
        match ServerFinal::parse(server_final)? {
            ServerFinal::Signature(signature) if self.server_signature.is(&signature) => Ok(()),
            ServerFinal::Signature(_) => Err(ClientError::ServerSignature),
            ServerFinal::Error(reason) => Err(ClientError::Refused(reason.to_owned())),
        }
    }
}
