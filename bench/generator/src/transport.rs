//! How octets get from client to server: over TCP as they are, or in TLS 1.3. Every server gets the same cipher suite
//! and key exchange, and a full handshake each time.

use crate::Outcome;
use crate::machine::Machine;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection,
    SignatureScheme, StreamOwned,
};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::sync::{Arc, LazyLock};

/// What a connection is made over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP to port 110.
    Plain,
    /// TLS 1.3 to port 995.
    Tls,
}

impl Transport {
    /// Where every server listens on its private machine; popa3d's port is fixed.
    pub fn address(self) -> SocketAddrV4 {
        let port = match self {
            Transport::Plain => 110,
            Transport::Tls => 995,
        };
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
    }

    /// The client's side of a connected socket. The handshake takes place when it is first read from.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn client(self, socket: TcpStream) -> Outcome<Stream> {
        Ok(match self {
            Transport::Plain => Stream::Plain(socket),
            Transport::Tls => {
                let name = ServerName::try_from("localhost")?;
                let mut tls = ClientConnection::new(Arc::clone(&CLIENT), name)?;
                tls.set_buffer_limit(None);
                Stream::TlsClient(Box::new(StreamOwned::new(tls, socket)))
            }
        })
    }
}

/// A connected stream.
pub enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// Encrypted, the client's side.
    TlsClient(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// Encrypted, the server's side.
    TlsServer(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Stream {
    /// The socket beneath.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::TlsClient(stream) => &stream.sock,
            Stream::TlsServer(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::TlsClient(stream) => stream.read(buffer),
            Stream::TlsServer(stream) => stream.read(buffer),
        };
        match read {
            // Some servers close without the alert; replies end by themselves.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            other => other,
        }
    }
}

impl Write for Stream {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(octets),
            Stream::TlsClient(stream) => stream.write(octets),
            Stream::TlsServer(stream) => stream.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.flush(),
            Stream::TlsClient(stream) => stream.flush(),
            Stream::TlsServer(stream) => stream.flush(),
        }
    }
}

/// The server's side, for the ceiling.
///
/// # Errors
/// The certificate cannot be read.
pub fn server_configuration() -> Outcome<Arc<ServerConfig>> {
    let file = |name: &str| Path::new(Machine::FILES).join(name);
    let chain =
        CertificateDer::pem_file_iter(file("certificate.pem"))?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(file("key.pem"))?;
    let mut configuration = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    configuration.send_tls13_tickets = 0;
    Ok(Arc::new(configuration))
}

static CLIENT: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap_or_else(|error| panic!("TLS 1.3: {error}"));
    let mut configuration = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(
            ring::default_provider().signature_verification_algorithms,
        )))
        .with_no_client_auth();
    configuration.resumption = Resumption::disabled();
    Arc::new(configuration)
});

/// AES-128-GCM and X25519 only, which all servers have.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    })
}

/// Takes any certificate, but not any signature: the load generator knows whom it has started.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
