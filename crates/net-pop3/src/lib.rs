//! A POP3 client: every command of the protocol, streaming, typed, safe by default; blocking and for tokio.
//!
//! ```
//! use net_pop3::{Credentials, Security, blocking::Pop3};
//!
//! # let server = scripted_server::Mailbox::sample().start();
//! # let port = server.port();
//! let mut session = Pop3::builder()
//!     .host("127.0.0.1")
//!     .port(port)
//!     .security(Security::Plain) // or leave this out: TLS is the default
//!     .connect()?
//!     .login(&Credentials::password("mrose", "tanstaaf"))?;
//! for message in session.listing()? {
//!     let mut file = Vec::new();
//!     session.retr(&message)?.copy_to(&mut file)?;
//!     session.dele(&message)?;
//! }
//! session.quit()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it promises:
//! - **Nothing is deleted by accident.** Messages go when [`quit`](blocking::Session::quit) has been answered. A session that is
//!   dropped, by an early return or a panic, is closed without QUIT.
//! - **Nothing is given away.** TLS is the default and never left out by itself; a certificate is checked or pinned, there is no
//!   switch to ignore it; passwords are not sent in the clear unless [`Security::Plain`] says so; octets injected ahead of TLS
//!   are an error before any credential is sent.
//! - **Mail comes as it is**: any octet, any length of line, any size, in constant memory.
//! - **A server can do no harm**: every line, listing, message and wait has a [limit](Limits), every [time](Timeouts) an end.
//! - **Servers without CAPA work**: nothing is left untried because it was not advertised, but pipelining.
//!
//! The protocol itself is the crate `pop3-proto`, which does no I/O; this crate adds sockets, TLS and logins. What both drivers do
//! is written once. Minimum Rust: 1.88.
//!
//! Features: `tokio` adds the driver of that name; `native-roots` (default) trusts the system's certificate authorities,
//! `webpki-roots` Mozilla's; `mime` parses messages.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod batch;
pub mod blocking;
mod builder;
mod capabilities;
mod channel;
mod connect;
mod core;
mod credentials;
mod error;
mod listing;
mod login;
mod message;
mod netrc;
mod proxy;
mod response_code;
mod session;
mod tls;
#[cfg(feature = "tokio")]
pub mod tokio;
mod trace;

pub use builder::{Builder, Limits, Security, Timeouts};
pub use capabilities::Capabilities;
pub use credentials::Credentials;
pub use error::{Error, ErrorKind, Phase, Refusal};
pub use listing::{Listing, MessageRef, Stat, UniqueId};
pub use pop3_proto::MessageNumber;
pub use pop3_proto::client::ProtocolError;
pub use proxy::Proxy;
pub use response_code::ResponseCode;
pub use sasl::Mechanism;
pub use sasl::client::ClientError as SaslError;
pub use session::{Authorization, LoginFailed, Transaction};
pub use tls::{Fingerprint, TlsOptions};
pub use trace::{Progress, Trace};
