//! HTTP with the one server: one request at a time and thread, one answer, bounded in time and size; no redirects, no proxy.

use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use messages::token::Server;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use ureq::Agent;
use ureq::http::StatusCode;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::transport::{Connector, RustlsConnector};
use zeroize::Zeroizing;

use crate::dialer::Dialer;
use crate::transport::{Dialled, NoResolver};

/// Octets of an answer: key sets with chains of certificates are some 16 KiB, introspected tokens less.
pub const MAX_ANSWER_OCTETS: usize = 256 * 1024;

/// Octets of an answer's header.
const MAX_HEADER_OCTETS: usize = 16 * 1024;

/// Certificate authorities; the usual set has some 150.
const MAX_AUTHORITIES: usize = 1024;

/// The client of one server.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    url: String,
}

impl Client {
    /// A client that has said nothing yet. `authorities`, in PEM, are whom TLS believes.
    ///
    /// # Errors
    /// There is none among them.
    pub fn new(
        server: &Server,
        authorities: Option<&[u8]>,
        dialer: Arc<Dialer>,
        timeout: Duration,
    ) -> Result<Self, String> {
        let mut tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        if let Some(pem) = authorities {
            let roots: Vec<_> = CertificateDer::pem_slice_iter(pem)
                .take(MAX_AUTHORITIES)
                .map_while(Result::ok)
                .map(|der| Certificate::from_der(&der).to_owned())
                .collect();
            if roots.is_empty() {
                return Err("no certificate authority".into());
            }
            tls = tls.root_certs(RootCerts::from(roots));
        }
        let configuration = Agent::config_builder()
            .tls_config(tls.build())
            .https_only(server.tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent("popa3d")
            .accept("application/json")
            .timeout_global(Some(timeout))
            .max_response_header_size(MAX_HEADER_OCTETS)
            .build();
        let connector = Dialled(dialer).chain(RustlsConnector::default());
        Ok(Self {
            agent: Agent::with_parts(configuration, connector, NoResolver),
            url: server.url.clone(),
        })
    }

    /// GET.
    ///
    /// # Errors
    /// There is no good answer; why, for the log.
    pub fn fetch(&self) -> Result<Vec<u8>, String> {
        answer(self.agent.get(&self.url).call())
    }

    /// POST of a form, with the client's name and secret (RFC 6749 section 2.3.1).
    ///
    /// # Errors
    /// There is no good answer; why, for the log.
    pub fn post(&self, form: &[u8], authorization: &str) -> Result<Vec<u8>, String> {
        let request = self
            .agent
            .post(&self.url)
            .header("authorization", authorization)
            .content_type("application/x-www-form-urlencoded");
        answer(request.send(form))
    }
}

fn answer(
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Vec<u8>, String> {
    let text = |error: ureq::Error| error.to_string();
    let mut response = response.map_err(text)?;
    if response.status() != StatusCode::OK {
        return Err(format!("answer {}", response.status().as_u16()));
    }
    let limit = u64::try_from(MAX_ANSWER_OCTETS).unwrap_or(u64::MAX);
    let body = response.body_mut().with_config().limit(limit);
    body.read_to_vec().map_err(text)
}

/// A client's name and secret as an `Authorization` header.
pub fn basic(name: &str, secret: &[u8]) -> Zeroizing<String> {
    let mut pair = form_encoded(name.as_bytes());
    pair.push(':');
    pair.push_str(&form_encoded(secret));
    let mut header = Zeroizing::new("Basic ".to_owned());
    header.push_str(&Zeroizing::new(Base64::encode_string(pair.as_bytes())));
    header
}

/// As in a form (application/x-www-form-urlencoded), everything unusual escaped.
pub fn form_encoded(octets: &[u8]) -> Zeroizing<String> {
    const HEX: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F',
    ];
    let digit = |value: u8| HEX.get(usize::from(value)).copied().unwrap_or('0');
    // Long enough not to grow, which would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(octets.len().saturating_mul(3)));
    for &octet in octets {
        match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                text.push(char::from(octet));
            }
            _ => text.extend(['%', digit(octet >> 4), digit(octet & 15)]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_secret_are_escaped_before_they_are_base64() {
        // RFC 6749 section 2.3.1, the example.
        assert_eq!(
            *basic("s6BhdRkqt3", b"7Fjfp0ZBr1KtDRbnfVdmIw"),
            "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3"
        );
        assert_eq!(*form_encoded(b"a:b c%/~\xff"), "a%3Ab%20c%25%2F%7E%FF");
    }
}
