//! What the configuration file may say. Field names are the keys; each has its default here.
//!
//! The names of popa3d 1.0.3's compile-time settings (params.h) stand beside the keys that took their place.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use messages::SaslMechanism;
use messages::spawner::Utf8Headers;
use serde::Deserialize;

use super::oauth::OAuth;
use super::units::{Size, Span};

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// Addresses and ports (DAEMON_ADDR, DAEMON_PORT).
    pub listen: Vec<SocketAddr>,
    /// Addresses and ports where TLS begins at once (RFC 8314).
    pub listen_tls: Vec<SocketAddr>,
    /// The unprivileged user of the processes that meet the network (POP_USER).
    pub user: String,
    /// The user of auth; needs the group shadow.
    pub auth_user: String,
    /// The user of the spawner of maildrop processes.
    pub spawner_user: String,
    /// The user of the keyholder; needed where TLS is configured.
    pub key_user: String,
    /// The user of the token role; needed where OAuth is configured.
    pub token_user: String,
    /// The user of the locker; needed where dotlocks are made in a spool.
    pub lock_user: String,
    /// An empty directory that nobody can write to (POP_CHROOT).
    pub chroot: PathBuf,
    /// Where locks are; `/var/lib/popa3d`, or `~/.local/state/popa3d` when not root.
    pub state_directory: Option<PathBuf>,
    /// What to do where the kernel lacks a protection.
    pub sandbox: Sandbox,
    /// TLS; absent: none.
    pub tls: Option<Tls>,
    /// Who may log in, and how that is found out.
    pub auth: Auth,
    /// Access tokens; absent: none.
    pub oauth: Option<OAuth>,
    /// Virtual domains by the address connected to; absent: off (POP_VIRTUAL).
    pub address_domains: Option<AddressDomains>,
    /// Where mail is and how it is locked.
    pub maildrop: Maildrop,
    /// Bounds.
    pub limits: Limits,
    /// Who may say whose connection it is.
    pub proxy: Proxy,
    /// What the protocol offers.
    pub protocol: Protocol,
    /// Log lines.
    pub log: Log,
}

impl Default for File {
    fn default() -> Self {
        Self {
            listen: vec![
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, 110)),
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, 110)),
            ],
            listen_tls: Vec::new(),
            user: "popa3d".into(),
            auth_user: "popa3d-auth".into(),
            spawner_user: "popa3d-spawn".into(),
            key_user: "popa3d-key".into(),
            token_user: "popa3d-token".into(),
            lock_user: "popa3d-lock".into(),
            chroot: "/var/empty".into(),
            state_directory: None,
            sandbox: Sandbox::BestEffort,
            tls: None,
            auth: Auth::default(),
            oauth: None,
            address_domains: None,
            maildrop: Maildrop::default(),
            limits: Limits::default(),
            proxy: Proxy::default(),
            protocol: Protocol::default(),
            log: Log::default(),
        }
    }
}

/// `sandbox`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sandbox {
    /// A missing protection ends the server.
    Required,
    /// A missing protection is logged at start.
    BestEffort,
}

/// `[tls]`: one certificate here, any number more in `[[tls.certificates]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The chain in PEM, the server's own certificate first.
    pub certificate: Option<PathBuf>,
    /// Its private key in PEM; nobody but its owner and group may read it.
    pub key: Option<PathBuf>,
    /// More of them: for other names, or with another kind of key for the same.
    pub certificates: Vec<CertificateFiles>,
    /// Authorities of client certificates, in PEM; absent: clients are not asked for any.
    pub client_ca: Option<PathBuf>,
    /// Handshakes a second in all; further ones wait.
    pub handshakes_per_second: u32,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            certificate: None,
            key: None,
            certificates: Vec::new(),
            client_ca: None,
            handshakes_per_second: 500,
        }
    }
}

/// `[[tls.certificates]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// As `tls.certificate`.
    pub certificate: PathBuf,
    /// As `tls.key`.
    pub key: PathBuf,
}

/// `auth.cleartext`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cleartext {
    /// Everybody may log in without TLS.
    Always,
    /// Who is on this host may.
    Loopback,
    /// Nobody may.
    Never,
}

/// `[auth]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// In the order in which they are tried (AUTH_PAM, AUTH_SHADOW and the like). Default: pam, or users-file when not
    /// root.
    pub backends: Option<Vec<BackendName>>,
    /// The users file.
    pub users_file: PathBuf,
    /// AUTH_PAM_SERVICE.
    pub pam_service: String,
    /// APOP secrets, `user:secret` a line; absent: no APOP, since it needs plaintext equivalents on the server.
    pub apop_secrets: Option<PathBuf>,
    /// The file of app passwords.
    pub app_passwords: Option<PathBuf>,
    /// Users of the system can use SCRAM once they have logged in by PLAIN or LOGIN over TLS.
    pub derive_verifiers: bool,
    /// How long a login by a password is remembered, so that the next costs no hash; zero: not at all.
    pub cache: Span,
    /// SASL mechanisms. Default: PLAIN and LOGIN, SCRAM-SHA-256 where the users file is the only store, OAUTHBEARER and XOAUTH2
    /// where OAuth is configured.
    pub mechanisms: Option<Vec<SaslMechanism>>,
    /// What of a client's certificate is a user's name; absent: no EXTERNAL.
    pub external_user: Option<ExternalUser>,
    /// The least time that a first failed attempt takes; it doubles with each.
    pub failure_delay: Span,
    /// Verifications at the same time.
    pub workers: u32,
    /// AUTH_DUMMY_SALT; absent: the setting most used on this system.
    pub dummy_setting: Option<String>,
    /// AUTH_FAILED_MESSAGE.
    pub failed_message: String,
    /// Who may log in without TLS. Default: loopback where TLS is configured, always where it is not.
    pub cleartext: Option<Cleartext>,
    /// Networks that may log in without TLS besides.
    pub cleartext_networks: Vec<IpNet>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            backends: None,
            users_file: "/etc/popa3d/users".into(),
            pam_service: "popa3d".into(),
            apop_secrets: None,
            app_passwords: None,
            derive_verifiers: false,
            cache: Span(Duration::ZERO),
            mechanisms: None,
            external_user: None,
            failure_delay: Span(Duration::from_secs(1)),
            workers: 4,
            dummy_setting: None,
            failed_message: "Authentication failed (bad username or password?)".into(),
            cleartext: None,
            cleartext_networks: Vec::new(),
        }
    }
}

/// `auth.external_user`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExternalUser {
    /// A mail address among the subject's alternative names (`rfc822Name`).
    Email,
    /// The subject's common name.
    Cn,
}

/// A name in `auth.backends`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendName {
    /// PAM.
    Pam,
    /// The password database with /etc/shadow.
    Shadow,
    /// The users file.
    UsersFile,
}

/// `[address_domains]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AddressDomains {
    /// VIRTUAL_HOME_PATH.
    pub home: PathBuf,
    /// VIRTUAL_AUTH_PATH, below `home`/ADDRESS.
    pub auth: PathBuf,
    /// VIRTUAL_SPOOL_PATH, below `home`/ADDRESS.
    pub spool: PathBuf,
    /// VIRTUAL_ONLY.
    pub only: bool,
}

impl Default for AddressDomains {
    fn default() -> Self {
        Self {
            home: "/vhome".into(),
            auth: "auth".into(),
            spool: "mail".into(),
            only: false,
        }
    }
}

/// `[maildrop]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Maildrop {
    /// `mbox:…` or `maildir:…` with `%u %n %d %h %%` (MAIL_SPOOL_PATH, HOME_MAILBOX_NAME).
    pub location: String,
    /// LOCK_FCNTL or LOCK_FLOCK.
    pub lock: Lock,
    /// Make `FILE.lock` besides, where the directory allows it.
    pub dotlock: bool,
    /// How long to wait for another program's lock.
    pub lock_timeout: Span,
    /// How long deleted messages are kept, hidden, before they are removed.
    pub delete_grace: Span,
    /// Messages delivered longer ago than this are hidden; zero: none are.
    pub hide_older: Span,
    /// Messages that were retrieved are hidden after QUIT.
    pub hide_acknowledged: bool,
}

impl Default for Maildrop {
    fn default() -> Self {
        Self {
            location: "mbox:/var/mail/%u".into(),
            lock: Lock::Fcntl,
            dotlock: false,
            lock_timeout: Span(Duration::from_secs(30)),
            delete_grace: Span(Duration::ZERO),
            hide_older: Span(Duration::ZERO),
            hide_acknowledged: false,
        }
    }
}

/// `maildrop.lock`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lock {
    /// fcntl(2).
    Fcntl,
    /// flock(2).
    Flock,
}

/// `[limits]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// MAX_SESSIONS.
    pub sessions: u32,
    /// MAX_SESSIONS_PER_SOURCE; a source is an IPv4 address or an IPv6 /64.
    pub sessions_per_source: u32,
    /// MIN_DELAY.
    pub source_hold: Span,
    /// Networks without a limit per source.
    pub exempt: Vec<IpNet>,
    /// Networks that may connect; empty: all (DAEMON_LIBWRAP).
    pub allow: Vec<IpNet>,
    /// Networks that may not connect (DAEMON_LIBWRAP).
    pub deny: Vec<IpNet>,
    /// MAX_BACKLOG.
    pub backlog: u32,
    /// Attempts on one connection; 1 as in popa3d 1.0.3.
    pub login_attempts: u32,
    /// The shortest time between two logins of one user.
    pub login_delay: Span,
    /// From the greeting to a login.
    pub login_timeout: Span,
    /// POP_TIMEOUT.
    pub idle_timeout: Span,
    /// Commands before login.
    pub commands: u32,
    /// Commands answered `-ERR`, before login and after it.
    pub errors: u32,
    /// Octets in a user name.
    pub user_octets: u16,
    /// MAX_MAILBOX_MESSAGES.
    pub messages: u32,
    /// MAX_MAILBOX_OPEN_BYTES.
    pub octets: Size,
    /// MAX_MAILBOX_WORK_BYTES; absent: as `octets`.
    pub work_octets: Option<Size>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 500,
            sessions_per_source: 50,
            source_hold: Span(Duration::from_secs(10)),
            exempt: Vec::new(),
            allow: Vec::new(),
            deny: Vec::new(),
            backlog: 1024,
            login_attempts: 3,
            login_delay: Span(Duration::ZERO),
            login_timeout: Span(Duration::from_secs(60)),
            idle_timeout: Span(Duration::from_secs(600)),
            commands: 100,
            errors: 25,
            user_octets: 255,
            messages: 2_097_152,
            octets: Size(1 << 40),
            work_octets: None,
        }
    }
}

/// `[proxy]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Proxy {
    /// Networks whose connections begin with a PROXY header.
    pub networks: Vec<IpNet>,
}

/// `[protocol]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Protocol {
    /// POP_SUPPORT_LAST.
    pub last: bool,
    /// CAPA tells name and version.
    pub implementation: bool,
    /// What a client gets of mail with UTF-8 in its header that has not asked for UTF-8.
    pub utf8: Utf8Headers,
}

impl Default for Protocol {
    fn default() -> Self {
        Self {
            last: true,
            implementation: true,
            utf8: Utf8Headers::AsIs,
        }
    }
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Absent: chosen by where the server runs.
    pub target: Option<LogTarget>,
    /// How a line looks.
    pub format: LogFormat,
    /// SYSLOG_IDENT.
    pub ident: String,
    /// SYSLOG_FACILITY.
    pub facility: Facility,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            target: None,
            format: LogFormat::Text,
            ident: "popa3d".into(),
            facility: Facility::Daemon,
        }
    }
}

/// `log.target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogTarget {
    /// /dev/log.
    Syslog,
    /// The journal's own socket.
    Journald,
    /// Standard error.
    Stderr,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// `event key=value …`.
    Text,
    /// One JSON object a line.
    Json,
}

/// `log.facility`, with syslog(3)'s names and numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are syslog(3)'s")]
pub enum Facility {
    Mail = 2,
    Daemon = 3,
    Auth = 4,
    Authpriv = 10,
    Local0 = 16,
    Local1 = 17,
    Local2 = 18,
    Local3 = 19,
    Local4 = 20,
    Local5 = 21,
    Local6 = 22,
    Local7 = 23,
}
