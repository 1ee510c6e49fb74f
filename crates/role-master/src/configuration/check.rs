//! What types cannot say: relations between values, and what a value must be to be of use.

use maildrop::Location;
use messages::SaslMechanism;
use messages::auth::Backend;
use messages::keyholder::MAX_CERTIFICATES;

use super::{Configuration, ConfigurationError, Runner};

impl Configuration {
    /// Refuses what no role could work with.
    pub(super) fn check(&self) -> Result<(), ConfigurationError> {
        let backends = self.backends();
        if backends.is_empty() {
            return Err(ConfigurationError::in_key(
                "auth.backends",
                "names no backend; allowed: \"pam\", \"shadow\", \"users-file\"",
            ));
        }
        if matches!(self.runner, Runner::Ordinary(_)) && backends != [Backend::UsersFile] {
            return Err(ConfigurationError::in_key(
                "auth.backends",
                "only [\"users-file\"] works where the server is not started by root",
            ));
        }
        if self.file.limits.login_attempts == 0 {
            return Err(ConfigurationError::in_key(
                "limits.login_attempts",
                "must be at least 1",
            ));
        }
        if self.file.auth.workers == 0 {
            return Err(ConfigurationError::in_key(
                "auth.workers",
                "must be at least 1",
            ));
        }
        let scram = |mechanisms: &Vec<SaslMechanism>| mechanisms.iter().any(|it| it.is_scram());
        if self.file.auth.mechanisms.as_ref().is_some_and(scram)
            && !backends.contains(&Backend::UsersFile)
            && self.derived_verifiers().is_none()
        {
            return Err(ConfigurationError::in_key(
                "auth.mechanisms",
                "SCRAM needs \"users-file\" in auth.backends, or auth.derive_verifiers: no other store has what it is verified by",
            ));
        }
        let takes_token =
            |mechanisms: &Vec<SaslMechanism>| mechanisms.iter().any(|it| it.takes_token());
        if self.file.auth.mechanisms.as_ref().is_some_and(takes_token) && !self.has_oauth() {
            return Err(ConfigurationError::in_key(
                "auth.mechanisms",
                "OAUTHBEARER and XOAUTH2 need [oauth]: nobody else could check a token",
            ));
        }
        if let Some(oauth) = &self.file.oauth {
            let in_key = |(key, problem): (&str, String)| ConfigurationError::in_key(key, problem);
            oauth.token().map_err(in_key)?;
        }
        let external =
            |mechanisms: &Vec<SaslMechanism>| mechanisms.contains(&SaslMechanism::External);
        if self.file.auth.mechanisms.as_ref().is_some_and(external)
            && self.file.auth.external_user.is_none()
        {
            return Err(ConfigurationError::in_key(
                "auth.mechanisms",
                "EXTERNAL needs auth.external_user: what of a certificate is a user's name",
            ));
        }
        if self.file.auth.external_user.is_some() && self.client_authorities().is_none() {
            return Err(ConfigurationError::in_key(
                "auth.external_user",
                "needs tls.client_ca: who vouches for clients' certificates",
            ));
        }
        self.check_tls()?;
        Location::parse(&self.file.maildrop.location)
            .map_err(|error| ConfigurationError::in_key("maildrop.location", error))?;
        for (key, text) in [
            ("auth.failed_message", &self.file.auth.failed_message),
            ("log.ident", &self.file.log.ident),
        ] {
            if text.is_empty()
                || text.len() > 200
                || text.bytes().any(|b| !(b' '..=b'~').contains(&b))
            {
                return Err(ConfigurationError::in_key(
                    key,
                    "must be 1 to 200 printable ASCII characters",
                ));
            }
        }
        if let Some(setting) = &self.file.auth.dummy_setting
            && !setting.is_ascii()
        {
            return Err(ConfigurationError::in_key(
                "auth.dummy_setting",
                "must be a setting as in crypt(5)",
            ));
        }
        Ok(())
    }

    fn check_tls(&self) -> Result<(), ConfigurationError> {
        let Some(tls) = &self.file.tls else {
            return if self.file.listen_tls.is_empty() {
                Ok(())
            } else {
                Err(ConfigurationError::in_key(
                    "listen_tls",
                    "needs [tls] with certificate and key",
                ))
            };
        };
        if tls.certificate.is_some() != tls.key.is_some() {
            return Err(ConfigurationError::in_key(
                "tls",
                "certificate and key belong together",
            ));
        }
        let number = self.certificates().len();
        if !(1..=MAX_CERTIFICATES).contains(&number) {
            return Err(ConfigurationError::in_key(
                "tls",
                format_args!("1 to {MAX_CERTIFICATES} certificates are needed"),
            ));
        }
        if tls.handshakes_per_second == 0 {
            return Err(ConfigurationError::in_key(
                "tls.handshakes_per_second",
                "must be at least 1",
            ));
        }
        Ok(())
    }
}
