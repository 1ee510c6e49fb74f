//! The same sessions with real servers: this project's, Debian's popa3d, and Dovecot in the clear, after STLS and in TLS.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
#[cfg(feature = "tokio")]
use std::time::Duration;

use net_pop3::blocking::{Builder, Pop3, Session};
use net_pop3::{Credentials, Mechanism, Security, TlsOptions, Transaction};
use sasl::scram::{Hash, Verifier};
use scripted_server::certificate::CERTIFICATES;
use system_tests::program::{self, Program};
use system_tests::server::Server;
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;
use system_tests::{poll, run};

/// Mail that breaks clients, as it lies in an mbox.
fn messages() -> Vec<Vec<u8>> {
    let mut messages = vec![
        b"Subject: dots\n\n.\n..\n.x\n\n".to_vec(),
        b"Subject: 8-bit\n\n\xe4\xf6\xfc \xff\n".to_vec(),
        [b"Subject: long line\n\n", &[b'x'; 100_000][..], b"\n"].concat(),
        b"Subject: no body\n\n".to_vec(),
    ];
    for number in 0..60 {
        messages.push(format!("Subject: {number}\n\n{}", "some text\n".repeat(500)).into_bytes());
    }
    messages
}

fn mbox() -> Vec<u8> {
    let each = messages().into_iter().flat_map(|message| {
        [
            &b"From somebody Thu Jan  1 00:00:00 1970\n"[..],
            &message,
            b"\n",
        ]
        .concat()
    });
    each.collect()
}

fn with_crlf(message: &[u8]) -> Vec<u8> {
    let lines = message.split_inclusive(|octet| *octet == b'\n');
    lines
        .flat_map(|line| [line.strip_suffix(b"\n").unwrap_or(line), b"\r\n"].concat())
        .collect()
}

fn credentials() -> Credentials {
    Credentials::password(ALICE.name, ALICE.password)
}

macro_rules! now {
    ($result:expr) => {
        $result
    };
}

#[cfg(feature = "tokio")]
macro_rules! awaited {
    ($future:expr) => {
        $future.await
    };
}

/// What is asked of every server, by either driver. Afterwards its maildrop is empty.
macro_rules! check {
    ($name:ident, driver: $driver:ident, async: [$($async:ident)?], wait: $wait:ident, enter: $enter:ident) => {
        $($async)? fn $name(server: &str, builder: net_pop3::$driver::Builder) {
            let expected: Vec<Vec<u8>> = messages().iter().map(|message| with_crlf(message)).collect();
            let octets: Vec<u64> = expected.iter().map(|message| message.len() as u64).collect();

            let mut session = $wait!($enter(server, builder.clone()));
            // Debian's popa3d greets by "+OK" alone.
            assert_eq!(session.banner().is_empty(), server.starts_with("popa3d (Debian)"), "{server}");
            let stat = $wait!(session.stat()).unwrap();
            assert_eq!((stat.messages as usize, stat.octets), (expected.len(), octets.iter().sum()), "{server}");
            let listing = $wait!(session.listing()).unwrap();
            assert_eq!(listing.iter().map(|listing| listing.octets).collect::<Vec<_>>(), octets, "{server}");
            let sizes = $wait!(session.list_all()).unwrap();
            assert_eq!(sizes.iter().map(|(_, octets)| *octets).collect::<Vec<_>>(), octets, "{server}");
            assert_eq!($wait!(session.list(2)).unwrap(), octets[1], "{server}");
            let id = $wait!(session.uidl(2)).unwrap();
            assert_eq!(listing[1].unique_id.as_ref(), Some(&id), "{server}");
            let ids = $wait!(session.uidl_all()).unwrap();
            let each = $wait!(session.uidl_each(&listing)).unwrap();
            for ((one, (number, all)), (_, each)) in listing.iter().zip(&ids).zip(&each) {
                assert_eq!((one.number, one.unique_id.as_ref()), (*number, Some(all)), "{server}");
                assert_eq!(each.as_ref().ok(), Some(all), "{server}");
            }

            // Pipelined if the server allows it, and one by one.
            for window in [0, 1024 * 1024] {
                drop(session);
                session = $wait!($enter(server, builder.clone().window(window)));
                let mut received = session.retr_all(&listing);
                for expected in &expected {
                    let message = $wait!(received.next_message()).unwrap().unwrap();
                    let message = $wait!(message.to_vec()).unwrap();
                    assert!(
                        message == *expected,
                        "{server}: {}",
                        message[..message.len().min(200)].escape_ascii()
                    );
                }
                assert!($wait!(received.next_message()).is_none());
            }
            let header = $wait!($wait!(session.top(1, 1)).unwrap().to_vec()).unwrap();
            assert!(header.starts_with(b"Subject: dots\r\n\r\n.\r\n") && !header.ends_with(b".x\r\n"), "{server}");
            let mut headers = session.top_all([2, 1000, 4], 0);
            for (subject, is_there) in [("Subject: 8-bit", true), ("", false), ("Subject: no body", true)] {
                let Ok(header) = $wait!(headers.next_message()).unwrap() else {
                    assert!(!is_there, "{server}");
                    continue;
                };
                let header = $wait!(header.to_vec()).unwrap();
                assert!(is_there && header.starts_with(subject.as_bytes()), "{server}");
            }
            assert!($wait!(session.retr(1000)).unwrap_err().refusal().is_some(), "{server}");
            $wait!(session.noop()).unwrap();
            $wait!(session.ping()).unwrap();
            // Not every server knows these, and then says so.
            let spoken = [
                $wait!(session.capa()).map(drop),
                $wait!(session.utf8()),
                $wait!(session.lang("*")).map(drop),
                $wait!(session.languages()).map(drop),
                $wait!(session.last()).map(drop),
            ];
            for outcome in spoken {
                if let Err(error) = outcome {
                    assert!(error.refusal().is_some(), "{server}: {error}");
                }
            }
            $wait!(session.dele(1)).unwrap();
            assert!($wait!(session.retr(1)).unwrap_err().refusal().is_some(), "{server}");
            $wait!(session.rset()).unwrap();
            assert_eq!($wait!($wait!(session.retr(1)).unwrap().to_vec()).unwrap(), expected[0], "{server}");
            // One that is given up half-way.
            let _unread = $wait!(session.retr(3)).unwrap();
            $wait!(session.dele_all(&listing)).unwrap();
            drop(session);

            // Nothing is deleted by what was dropped.
            let mut session = $wait!($enter(server, builder.clone().lf_line_ends()));
            assert_eq!($wait!(session.stat()).unwrap().messages as usize, expected.len(), "{server}");
            assert_eq!($wait!(session.uidl(2)).unwrap(), id, "{server}");
            assert_eq!($wait!($wait!(session.retr(1)).unwrap().to_vec()).unwrap(), messages()[0], "{server}");
            let outcomes = $wait!(session.dele_all(listing.iter().skip(1))).unwrap();
            assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{server}");
            $wait!(session.quit()).unwrap();
            let mut session = $wait!($enter(server, builder.clone()));
            assert_eq!($wait!(session.stat()).unwrap().messages, 1, "{server}");
            $wait!(session.dele(1)).unwrap();
            $wait!(session.quit()).unwrap();

            let wrong = Credentials::password(ALICE.name, "wrong");
            let session = $wait!(builder.connect()).unwrap();
            let failed = $wait!(session.login(&wrong)).unwrap_err();
            assert!(failed.error().refusal().is_some(), "{server}: {failed}");
        }
    };
}

check! { check_blocking, driver: blocking, async: [], wait: now, enter: enter }
#[cfg(feature = "tokio")]
check! { check_tokio, driver: tokio, async: [async], wait: awaited, enter: enter_by_tokio }

/// Another session may be about to end, so it may take a while.
fn enter(server: &str, builder: Builder) -> Session<Transaction> {
    let connect = || {
        let session = builder.clone().connect();
        session.unwrap_or_else(|error| panic!("{server}: {error}"))
    };
    poll::until("the maildrop", || connect().login(&credentials()).ok())
}

#[cfg(feature = "tokio")]
async fn enter_by_tokio(
    server: &str,
    builder: net_pop3::tokio::Builder,
) -> net_pop3::tokio::Session<Transaction> {
    for _ in 0..1000 {
        let session = builder.clone().connect().await;
        let session = session.unwrap_or_else(|error| panic!("{server}: {error}"));
        match session.login(&credentials()).await {
            Ok(session) => return session,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    panic!("{server}: the maildrop is not to be had");
}

/// How to reach a server.
struct Way {
    name: String,
    address: SocketAddr,
    security: Security,
    tls: TlsOptions,
}

impl Way {
    fn new(name: &str, address: SocketAddr, security: Security) -> Way {
        Way {
            name: format!("{name}, {security:?}"),
            address,
            security,
            tls: TlsOptions::nobody()
                .add_ca_pem(CERTIFICATES.ca.as_bytes())
                .unwrap(),
        }
    }

    fn builder(&self) -> Builder {
        Pop3::builder()
            .host(self.address.ip().to_string())
            .port(self.address.port())
            .security(self.security)
            .tls(self.tls.clone())
    }

    /// By both drivers, if both are there.
    fn check(&self, site: &Site<'_>) {
        site.deliver(ALICE, &mbox());
        check_blocking(&self.name, self.builder());
        #[cfg(feature = "tokio")]
        {
            site.deliver(ALICE, &mbox());
            let builder = net_pop3::tokio::Pop3::builder()
                .host(self.address.ip().to_string())
                .port(self.address.port())
                .security(self.security)
                .tls(self.tls.clone());
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(check_tokio(&format!("{} by tokio", self.name), builder));
        }
    }
}

#[test]
fn this_projects_server() {
    // SCRAM takes a second where nothing is optimized; it has a test of its own.
    let setup = Setup::new().set("auth", "mechanisms", r#"["PLAIN"]"#);
    setup.as_ordinary_user(|site| {
        let _server = site.serve();
        Way::new("popa3d (ours)", site.address, Security::Plain).check(site);
    });
}

#[test]
fn this_projects_server_by_apop() {
    Setup::new().as_ordinary_user(|site| {
        let secrets = site.directory.join("apop");
        fs::write(&secrets, format!("{}:secret\n", ALICE.name)).unwrap();
        let owner = fs::metadata(site.directory.join("users")).unwrap().uid();
        chown(&secrets, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&secrets, Permissions::from_mode(0o600)).unwrap();
        let secrets = format!("\"{}\"", secrets.display());
        site.reconfigure(|setup| setup.set("auth", "apop_secrets", &secrets));
        let _server = site.serve();
        let way = Way::new("popa3d (ours)", site.address, Security::Plain);
        let connect = || way.builder().connect().unwrap();
        let failed = connect().apop(ALICE.name, "wrong").unwrap_err();
        assert!(failed.error().refusal().is_some(), "{failed}");
        connect()
            .apop(ALICE.name, "secret")
            .unwrap()
            .quit()
            .unwrap();
    });
}

/// With TLS, and a verifier that serves every mechanism, SCRAM bound to the channel as well.
#[test]
fn this_projects_server_in_tls() {
    Setup::new().as_ordinary_user(|site| {
        let owner = fs::metadata(site.directory.join("users")).unwrap().uid();
        for (name, text) in [
            ("certificate", &CERTIFICATES.certificate),
            ("key", &CERTIFICATES.key),
        ] {
            let path = site.directory.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            chown(&path, Some(owner), Some(owner)).unwrap();
        }
        let verifier = Verifier::derive(
            Hash::Sha256,
            ALICE.password.as_bytes(),
            b"salt of 16 octet",
            4096,
        )
        .unwrap();
        fs::write(
            site.directory.join("users"),
            format!("{}:{}\n", ALICE.name, verifier.to_text()),
        )
        .unwrap();
        let address = SocketAddr::new(site.address.ip(), site.address.port() + 1);
        site.reconfigure(|setup| {
            let file = |name: &str| format!("\"{}\"", site.directory.join(name).display());
            setup
                .set("", "listen_tls", &format!("[\"{address}\"]"))
                .set("tls", "certificate", &file("certificate"))
                .set("tls", "key", &file("key"))
                .set("auth", "failure_delay", "\"1ms\"")
        });
        let server = site.serve();
        for (security, address) in [(Security::Tls, address), (Security::Starttls, site.address)] {
            let way = Way::new("popa3d (ours)", address, security);
            way.check(site);
            // The login of `check` chose the strongest.
            server.await_log("the login", |line| {
                line.contains(" method=SCRAM-SHA-256-PLUS ")
            });
            for mechanism in [
                Mechanism::Plain,
                Mechanism::Login,
                Mechanism::ScramSha256,
                Mechanism::ScramSha256Plus,
            ] {
                let session = way.builder().connect().unwrap();
                session
                    .auth(mechanism, &credentials())
                    .unwrap_or_else(|failed| panic!("{mechanism}: {failed}"));
            }
        }
    });
}

#[test]
fn this_projects_server_in_utf8_and_its_languages() {
    let mail = "From somebody Thu Jan  1 00:00:00 1970\nSubject: \u{e9}\n\nx\n";
    let setup = Setup::new().set("protocol", "utf8", r#""refuse""#);
    setup.as_ordinary_user(|site| {
        site.deliver(ALICE, mail.as_bytes());
        let _server = site.serve();
        let builder = Pop3::builder()
            .host(site.address.ip().to_string())
            .port(site.address.port())
            .security(Security::Plain);
        let mut connected = builder.clone().connect().unwrap();
        let offered = connected.capa().unwrap();
        assert!(offered.utf8 && !offered.utf8_user && offered.lang);
        assert_eq!(connected.languages().unwrap()[0], "en English");
        assert!(
            connected
                .lang("i-default")
                .unwrap()
                .starts_with("i-default")
        );
        assert!(connected.lang("mul").unwrap_err().refusal().is_some());
        let mut session = connected.login(&credentials()).unwrap();
        assert!(session.retr(1).unwrap_err().refusal().is_some());
        // After the login, as some clients send it.
        session.utf8().unwrap();
        let message = session.retr(1).unwrap().to_vec().unwrap();
        assert_eq!(message, "Subject: \u{e9}\r\n\r\nx\r\n".as_bytes());
        session.quit().unwrap();
        let mut connected = builder.connect().unwrap();
        connected.utf8().unwrap();
        let mut session = connected.login(&credentials()).unwrap();
        assert_eq!(session.retr(1).unwrap().to_vec().unwrap(), message);
    });
}

#[test]
fn debians_popa3d() {
    let Some(original) = Program::original() else {
        return run::skipped("no Debian popa3d; tests/run takes one apart");
    };
    Setup::new().as_root(|site| {
        let command = Command::new(&original.path);
        let _server = Server::start_original(command, &site.directory, site.address);
        Way::new("popa3d (Debian)", site.address, Security::Plain).check(site);
    });
}

/// A Dovecot in its own mount namespace; dropping it stops it.
struct Dovecot {
    master: Child,
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

/// `None` where there is none.
fn dovecot(site: &Site<'_>) -> Option<Dovecot> {
    let program = program::debian("usr/sbin/dovecot")
        .filter(|_| program::debian("usr/lib/dovecot/pop3-login").is_some())?;
    // Its paths are compiled in: what was taken apart is laid over the machine's own.
    let apart = program.ancestors().nth(2)?;
    if apart != Path::new("/usr") {
        let lower = format!("lowerdir={}:/usr", apart.display());
        let mount = Command::new("mount")
            .args(["-t", "overlay", "-o", &lower, "overlay", "/usr"])
            .status();
        assert!(mount.is_ok_and(|status| status.success()), "cannot mount");
    }
    let directory = &site.directory;
    let at = |name: &str| directory.join(name).display().to_string();
    fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
    for name in ["run", "indexes"] {
        fs::create_dir(directory.join(name)).unwrap();
    }
    chown(directory.join("indexes"), Some(ALICE.id), Some(ALICE.id)).unwrap();
    fs::write(directory.join("certificate"), &CERTIFICATES.certificate).unwrap();
    fs::write(directory.join("key"), &CERTIFICATES.key).unwrap();
    let user = format!(
        "{}:{{PLAIN}}{}:{}:{}::{}::\n",
        ALICE.name,
        ALICE.password,
        ALICE.id,
        ALICE.id,
        at("indexes")
    );
    fs::write(directory.join("passwd"), user).unwrap();
    let configuration = format!(
        "base_dir = {run}\nstate_dir = {run}\nlog_path = {log}\nprotocols = pop3\nlisten = 127.0.0.1\n\
         default_internal_user = nobody\ndefault_internal_group = nogroup\ndefault_login_user = nobody\n\
         auth_mechanisms = plain login apop cram-md5 scram-sha-1 scram-sha-256\ndisable_plaintext_auth = no\n\
         ssl = yes\nssl_cert = <{certificate}\nssl_key = <{key}\n\
         passdb {{\n driver = passwd-file\n args = scheme=PLAIN {passwd}\n}}\n\
         userdb {{\n driver = passwd-file\n args = {passwd}\n}}\n\
         mail_location = mbox:{indexes}:INBOX=/var/mail/%u\nmbox_write_locks = fcntl\nauth_failure_delay = 0\n\
         mail_privileged_group = mail\n\
         service pop3-login {{\n chroot =\n inet_listener pop3 {{\n port = 1110\n }}\n inet_listener pop3s {{\n port = 1995\n }}\n}}\n\
         service anvil {{\n chroot =\n unix_listener anvil-auth-penalty {{\n mode = 0\n }}\n}}\n",
        run = at("run"),
        log = at("dovecot.log"),
        certificate = at("certificate"),
        key = at("key"),
        passwd = at("passwd"),
        indexes = at("indexes"),
    );
    fs::write(directory.join("dovecot.conf"), configuration).unwrap();
    let master = Command::new("/usr/sbin/dovecot")
        .args(["-F", "-c", &at("dovecot.conf")])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let started = Dovecot { master };
    poll::until("Dovecot to listen", || {
        std::net::TcpStream::connect("127.0.0.1:1995").ok()
    });
    Some(started)
}

#[test]
fn dovecot_in_the_clear_after_stls_and_in_tls() {
    Setup::new().as_root(|site| {
        let Some(_dovecot) = dovecot(site) else {
            return run::skipped("no Dovecot; tests/run takes one apart");
        };
        for (security, port) in [
            (Security::Plain, 1110),
            (Security::Starttls, 1110),
            (Security::Tls, 1995),
        ] {
            let way = Way::new("Dovecot", ([127, 0, 0, 1], port).into(), security);
            way.check(site);
            let connect = || way.builder().connect().unwrap();
            let failed = connect().apop(ALICE.name, "wrong").unwrap_err();
            assert!(failed.error().refusal().is_some(), "{failed}");
            connect().apop(ALICE.name, ALICE.password).unwrap();
            for mechanism in [
                Mechanism::Plain,
                Mechanism::Login,
                Mechanism::CramMd5,
                Mechanism::ScramSha1,
                Mechanism::ScramSha256,
            ] {
                connect()
                    .auth(mechanism, &credentials())
                    .unwrap_or_else(|failed| panic!("{mechanism}: {failed}"));
                let wrong = Credentials::password(ALICE.name, "wrong");
                let failed = connect().auth(mechanism, &wrong).unwrap_err();
                assert!(failed.error().refusal().is_some(), "{mechanism}: {failed}");
            }
        }
    });
}
