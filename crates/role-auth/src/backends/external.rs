//! EXTERNAL (RFC 4422 appendix A): a user is who its certificate says, if the handshake shows that the client has its key.
//!
//! The session is believed nothing: see `client_proof`. What is looked up afterwards is looked up without a password, in the
//! same stores and the same order, the first that knows the user deciding; who is locked out there stays so.

use std::time::{Instant, SystemTime};

use client_proof::handshake::Signature;
use client_proof::{Names, Shown};
use messages::auth::{ExternalUser, Handshake, ServerRandom};
use rustls_pki_types::UnixTime;
use sasl::saslprep::prepare_name;

use super::Stores;
use crate::exchange::as_stored;
use crate::name::UserName;
use crate::work::{Outcome, Refusal, Request};

impl Stores {
    /// Decides by the certificate that the client has shown.
    pub(super) fn external(
        &self,
        handshake: &Handshake,
        server_random: &ServerRandom,
        authzid: Option<&str>,
        request: &Request,
    ) -> Outcome {
        let user = self
            .shown(handshake, server_random)
            .and_then(|names| self.named(&names, authzid));
        match user {
            Ok(user) => self.proven(&user, request),
            Err(refusal) => Outcome::unknown(refusal),
        }
    }

    fn shown(&self, handshake: &Handshake, random: &ServerRandom) -> Result<Names, Refusal> {
        if self.trust.authorities().is_empty() {
            return Err(Refusal::NotOffered);
        }
        let shown = Shown {
            transcript: &handshake.transcript,
            signature: Signature {
                scheme: handshake.scheme,
                octets: &handshake.signature,
            },
        };
        let now = Instant::now();
        let is_ours = |certificate: &[u8]| self.trust.is_own(certificate, now);
        let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        client_proof::verify(
            &shown,
            random,
            is_ours,
            self.trust.authorities(),
            UnixTime::since_unix_epoch(since_epoch),
        )
        .map_err(Refusal::certificate)
    }

    /// The certificate's user: the one that the client asks for, or the only one.
    fn named(&self, names: &Names, authzid: Option<&str>) -> Result<UserName, Refusal> {
        let names = match self.configuration.external_user {
            Some(ExternalUser::MailAddress) => &names.mail_addresses,
            Some(ExternalUser::CommonName) => &names.common_names,
            None => return Err(Refusal::NotOffered),
        };
        let is = |name: &str, authzid: &str| {
            let name = prepare_name(name.as_bytes());
            name.is_some_and(|name| as_stored(&name) == as_stored(authzid))
        };
        let name = match (authzid, names.as_slice()) {
            (Some(authzid), names) => names
                .iter()
                .find(|name| is(name, authzid))
                .ok_or(Refusal::Authzid)?,
            (None, [name]) => name,
            (None, []) => return Err(Refusal::certificate("client certificate names nobody")),
            (None, _) => {
                let reason = "client certificate names several users, and the client none of them";
                return Err(Refusal::certificate(reason));
            }
        };
        UserName::parse(name.as_bytes()).ok_or(Refusal::Malformed)
    }
}
