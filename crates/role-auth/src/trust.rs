//! Whose certificates count for EXTERNAL: the authorities that vouch for clients, and which certificates are the server's own.
//!
//! The master passes them on, from files that are the administrator's. Read in auth itself; its workers have copies.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use messages::auth::MAX_OWN_CERTIFICATES;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};

/// Octets of the authorities' file, as for sessions.
const MAX_AUTHORITIES_OCTETS: u64 = 1024 * 1024;

/// What is in use.
#[derive(Debug, Default)]
pub struct Trust {
    authorities: Vec<TrustAnchor<'static>>,
    own: Vec<Vec<u8>>,
    /// What has been replaced, and until when sessions may have shown it.
    replaced: Vec<(Vec<u8>, Instant)>,
}

/// A new set, as far as it has come.
#[derive(Debug, Default)]
pub struct Coming {
    own: Vec<Vec<u8>>,
    authorities: Option<Result<Vec<TrustAnchor<'static>>, String>>,
}

impl Coming {
    /// One of the server's own.
    pub fn own(&mut self, certificate: Vec<u8>) {
        if self.own.len() < MAX_OWN_CERTIFICATES {
            self.own.push(certificate);
        }
    }

    /// The authorities of clients.
    pub fn authorities(&mut self, file: Option<OwnedFd>) {
        self.authorities = file.map(|file| read(&File::from(file)));
    }
}

impl Trust {
    /// The authorities of clients; empty where no certificate of a client's counts.
    pub fn authorities(&self) -> &[TrustAnchor<'static>] {
        &self.authorities
    }

    /// Whether a session may have shown this certificate to its client.
    pub fn is_own(&self, certificate: &[u8], now: Instant) -> bool {
        self.own.iter().any(|own| own == certificate)
            || self
                .replaced
                .iter()
                .any(|(own, until)| *until > now && own == certificate)
    }

    /// Takes a new set into use; the certificates before it count for so long.
    ///
    /// # Errors
    /// The new set will not do, and the old one stays: one sentence for the log.
    pub fn replace(&mut self, coming: Coming, kept: Duration, now: Instant) -> Result<(), String> {
        let authorities = coming.authorities.transpose()?.unwrap_or_default();
        self.replaced.retain(|(_, until)| *until > now);
        let until = now.checked_add(kept).unwrap_or(now);
        let before = std::mem::replace(&mut self.own, coming.own);
        let gone = before.into_iter().filter(|old| !self.own.contains(old));
        self.replaced.extend(gone.map(|old| (old, until)));
        self.replaced.truncate(MAX_OWN_CERTIFICATES);
        self.authorities = authorities;
        Ok(())
    }
}

fn read(file: &File) -> Result<Vec<TrustAnchor<'static>>, String> {
    let mut text = Vec::new();
    let in_file = |problem: &dyn std::fmt::Display| format!("client_ca: {problem}");
    file.take(MAX_AUTHORITIES_OCTETS.saturating_add(1))
        .read_to_end(&mut text)
        .map_err(|error| in_file(&error))?;
    if u64::try_from(text.len()).is_ok_and(|octets| octets > MAX_AUTHORITIES_OCTETS) {
        return Err(in_file(&"longer than 1 MiB"));
    }
    let authorities = CertificateDer::pem_slice_iter(&text)
        .map(|certificate| {
            let certificate = certificate.map_err(|error| in_file(&error))?;
            client_proof::authority(&certificate).map_err(|error| in_file(&error))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if authorities.is_empty() {
        return Err(in_file(&"there is no CERTIFICATE in it"));
    }
    Ok(authorities)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    fn file(text: &str) -> Option<OwnedFd> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        Some(file.into())
    }

    fn coming(own: &[&str], authorities: Option<OwnedFd>) -> Coming {
        let mut coming = Coming::default();
        for own in own {
            coming.own(own.as_bytes().to_vec());
        }
        if authorities.is_some() {
            coming.authorities(authorities);
        }
        coming
    }

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::default();
        parameters.self_signed(&key).unwrap().pem()
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_replaced_counts_for_a_while() {
        let (mut trust, now) = (Trust::default(), Instant::now());
        trust
            .replace(coming(&["a", "b"], None), MINUTE, now)
            .unwrap();
        trust
            .replace(coming(&["b", "c"], None), MINUTE, now)
            .unwrap();
        for (name, soon, later) in [("a", true, false), ("b", true, true), ("c", true, true)] {
            assert_eq!(trust.is_own(name.as_bytes(), now), soon);
            assert_eq!(trust.is_own(name.as_bytes(), now + MINUTE), later);
        }
        assert!(!trust.is_own(b"d", now));
    }

    #[test]
    fn a_file_without_authorities_leaves_the_old_set_in_place() {
        let (mut trust, now) = (Trust::default(), Instant::now());
        let two = authority() + &authority();
        let good = coming(&["a"], file(&two));
        trust.replace(good, MINUTE, now).unwrap();
        assert_eq!(trust.authorities().len(), 2);
        let broken = two.replace("MII", "???");
        let long = "x".repeat(1024 * 1024 + 1);
        for text in ["", "nothing", &broken, &long] {
            let error = trust
                .replace(coming(&["b"], file(text)), MINUTE, now)
                .unwrap_err();
            assert!(error.starts_with("client_ca: "), "{error}");
            assert!(trust.is_own(b"a", now + MINUTE));
        }
        // Without a file no client's certificate counts.
        trust.replace(coming(&["a"], None), MINUTE, now).unwrap();
        assert!(trust.authorities().is_empty());
    }
}
