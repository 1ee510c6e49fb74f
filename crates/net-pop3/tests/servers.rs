//! The same sessions with real servers: this project's, Debian's popa3d, and Dovecot in the clear, after STLS and in TLS.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};

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

/// What is asked of every server. Afterwards its maildrop is empty.
fn check(server: &str, builder: &Builder) {
    let enter = || -> Session<Transaction> {
        let connect = || {
            builder
                .clone()
                .connect()
                .unwrap_or_else(|error| panic!("{server}: {error}"))
        };
        // Another session may be about to end.
        poll::until("the maildrop", || connect().login(&credentials()).ok())
    };
    let expected: Vec<Vec<u8>> = messages()
        .iter()
        .map(|message| with_crlf(message))
        .collect();

    let mut session = enter();
    assert_eq!(
        session.stat().unwrap().messages as usize,
        expected.len(),
        "{server}"
    );
    let listing = session.listing().unwrap();
    let octets: Vec<u64> = expected
        .iter()
        .map(|message| message.len() as u64)
        .collect();
    assert_eq!(
        listing
            .iter()
            .map(|listing| listing.octets)
            .collect::<Vec<_>>(),
        octets,
        "{server}"
    );
    assert_eq!(session.list(2).unwrap(), octets[1]);
    let id = session.uidl(2).unwrap();
    assert_eq!(listing[1].unique_id.as_ref(), Some(&id));
    let mut messages = session.retr_all(&listing);
    for expected in &expected {
        let message = messages.next_message().unwrap().unwrap().to_vec().unwrap();
        assert!(
            message == *expected,
            "{server}: {}",
            message[..message.len().min(200)].escape_ascii()
        );
    }
    assert!(messages.next_message().is_none());
    let header = session.top(1, 1).unwrap().to_vec().unwrap();
    assert!(
        header.starts_with(b"Subject: dots\r\n\r\n.\r\n") && !header.ends_with(b".x\r\n"),
        "{server}"
    );
    assert!(session.retr(1000).unwrap_err().refusal().is_some());
    session.noop().unwrap();
    session.dele(1).unwrap();
    assert!(session.retr(1).unwrap_err().refusal().is_some());
    session.rset().unwrap();
    assert_eq!(session.retr(1).unwrap().to_vec().unwrap(), expected[0]);
    session.dele_all(&listing).unwrap();
    drop(session);

    // Nothing is deleted by what was dropped.
    let mut session = enter();
    assert_eq!(
        session.stat().unwrap().messages as usize,
        expected.len(),
        "{server}"
    );
    assert_eq!(session.uidl(2).unwrap(), id, "{server}");
    let outcomes = session.dele_all(listing.iter().skip(1)).unwrap();
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()));
    session.quit().unwrap();
    let mut session = enter();
    assert_eq!(session.stat().unwrap().messages, 1, "{server}");
    session.dele(1).unwrap();
    session.quit().unwrap();

    let wrong = Credentials::password(ALICE.name, "wrong");
    let failed = builder
        .clone()
        .connect()
        .unwrap()
        .login(&wrong)
        .unwrap_err();
    assert!(failed.error().refusal().is_some(), "{server}: {failed}");
}

fn plain(address: SocketAddr) -> Builder {
    Pop3::builder()
        .host(address.ip().to_string())
        .port(address.port())
        .security(Security::Plain)
}

#[test]
fn this_projects_server() {
    Setup::new().as_ordinary_user(|site| {
        site.deliver(ALICE, &mbox());
        let _server = site.serve();
        check("popa3d (ours)", &plain(site.address));
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
        let tls = TlsOptions::nobody()
            .add_ca_pem(CERTIFICATES.ca.as_bytes())
            .unwrap();
        for (security, port) in [
            (Security::Tls, address.port()),
            (Security::Starttls, site.address.port()),
        ] {
            site.deliver(ALICE, &mbox());
            let builder = Pop3::builder()
                .host("127.0.0.1")
                .port(port)
                .security(security)
                .tls(tls.clone());
            check(&format!("popa3d (ours) {security:?}"), &builder);
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
                let session = builder.clone().connect().unwrap();
                session
                    .auth(mechanism, &credentials())
                    .unwrap_or_else(|failed| panic!("{mechanism}: {failed}"));
            }
        }
    });
}

#[cfg(feature = "tokio")]
#[test]
fn this_projects_server_by_tokio() {
    Setup::new().as_ordinary_user(|site| {
        site.deliver(ALICE, &mbox());
        let _server = site.serve();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let builder = net_pop3::tokio::Pop3::builder()
                .host("127.0.0.1")
                .port(site.address.port());
            let session = builder.security(Security::Plain).connect().await.unwrap();
            let mut session = session.login(&credentials()).await.unwrap();
            let listing = session.listing().await.unwrap();
            let mut received = session.retr_all(&listing);
            for expected in messages() {
                let message = received
                    .next_message()
                    .await
                    .unwrap()
                    .unwrap()
                    .to_vec()
                    .await
                    .unwrap();
                assert!(message == with_crlf(&expected));
            }
            session.dele_all(&listing).await.unwrap();
            session.quit().await.unwrap();
        });
        assert_eq!(fs::read(site.mailbox(ALICE)).unwrap(), b"");
    });
}

#[test]
fn debians_popa3d() {
    let Some(original) = Program::original() else {
        return run::skipped("no Debian popa3d; tests/run takes one apart");
    };
    Setup::new().as_root(|site| {
        site.deliver(ALICE, &mbox());
        let command = Command::new(&original.path);
        let _server = Server::start_original(command, &site.directory, site.address);
        check("popa3d (Debian)", &plain(site.address));
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
         auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256\ndisable_plaintext_auth = no\n\
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
        let tls = TlsOptions::nobody()
            .add_ca_pem(CERTIFICATES.ca.as_bytes())
            .unwrap();
        for (security, port) in [
            (Security::Plain, 1110),
            (Security::Starttls, 1110),
            (Security::Tls, 1995),
        ] {
            site.deliver(ALICE, &mbox());
            let builder = Pop3::builder()
                .host("127.0.0.1")
                .port(port)
                .security(security)
                .tls(tls.clone());
            check(&format!("Dovecot {security:?}"), &builder);
            for mechanism in [
                Mechanism::Plain,
                Mechanism::Login,
                Mechanism::CramMd5,
                Mechanism::ScramSha1,
                Mechanism::ScramSha256,
            ] {
                let connect = || builder.clone().connect().unwrap();
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
