//! Facts of the TLS channel that a SCRAM exchange can be bound to (RFC 5056). They come from the TLS library; here they are octets.

/// Octets of binding data: a SHA-512 hash is the longest.
pub const MAX_BINDING_OCTETS: usize = 64;

/// The label of TLS's exporter for `tls-exporter`, used with an empty context (RFC 9266 section 2).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// Octets to export for `tls-exporter` (RFC 9266 section 2).
pub const EXPORTER_OCTETS: usize = 32;

/// What the data is. `tls-unique` is missing on purpose: undefined in TLS 1.3, and unsafe before it without the extended master
/// secret (RFC 9266 section 1, RFC 7677 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingType {
    /// `tls-exporter` (RFC 9266): of this very connection. In TLS 1.2 only with the extended master secret.
    TlsExporter,
    /// `tls-server-end-point` (RFC 5929 section 4): hash of the server's certificate, SHA-256 unless its signature uses a stronger.
    TlsServerEndPoint,
}

impl BindingType {
    /// The name in IANA's registry.
    pub fn name(self) -> &'static str {
        match self {
            BindingType::TlsExporter => "tls-exporter",
            BindingType::TlsServerEndPoint => "tls-server-end-point",
        }
    }
}

/// One way to name the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelBinding {
    kind: BindingType,
    octets: Vec<u8>,
}

impl ChannelBinding {
    /// `None` for no octets (they would bind nothing) or more than [`MAX_BINDING_OCTETS`].
    pub fn new(kind: BindingType, octets: &[u8]) -> Option<Self> {
        let sound = !octets.is_empty() && octets.len() <= MAX_BINDING_OCTETS;
        sound.then(|| Self {
            kind,
            octets: octets.to_vec(),
        })
    }

    /// What the octets are.
    pub fn kind(&self) -> BindingType {
        self.kind
    }

    /// The binding data.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_octets_bind_nothing() {
        assert_eq!(ChannelBinding::new(BindingType::TlsExporter, b""), None);
        assert_eq!(
            ChannelBinding::new(BindingType::TlsExporter, &[7; MAX_BINDING_OCTETS + 1]),
            None
        );
        let binding = ChannelBinding::new(BindingType::TlsServerEndPoint, &[7; 32]).unwrap();
        assert_eq!(binding.kind().name(), "tls-server-end-point");
        assert_eq!(binding.octets(), [7; 32]);
    }
}
