//! The certificates, as far as the master has to do with them: it opens the files and passes them to the keyholder, which
//! reads them; the public parts come back and go to the session spawner. The master never reads a key.
//!
//! On SIGHUP the new ones are loaded beside the old. One that cannot be loaded leaves the old one in place.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, SystemTime};

use confine::channel::{Channel, ChannelError};
use messages::auth::ToAuth;
use messages::keyholder::{Certificate, CertificateNumber, ToKeyholder};
use messages::log::Record;
use messages::session::ToSessionSpawner;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

use crate::configuration::{CertificateFiles, Configuration};

/// The log warns so long before a certificate's end.
const WARNING: Duration = Duration::from_secs(14 * DAY);

const DAY: u64 = 24 * 60 * 60;

/// Besides the time that a login may take: a session's fork, and the last octets of its handshake.
const RETIREMENT_MARGIN: Duration = Duration::from_secs(60);

/// The others' permission to read or write: no key may give it.
const OTHERS: u32 = 0o007;

/// All certificates.
#[derive(Debug, Default)]
pub struct Certificates {
    slots: Vec<Slot>,
    /// In the keyholder, and in the place of which there are others.
    replaced: Vec<CertificateNumber>,
    /// Loaded since they were last told of.
    news: bool,
    next: u32,
    arrivals: Vec<Record>,
    complaints: Vec<String>,
}

/// A place in the configuration's list.
#[derive(Debug)]
struct Slot {
    files: CertificateFiles,
    current: Option<Certificate>,
    /// Sent to the keyholder, and not answered.
    awaited: Option<CertificateNumber>,
}

impl Certificates {
    /// Has the keyholder load what is configured. With `afresh`, it is a new one and knows none yet.
    pub fn load(&mut self, keyholder: &Channel, configuration: &Configuration, afresh: bool) {
        let files = configuration.certificates();
        let kept = files.len().min(self.slots.len());
        for gone in self.slots.drain(kept..) {
            self.replaced.extend(gone.current.map(|old| old.number));
        }
        if afresh {
            self.replaced.clear();
            for slot in &mut self.slots {
                slot.current = None;
            }
        }
        // Also where only their order or the authorities have changed.
        self.news = true;
        for (at, files) in files.into_iter().enumerate() {
            match self.slots.get_mut(at) {
                Some(slot) => slot.files = files,
                None => self.slots.push(Slot {
                    files,
                    current: None,
                    awaited: None,
                }),
            }
            let number = CertificateNumber(self.next);
            self.next = self.next.wrapping_add(1);
            let slot = &mut self.slots[at];
            match send(keyholder, number, &slot.files) {
                Ok(()) => slot.awaited = Some(number),
                Err(problem) => {
                    slot.awaited = None;
                    self.complaints.push(problem);
                }
            }
        }
    }

    /// The keyholder has loaded one, or not.
    pub fn loaded(&mut self, number: CertificateNumber, outcome: Result<Certificate, String>) {
        let slot = self
            .slots
            .iter_mut()
            .find(|slot| slot.awaited == Some(number));
        let Some(slot) = slot else {
            // Overtaken by another reload.
            self.replaced.push(number);
            return;
        };
        slot.awaited = None;
        match outcome {
            Ok(certificate) => {
                self.arrivals.push(
                    Record::info("certificate loaded")
                        .with("file", slot.files.certificate.display())
                        .with("names", certificate.names.join(","))
                        .with("key", format_args!("{:?}", certificate.key))
                        .with("days_left", days_left(&certificate, SystemTime::now())),
                );
                let old = slot.current.replace(certificate);
                self.replaced.extend(old.map(|old| old.number));
            }
            Err(problem) => self.complaints.push(format!(
                "{} with {}: {problem}",
                slot.files.certificate.display(),
                slot.files.key.display()
            )),
        }
    }

    /// True once after each load, when all that was sent has been answered: time to [tell](Self::tell) and to
    /// [retire](Self::retire).
    pub fn settled(&mut self) -> bool {
        let settled = self.slots.iter().all(|slot| slot.awaited.is_none());
        settled && std::mem::take(&mut self.news)
    }

    /// Whether an answer is awaited.
    pub fn is_awaited(&self) -> bool {
        self.slots.iter().any(|slot| slot.awaited.is_some())
    }

    /// Tells a session spawner of the certificates that there are.
    ///
    /// # Errors
    /// It does not take them; it is about to be started anew.
    pub fn tell(
        &mut self,
        spawner: &Channel,
        configuration: &Configuration,
    ) -> Result<(), ChannelError> {
        for certificate in self.slots.iter().filter_map(|slot| slot.current.as_ref()) {
            let message = ToSessionSpawner::Certificate(certificate.clone());
            spawner.try_send(&message, &[])?;
        }
        if let Some(path) = configuration.client_authorities() {
            match open(path, 0) {
                Ok(file) => {
                    spawner.try_send(&ToSessionSpawner::ClientAuthorities, &[file.as_fd()])?;
                }
                Err(problem) => self.complaints.push(problem),
            }
        }
        spawner.try_send(&ToSessionSpawner::UseCertificates, &[])
    }

    /// Tells auth which certificates are the server's own and who vouches for clients', where a client may log in by one.
    ///
    /// # Errors
    /// It does not take them; it is about to be started anew.
    pub fn tell_auth(
        &mut self,
        auth: &Channel,
        configuration: &Configuration,
    ) -> Result<(), ChannelError> {
        if let Some(path) = configuration
            .client_authorities()
            .filter(|_| configuration.has_external())
        {
            for certificate in self.slots.iter().filter_map(|slot| slot.current.as_ref()) {
                if let Some(own) = certificate.chain.first() {
                    auth.try_send(&ToAuth::OwnCertificate(own.clone()), &[])?;
                }
            }
            match open(path, 0) {
                Ok(file) => auth.try_send(&ToAuth::ClientAuthorities, &[file.as_fd()])?,
                Err(problem) => self.complaints.push(problem),
            }
        }
        let kept = kept(configuration);
        auth.try_send(&ToAuth::UseCertificates { kept }, &[])
    }

    /// Tells the keyholder which certificates only sessions that have begun use.
    pub fn retire(&mut self, keyholder: &Channel, configuration: &Configuration) {
        let kept = kept(configuration);
        for number in self.replaced.drain(..) {
            // One that does not take it is about to be started anew.
            drop(keyholder.try_send(&ToKeyholder::Retire { number, kept }, &[]));
        }
    }

    /// What has gone wrong since this was last asked, a sentence each.
    pub fn take_complaints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.complaints)
    }

    /// A line for each certificate that has been loaded since this was last asked.
    pub fn take_arrivals(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.arrivals)
    }

    /// A line for each certificate that is about to expire.
    pub fn warnings(&self, now: SystemTime) -> impl Iterator<Item = Record> {
        self.current().filter_map(move |(files, certificate)| {
            let left = days_left(certificate, now);
            let record = match left {
                ..0 => Record::error("certificate has expired"),
                _ if Duration::from_secs(left.unsigned_abs() * DAY) < WARNING => {
                    Record::warning("certificate expires")
                }
                _ => return None,
            };
            Some(
                record
                    .with("file", files.certificate.display())
                    .with("days_left", left),
            )
        })
    }

    fn current(&self) -> impl Iterator<Item = (&CertificateFiles, &Certificate)> {
        self.slots
            .iter()
            .filter_map(|slot| Some((&slot.files, slot.current.as_ref()?)))
    }
}

/// Looks at all files without reading them: are they there, and is no key open to everybody?
///
/// # Errors
/// One sentence about the first that will not do.
pub fn check(configuration: &Configuration) -> Result<(), String> {
    for files in configuration.certificates() {
        open(&files.certificate, 0)?;
        open(&files.key, OTHERS)?;
    }
    if let Some(path) = configuration.client_authorities() {
        open(path, 0)?;
    }
    Ok(())
}

/// How long a session may still use what has been replaced.
fn kept(configuration: &Configuration) -> Duration {
    let login = configuration.listener().login_timeout;
    login.saturating_add(RETIREMENT_MARGIN)
}

/// Whole days to a certificate's end; negative behind it.
fn days_left(certificate: &Certificate, now: SystemTime) -> i64 {
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let days = |seconds: u64| i64::try_from(seconds / DAY).unwrap_or(i64::MAX);
    match certificate.not_after.checked_sub(now) {
        Some(left) => days(left),
        None => -1 - days(now - certificate.not_after),
    }
}

fn send(
    keyholder: &Channel,
    number: CertificateNumber,
    files: &CertificateFiles,
) -> Result<(), String> {
    let certificate = open(&files.certificate, 0)?;
    let key = open(&files.key, OTHERS)?;
    keyholder
        .try_send(
            &ToKeyholder::Load(number),
            &[certificate.as_fd(), key.as_fd()],
        )
        .map_err(|error| format!("keyholder: {error}"))
}

/// Opens a file that gives none of these permissions. Links are followed: that is how certificates are renewed.
pub fn open(path: &Path, forbidden: u32) -> Result<File, String> {
    let in_file = |problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    // Without waiting, should it be a pipe.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = openat(CWD, path, flags, Mode::empty())
        .map_err(|error| in_file(&io::Error::from(error)))?;
    let stat = fstat(&file).map_err(|error| in_file(&io::Error::from(error)))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(in_file(&"not a regular file"));
    }
    if stat.st_mode & forbidden != 0 {
        return Err(in_file(
            &"others than its owner and group may use it (chmod o= helps)",
        ));
    }
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Runner;
    use confine::channel::Received;
    use messages::keyholder::KeyKind;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    /// A directory with `certificate` and `key`, and the configuration that names them so many times.
    fn site(times: usize) -> (tempfile::TempDir, Configuration) {
        let directory = tempfile::tempdir().unwrap();
        for name in ["certificate", "key"] {
            let path = directory.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        }
        let configuration = configuration(directory.path(), times);
        (directory, configuration)
    }

    fn configuration(directory: &Path, times: usize) -> Configuration {
        let directory = directory.display();
        let pair = format!(
            "[[tls.certificates]]\ncertificate = \"{directory}/certificate\"\nkey = \"{directory}/key\"\n"
        );
        Configuration::parse(&pair.repeat(times), Runner::Root, "h".into()).unwrap()
    }

    fn certificate(number: CertificateNumber, not_after: u64) -> Certificate {
        Certificate {
            number,
            chain: Vec::new(),
            key: KeyKind::EcdsaP256,
            names: Vec::new(),
            not_after,
            end_point: None,
        }
    }

    fn sent(channel: &Channel) -> Vec<ToKeyholder> {
        std::iter::from_fn(|| match channel.try_receive().unwrap() {
            Some(Received::Message(message, _)) => Some(message),
            _ => None,
        })
        .collect()
    }

    fn numbers(messages: &[ToKeyholder]) -> Vec<CertificateNumber> {
        let number = |message: &ToKeyholder| match message {
            ToKeyholder::Load(number) | ToKeyholder::Retire { number, .. } => *number,
            other => panic!("{other:?}"),
        };
        messages.iter().map(number).collect()
    }

    #[test]
    fn a_new_certificate_takes_the_place_of_the_old_and_a_bad_one_does_not() {
        let (_directory, configuration) = site(2);
        let (keyholder, theirs) = Channel::pair().unwrap();
        let mut certificates = Certificates::default();
        certificates.load(&keyholder, &configuration, true);
        let first = numbers(&sent(&theirs));
        assert_eq!(first.len(), 2);
        for &number in &first {
            assert!(!certificates.settled());
            certificates.loaded(number, Ok(certificate(number, 0)));
        }
        assert!(certificates.settled() && !certificates.settled());
        certificates.load(&keyholder, &configuration, false);
        let second = numbers(&sent(&theirs));
        certificates.loaded(second[0], Ok(certificate(second[0], 0)));
        certificates.loaded(second[1], Err("no key".into()));
        let complaints = certificates.take_complaints();
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("/key: no key"), "{complaints:?}");
        let current: Vec<_> = certificates.current().map(|(_, it)| it.number).collect();
        assert_eq!(current, [second[0], first[1]]);
        certificates.retire(&keyholder, &configuration);
        assert_eq!(numbers(&sent(&theirs)), [first[0]]);
    }

    #[test]
    fn an_answer_that_comes_after_another_reload_is_retired() {
        let (directory, configuration) = site(1);
        let (keyholder, theirs) = Channel::pair().unwrap();
        let mut certificates = Certificates::default();
        certificates.load(&keyholder, &configuration, true);
        certificates.load(&keyholder, &configuration, false);
        let numbers_sent = numbers(&sent(&theirs));
        for &number in &numbers_sent {
            certificates.loaded(number, Ok(certificate(number, 0)));
        }
        certificates.retire(&keyholder, &configuration);
        assert_eq!(numbers(&sent(&theirs)), [numbers_sent[0]]);
        // One that is taken out of the configuration, too.
        certificates.load(
            &keyholder,
            &super::tests::configuration(directory.path(), 0),
            false,
        );
        certificates.retire(&keyholder, &configuration);
        assert_eq!(numbers(&sent(&theirs)), [numbers_sent[1]]);
    }

    #[test]
    fn a_key_that_everybody_may_read_is_refused_and_named() {
        let (directory, configuration) = site(1);
        let key = directory.path().join("key");
        let (keyholder, _theirs) = Channel::pair().unwrap();
        for (mode, good) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false)] {
            fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
            let mut certificates = Certificates::default();
            certificates.load(&keyholder, &configuration, true);
            let complaints = certificates.take_complaints();
            assert_eq!(complaints.is_empty(), good, "{mode:o}: {complaints:?}");
            assert!(good || complaints[0].starts_with(&key.display().to_string()));
            assert_eq!(check(&configuration).is_ok(), good);
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let (directory, configuration) = site(1);
        let (keyholder, _theirs) = Channel::pair().unwrap();
        fs::remove_file(directory.path().join("certificate")).unwrap();
        for make in [false, true] {
            if make {
                fs::create_dir(directory.path().join("certificate")).unwrap();
            }
            let mut certificates = Certificates::default();
            certificates.load(&keyholder, &configuration, true);
            assert_eq!(certificates.take_complaints().len(), 1);
        }
    }

    #[test]
    fn the_log_warns_from_a_fortnight_before_the_end() {
        let (_directory, configuration) = site(1);
        let (keyholder, _theirs) = Channel::pair().unwrap();
        let mut certificates = Certificates::default();
        certificates.load(&keyholder, &configuration, true);
        let number = CertificateNumber(0);
        certificates.loaded(number, Ok(certificate(number, 100 * DAY)));
        let days = |day: u64| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(day * DAY + 1);
            let warnings: Vec<_> = certificates.warnings(now).collect();
            assert!(warnings.len() <= 1);
            warnings.first().map(|warning| {
                (
                    warning.level == messages::log::Level::Error,
                    warning.fields[1].1.clone(),
                )
            })
        };
        assert_eq!(days(50), None);
        assert_eq!(days(85), None);
        assert_eq!(days(86), Some((false, "13".into())));
        assert_eq!(days(99), Some((false, "0".into())));
        assert_eq!(days(100), Some((true, "-1".into())));
        assert_eq!(days(101), Some((true, "-2".into())));
    }
}
