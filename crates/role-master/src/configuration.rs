//! The configuration: one optional TOML file, read by the master alone and passed on as values.
//!
//! Everything has a default, and no file at all means what Debian's popa3d does. What a file may say is in
//! [`file`]; the units are in [`units`]; [`check`] refuses what types cannot; [`parts`] turns it into each role's part; [`reload`]
//! says what of a newer one takes a restart.
//!
//! Promise: a file that one release accepts, every later one of the same major version accepts.

mod check;
pub mod file;
mod oauth;
mod parts;
mod reload;
pub mod units;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use maildrop::Location;
use messages::account::Account;
use messages::role::Role;

pub use file::{CertificateFiles, Facility, File, LogFormat, LogTarget};

/// Where the configuration is looked for when `-c` names no other file.
pub const DEFAULT_PATH: &str = "/etc/popa3d/popa3d.toml";

/// A configuration file larger than this is taken for something else.
const MAX_FILE_OCTETS: u64 = 1024 * 1024;

/// Why a configuration cannot be used, as the operator is told: file, line and column, and what is allowed there.
#[derive(Debug)]
pub struct ConfigurationError(String);

impl fmt::Display for ConfigurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigurationError {}

impl ConfigurationError {
    /// An error in a value that is well-formed in itself.
    fn in_key(key: &str, problem: impl fmt::Display) -> Self {
        Self(format!("{key}: {problem}"))
    }
}

/// Who runs the server, which decides what it can serve.
#[derive(Clone, Debug)]
pub enum Runner {
    /// Root: real users, one uid a role.
    Root,
    /// Anybody else: one uid, the accounts of a users file, and this account owns all their mail.
    Ordinary(Account),
}

/// A configuration that has been checked, with every default filled in.
#[derive(Clone, Debug)]
pub struct Configuration {
    file: File,
    runner: Runner,
    host_name: String,
    locker_directory: Option<PathBuf>,
}

impl Configuration {
    /// Reads `path`, or the default file if it exists, or takes the defaults.
    ///
    /// # Errors
    /// Says file, line, column and what is allowed.
    pub fn read(
        path: Option<&Path>,
        runner: Runner,
        host_name: String,
    ) -> Result<Self, ConfigurationError> {
        let text = match path {
            Some(path) => Some((path, read_text(path)?)),
            None => {
                let path = Path::new(DEFAULT_PATH);
                match path.try_exists() {
                    Ok(false) => None,
                    _ => Some((path, read_text(path)?)),
                }
            }
        };
        match text {
            Some((path, text)) => Self::parse(&text, runner, host_name)
                .map_err(|error| ConfigurationError(format!("{}:{error}", path.display()))),
            None => Self::parse("", runner, host_name),
        }
    }

    /// Takes the text of a file.
    ///
    /// # Errors
    /// As [`Configuration::read`], without the file's name in front.
    pub fn parse(
        text: &str,
        runner: Runner,
        host_name: String,
    ) -> Result<Self, ConfigurationError> {
        let file: File = toml::from_str(text).map_err(|error| {
            let (line, column) = error
                .span()
                .map_or((1, 1), |span| line_and_column(text, span.start));
            ConfigurationError(format!("{line}:{column}: {}", error.message()))
        })?;
        let mut configuration = Self {
            file,
            runner,
            host_name,
            locker_directory: None,
        };
        configuration.check()?;
        configuration.locker_directory = configuration.spool_with_dotlocks();
        Ok(configuration)
    }

    /// Addresses to listen on, and whether TLS begins there at once. On the others there is STLS, if there is TLS at all.
    pub fn listen(&self) -> impl Iterator<Item = (SocketAddr, bool)> {
        let plaintext = self.file.listen.iter().map(|&address| (address, false));
        plaintext.chain(self.file.listen_tls.iter().map(|&address| (address, true)))
    }

    /// Whether TLS is offered.
    pub fn has_tls(&self) -> bool {
        self.file.tls.is_some()
    }

    /// Whether access tokens are accepted.
    pub fn has_oauth(&self) -> bool {
        self.file.oauth.is_some()
    }

    /// The files that the token role reads, and whether others may read them.
    pub fn token_files(&self) -> Vec<(&Path, bool)> {
        let oauth = self.file.oauth.as_ref();
        oauth.map(|oauth| oauth.files()).unwrap_or_default()
    }

    /// The certificates' files, the first for clients that name no other.
    pub fn certificates(&self) -> Vec<CertificateFiles> {
        let Some(tls) = &self.file.tls else {
            return Vec::new();
        };
        let first = tls.certificate.as_ref().zip(tls.key.as_ref());
        let first = first.map(|(certificate, key)| CertificateFiles {
            certificate: certificate.clone(),
            key: key.clone(),
        });
        first
            .into_iter()
            .chain(tls.certificates.iter().cloned())
            .collect()
    }

    /// The file of client certificates' authorities.
    pub fn client_authorities(&self) -> Option<&Path> {
        self.file.tls.as_ref()?.client_ca.as_deref()
    }

    /// The roles that are needed, in the order in which they are started.
    pub fn roles(&self) -> impl Iterator<Item = Role> + use<> {
        let (has_tls, has_oauth) = (self.has_tls(), self.has_oauth());
        let has_locker = self.locker_directory.is_some();
        Role::ALL.into_iter().filter(move |&role| match role {
            Role::Keyholder => has_tls,
            Role::Token => has_oauth,
            Role::Locker => has_locker,
            _ => true,
        })
    }

    /// The spool in which dotlocks are to be made: by a locker, since it lets no mailbox's owner do that.
    fn spool_with_dotlocks(&self) -> Option<PathBuf> {
        let wanted = self.file.maildrop.dotlock && matches!(self.runner, Runner::Root);
        let location = Location::parse(&self.file.maildrop.location).ok();
        location.filter(|_| wanted)?.spool()
    }

    /// Where the locker makes dotlocks, if there is a locker.
    pub fn locker_directory(&self) -> Option<&Path> {
        self.locker_directory.as_deref()
    }

    /// Connections that may wait for the listener.
    pub fn backlog(&self) -> u32 {
        self.file.limits.backlog
    }

    /// The users that roles become.
    pub fn users(&self) -> RoleUsers<'_> {
        RoleUsers {
            network: &self.file.user,
            auth: &self.file.auth_user,
            spawner: &self.file.spawner_user,
            key: self.has_tls().then_some(&*self.file.key_user),
            token: self.has_oauth().then_some(&*self.file.token_user),
            locker: self
                .locker_directory
                .is_some()
                .then_some(&*self.file.lock_user),
        }
    }

    /// The empty directory of the network roles.
    pub fn chroot(&self) -> &Path {
        &self.file.chroot
    }

    /// A missing kernel protection is fatal.
    pub fn sandbox_required(&self) -> bool {
        self.file.sandbox == file::Sandbox::Required
    }

    /// Where locks, journals and indexes are.
    pub fn state_directory(&self) -> PathBuf {
        match (&self.file.state_directory, &self.runner) {
            (Some(path), _) => path.clone(),
            (None, Runner::Root) => PathBuf::from("/var/lib/popa3d"),
            (None, Runner::Ordinary(account)) => {
                Path::new(&account.home).join(".local/state/popa3d")
            }
        }
    }

    /// Where verifiers of the system's users are kept, if any are.
    pub fn derived_verifiers(&self) -> Option<PathBuf> {
        let wanted = self.file.auth.derive_verifiers && matches!(self.runner, Runner::Root);
        wanted.then(|| self.state_directory().join("verifiers"))
    }

    /// Who runs the server.
    pub fn runner(&self) -> &Runner {
        &self.runner
    }

    /// Where log lines go, how they look, and under which name.
    pub fn log(&self) -> &file::Log {
        &self.file.log
    }
}

/// The users that roles become, by name.
#[derive(Clone, Copy, Debug)]
pub struct RoleUsers<'a> {
    /// Listener, session spawner and sessions.
    pub network: &'a str,
    /// Auth; it needs the group shadow.
    pub auth: &'a str,
    /// Spawner.
    pub spawner: &'a str,
    /// Keyholder, if there is one.
    pub key: Option<&'a str>,
    /// Token, if there is one.
    pub token: Option<&'a str>,
    /// The locker's, where there is one.
    pub locker: Option<&'a str>,
}

fn read_text(path: &Path) -> Result<String, ConfigurationError> {
    let fail = |problem: String| ConfigurationError(format!("{}: {problem}", path.display()));
    let length = std::fs::metadata(path)
        .map_err(|error| fail(error.to_string()))?
        .len();
    if length > MAX_FILE_OCTETS {
        return Err(fail(format!("is larger than {MAX_FILE_OCTETS} octets")));
    }
    std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))
}

/// Both count from 1; a column is a character.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use messages::auth::{Backend, DecoyKey};
    use messages::session::Cleartext;
    use std::time::Duration;

    pub(super) fn parse(text: &str) -> Result<Configuration, ConfigurationError> {
        Configuration::parse(text, Runner::Root, "host.example".into())
    }

    #[test]
    fn no_file_means_what_debians_popa3d_does() {
        let configuration = parse("").unwrap();
        assert_eq!(configuration.auth(&key()).backends, [Backend::Pam]);
        assert_eq!(configuration.spawner().location, "mbox:/var/mail/%u");
        assert_eq!(configuration.listener().sessions, 500);
        assert_eq!(configuration.listener().sessions_per_source, 50);
        assert_eq!(
            configuration.listener().source_hold,
            Duration::from_secs(10)
        );
        assert_eq!(
            configuration.spawner().idle_timeout,
            Duration::from_secs(600)
        );
        assert_eq!(configuration.listen().count(), 2);
        assert!(!configuration.has_tls());
        assert_eq!(
            configuration.session().advertised.cleartext.rule,
            Cleartext::Always
        );
    }

    #[test]
    fn the_keys_that_scripts_rely_on_are_accepted() {
        let text = r#"
            listen = ["0.0.0.0:110", "[::]:110"]
            user = "popa3d"
            chroot = "/var/empty"
            [auth]
            backends = ["pam", "shadow", "users-file"]
            users_file = "/etc/popa3d/users"
            [maildrop]
            location = "maildir:/srv/mail/%d/%n"
            [limits]
            sessions = 500
            sessions_per_source = 50
            source_hold = "10s"
            login_attempts = 3
            idle_timeout = "10m"
            login_timeout = "1m"
            [log]
            target = "syslog"
            format = "text"
        "#;
        assert_eq!(parse(text).unwrap().auth(&key()).backends.len(), 3);
    }

    #[test]
    fn an_unknown_key_is_named_with_line_column_and_what_is_allowed() {
        let error = parse("\n[limits]\n  sesions = 5\n")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("3:3: "), "{error}");
        assert!(
            error.contains("sesions") && error.contains("`sessions`"),
            "{error}"
        );
    }

    #[test]
    fn a_wrong_value_is_named_with_line_column_and_what_is_allowed() {
        let error = parse("[log]\ntarget = \"file\"\n").unwrap_err().to_string();
        assert!(error.starts_with("2:10: "), "{error}");
        assert!(error.contains("journald"), "{error}");
        let error = parse("[limits]\nidle_timeout = \"10 parsecs\"\n")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("2:16: "), "{error}");
        assert!(error.contains("\"10s\""), "{error}");
    }

    #[test]
    fn an_ordinary_user_cannot_ask_for_pam() {
        let account = Account {
            name: "me".into(),
            uid: 1000.try_into().unwrap(),
            gid: 1000.try_into().unwrap(),
            home: "/home/me".into(),
            maildrop: None,
            rights: messages::Rights::Full,
        };
        let runner = Runner::Ordinary(account);
        let parse = |text: &str| Configuration::parse(text, runner.clone(), "h".into());
        assert!(parse("[auth]\nbackends = [\"pam\"]").is_err());
        let configuration = parse("").unwrap();
        assert_eq!(configuration.auth(&key()).backends, [Backend::UsersFile]);
        assert_eq!(
            configuration.state_directory(),
            Path::new("/home/me/.local/state/popa3d")
        );
    }

    #[test]
    fn apop_gives_the_greeting_a_host_only_when_it_is_on() {
        assert_eq!(parse("").unwrap().listener().apop_host, None);
        let configuration = parse("[auth]\napop_secrets = \"/etc/popa3d/apop\"").unwrap();
        assert_eq!(
            configuration.listener().apop_host.as_deref(),
            Some("host.example")
        );
        assert!(configuration.session().apop);
    }

    #[test]
    fn with_tls_passwords_come_in_the_clear_from_this_host_only_unless_it_says_more() {
        let tls = "[tls]\ncertificate = \"/c\"\nkey = \"/k\"\n";
        let rule = |text: &str| {
            let configuration = parse(&format!("{text}{tls}")).unwrap();
            configuration.session().advertised.cleartext.rule
        };
        assert_eq!(rule(""), Cleartext::Loopback);
        assert_eq!(rule("auth.cleartext = \"always\"\n"), Cleartext::Always);
        assert_eq!(rule("auth.cleartext = \"never\"\n"), Cleartext::Never);
    }

    fn key() -> DecoyKey {
        DecoyKey([7; 32])
    }

    #[test]
    fn scram_is_offered_where_there_are_verifiers_and_plus_where_there_is_tls() {
        let offered = |text: &str| {
            let names = parse(text).unwrap().session().advertised.mechanisms;
            let names: Vec<_> = names.iter().map(|mechanism| mechanism.name()).collect();
            names.join(" ")
        };
        let tls = "[tls]\ncertificate = \"/c\"\nkey = \"/k\"\n";
        let file = "auth.backends = [\"users-file\"]\n";
        let both = "auth.backends = [\"pam\", \"users-file\"]\n";
        assert_eq!(offered(""), "PLAIN LOGIN");
        assert_eq!(offered(both), "PLAIN LOGIN");
        assert_eq!(offered(file), "SCRAM-SHA-256 PLAIN LOGIN");
        assert_eq!(
            offered(&format!("{file}{tls}")),
            "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"
        );
        let wanted = "auth.mechanisms = [\"PLAIN\", \"SCRAM-SHA-1\", \"PLAIN\"]\n";
        assert_eq!(offered(&format!("{both}{wanted}")), "SCRAM-SHA-1 PLAIN");
        assert_eq!(offered("auth.mechanisms = []"), "");
        let error = parse(wanted).unwrap_err().to_string();
        assert!(error.starts_with("auth.mechanisms: "), "{error}");
        // EXTERNAL only where somebody vouches for certificates and it is said what their names are.
        let ca = "client_ca = \"/a\"\n";
        let by_address = "auth.external_user = \"email\"\n";
        assert_eq!(offered(&format!("{tls}{ca}")), "PLAIN LOGIN");
        assert_eq!(
            offered(&format!("{by_address}{tls}{ca}")),
            "EXTERNAL PLAIN LOGIN"
        );
        let plain = "auth.mechanisms = [\"PLAIN\"]\n";
        assert_eq!(offered(&format!("{plain}{by_address}{tls}{ca}")), "PLAIN");
        let error = parse(&format!("{by_address}{tls}"))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("auth.external_user: "), "{error}");
        let wanted = format!("auth.mechanisms = [\"EXTERNAL\"]\n{tls}{ca}");
        let error = parse(&wanted).unwrap_err().to_string();
        assert!(error.starts_with("auth.mechanisms: "), "{error}");
        let error = parse("[auth]\nmechanisms = [\"CRAM-MD5\"]").unwrap_err();
        assert!(error.to_string().contains("SCRAM-SHA-256-PLUS"), "{error}");
    }

    #[test]
    fn certificates_stand_alone_or_in_a_list_or_both() {
        let certificates = |text: &str| parse(text).map(|parsed| parsed.certificates().len());
        let one = "certificate = \"/c\"\nkey = \"/k\"\n";
        let more = format!("[[tls.certificates]]\n{one}");
        for (text, number) in [
            (format!("[tls]\n{one}"), Some(1)),
            (more.clone(), Some(1)),
            (format!("[tls]\n{one}{more}{more}"), Some(3)),
            ("[tls]\n".to_owned(), None),
            ("[tls]\ncertificate = \"/c\"\n".to_owned(), None),
            ("listen_tls = [\"0.0.0.0:995\"]".to_owned(), None),
            (more.repeat(65), None),
        ] {
            assert_eq!(certificates(&text).ok(), number, "{text}");
        }
    }

    pub(super) const OAUTH: &str = "[oauth]\nkeys = \"/k\"\nissuer = \"i\"\naudience = [\"a\"]\n";

    #[test]
    fn tokens_are_taken_only_where_somebody_checks_them() {
        use messages::SaslMechanism::{OAuthBearer, Plain, XOAuth2};
        let with = parse(OAUTH).unwrap();
        assert!(with.roles().any(|role| role == Role::Token));
        assert!(with.auth(&key()).tokens.is_some());
        let mechanisms = with.session().advertised.mechanisms;
        assert!(mechanisms.contains(&OAuthBearer) && mechanisms.contains(&XOAuth2));
        let without = parse("").unwrap();
        assert!(without.roles().all(|role| role != Role::Token));
        assert!(without.auth(&key()).tokens.is_none());
        assert!(
            !without
                .session()
                .advertised
                .mechanisms
                .contains(&OAuthBearer)
        );
        let one = "auth.mechanisms = [\"OAUTHBEARER\", \"PLAIN\"]\n";
        let mechanisms = parse(&format!("{one}{OAUTH}"))
            .unwrap()
            .session()
            .advertised
            .mechanisms;
        assert_eq!(mechanisms, [OAuthBearer, Plain]);
        let error = parse(one).unwrap_err().to_string();
        assert!(error.starts_with("auth.mechanisms: "), "{error}");
        let error = parse("[oauth]\n").unwrap_err().to_string();
        assert!(error.starts_with("oauth: "), "{error}");
    }

    #[test]
    fn there_is_a_locker_only_for_dotlocks_in_a_spool_of_root() {
        let directory = |text: &str| {
            let configuration = parse(text).unwrap();
            let locker = configuration.locker_directory().map(Path::to_owned);
            let is_role = configuration.roles().any(|role| role == Role::Locker);
            assert_eq!(is_role, locker.is_some());
            assert_eq!(configuration.users().locker.is_some(), locker.is_some());
            locker
        };
        let at = |location: &str| {
            directory(&format!(
                "[maildrop]\ndotlock = true\nlocation = \"{location}\"\n"
            ))
        };
        assert_eq!(directory(""), None);
        assert_eq!(
            directory("[maildrop]\ndotlock = true\n"),
            Some("/var/mail".into())
        );
        assert_eq!(at("mbox:/a/b/%n.mbox"), Some("/a/b".into()));
        for other in ["mbox:/a/%d/%n", "mbox:%h/Mailbox", "maildir:/a/b/%u"] {
            assert_eq!(at(other), None, "{other}");
        }
    }

    #[test]
    fn there_is_a_keyholder_only_with_tls() {
        let has_keyholder = |text: &str| {
            let configuration = parse(text).unwrap();
            configuration.roles().any(|role| role == Role::Keyholder)
        };
        assert!(!has_keyholder(""));
        assert!(has_keyholder("[tls]\ncertificate = \"/c\"\nkey = \"/k\"\n"));
    }
}
