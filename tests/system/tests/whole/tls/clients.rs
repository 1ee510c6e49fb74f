//! Real clients fetch the corpus by STLS and by TLS at once, each with its verification of the server on.

use super::{PORT, furnish, setup, tls_address, with_users_server};
use crate::clients::{Client, Reader, fetches_the_corpus, is_present, with_lf};
use std::net::SocketAddr;
use system_tests::certificates::{DIRECTORY, HOST, Kind};
use system_tests::corpus::Message;
use system_tests::run;
use system_tests::site::Site;
use system_tests::users::ALICE;

/// Runs `client` against both ways to TLS.
fn fetches_by_tls(client: &Client) {
    if !is_present(client) {
        return;
    }
    setup()
        .set("auth", "cleartext", "\"never\"")
        .as_root(|site: &Site| {
            furnish(Kind::P256, 0);
            let _server = site.serve();
            for address in [site.address, tls_address()] {
                fetches_the_corpus(client, site, address);
            }
        });
}

fn is_stls(address: SocketAddr) -> bool {
    address != tls_address()
}

fn authority() -> String {
    format!("{DIRECTORY}/authority.pem")
}

const CURL: Client = Client {
    program: "curl",
    package: "curl",
    fetch: |reader| {
        let (scheme, port) = if is_stls(reader.server) {
            ("pop3", reader.server.port())
        } else {
            ("pop3s", reader.server.port())
        };
        let mut curl = reader.command("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--ssl-reqd",
            "--cacert",
            &authority(),
        ])
        .args(["--user", &format!("{}:{}", ALICE.name, ALICE.password)])
        .arg(format!("{scheme}://{HOST}:{port}/[1-{}]", reader.messages))
        .args(["--output", "message-#1"]);
        run::to_end(&mut curl, b"").expect_success("curl");
        reader.numbered_files("message-")
    },
    hands_on: |message| message.sent.clone(),
    rewrites: &[],
};

#[test]
fn curl_fetches_by_tls() {
    fetches_by_tls(&CURL);
}

/// The header comes ahead of everything, of TLS at once as of the greeting in the clear.
#[test]
fn curl_says_who_it_is_ahead_of_tls() {
    let setup = setup().set("proxy", "networks", r#"["127.0.0.9/32"]"#);
    with_users_server(setup, |site, server| {
        site.deliver(ALICE, b"");
        for (scheme, port) in [("pop3s", PORT), ("pop3", site.address.port())] {
            let mut curl = std::process::Command::new("curl");
            curl.args([
                "--silent",
                "--show-error",
                "--ssl-reqd",
                "--haproxy-protocol",
            ])
            .args(["--interface", "127.0.0.9", "--cacert", &authority()])
            .args(["--user", &format!("{}:{}", ALICE.name, ALICE.password)])
            .arg(format!("{scheme}://{HOST}:{port}/"));
            run::to_end(&mut curl, b"").expect_success("curl");
        }
        server.await_log("a login", |line| {
            line.starts_with("login:") && line.contains("peer=127.0.0.9")
        });
    });
}

const POPLIB_SCRIPT: &str = r#"
import poplib, ssl, sys
host, port, stls, authority, user, password = sys.argv[1:]
poplib._MAXLINE = 64 * 1024 * 1024
context = ssl.create_default_context(cafile=authority)
if stls == "stls":
    pop = poplib.POP3(host, int(port), timeout=60)
    pop.stls(context)
else:
    pop = poplib.POP3_SSL(host, int(port), timeout=60, context=context)
pop.user(user)
pop.pass_(password)
count, total = pop.stat()
for number in range(1, count + 1):
    lines = pop.retr(number)[1]
    with open(f"message-{number}", "wb") as file:
        file.write(b"".join(line + b"\r\n" for line in lines))
pop.quit()
"#;

fn stls_word(reader: &Reader) -> &'static str {
    if is_stls(reader.server) {
        "stls"
    } else {
        "tls"
    }
}

const POPLIB: Client = Client {
    program: "python3",
    package: "python3",
    fetch: |reader| {
        let port = reader.server.port().to_string();
        let mut python = reader.command("/usr/bin/python3");
        python
            .args(["-c", POPLIB_SCRIPT, HOST, &port, stls_word(reader)])
            .args([&authority(), ALICE.name, ALICE.password]);
        run::to_end(&mut python, b"").expect_success("poplib");
        reader.numbered_files("message-")
    },
    hands_on: |message| message.sent.clone(),
    rewrites: &[],
};

#[test]
fn poplib_fetches_by_tls() {
    fetches_by_tls(&POPLIB);
}

const NET_POP3_SCRIPT: &str = r#"
use strict; use warnings; use Net::POP3;
my ($host, $port, $stls, $authority, $user, $password) = @ARGV;
my %verify = (SSL_ca_file => $authority, SSL_verify_mode => 1, SSL_hostname => $host);
my $pop = Net::POP3->new($host, Port => $port, Timeout => 60, $stls eq 'tls' ? (SSL => 1, %verify) : ())
    or die "connect: $@";
$pop->starttls(%verify) or die "STLS: " . $pop->message if $stls eq 'stls';
my $count = $pop->login($user, $password) // die "login: " . $pop->message;
for my $number (1 .. $count) {
    my $lines = $pop->get($number) or die "RETR $number: " . $pop->message;
    open my $file, '>:raw', "message-$number" or die $!;
    print $file @$lines;
    close $file or die $!;
}
$pop->quit or die "QUIT";
"#;

const NET_POP3: Client = Client {
    program: "perl",
    package: "libio-socket-ssl-perl",
    fetch: |reader| {
        let port = reader.server.port().to_string();
        let mut perl = reader.command("/usr/bin/perl");
        perl.args(["-e", NET_POP3_SCRIPT, HOST, &port, stls_word(reader)])
            .args([&authority(), ALICE.name, ALICE.password]);
        run::to_end(&mut perl, b"").expect_success("Net::POP3");
        reader.numbered_files("message-")
    },
    // By TLS it leaves line ends as they are.
    hands_on: |message| message.sent.clone(),
    rewrites: &[],
};

#[test]
fn net_pop3_fetches_by_tls() {
    fetches_by_tls(&NET_POP3);
}

const MPOP: Client = Client {
    program: "mpop",
    package: "mpop",
    fetch: |reader| {
        let starttls = if is_stls(reader.server) { "on" } else { "off" };
        let configuration = reader.write(
            "mpoprc",
            &format!(
                "account default\nhost {HOST}\nport {}\ntls on\ntls_starttls {starttls}\ntls_trust_file {}\n\
                 auth user\nuser {}\npassword {}\nkeep on\nonly_new off\nreceived_header off\n\
                 uidls_file {}.uidls\n\
                 delivery mda \"/bin/sh -c 'cat > message-$(ls | grep -c message- | xargs expr 1 +)'\"\n",
                reader.server.port(),
                authority(),
                ALICE.name,
                ALICE.password,
                ALICE.name,
            ),
        );
        let mut mpop = reader.command("mpop");
        mpop.arg("-C").arg(configuration);
        run::to_end(&mut mpop, b"").expect_success("mpop");
        reader.numbered_files("message-")
    },
    hands_on: with_lf,
    rewrites: &[],
};

#[test]
fn mpop_fetches_by_tls() {
    fetches_by_tls(&MPOP);
}

/// As without TLS: `stripcr`, its default for a delivery agent, removes bare CRs too.
fn without_cr(message: &Message) -> Vec<u8> {
    let octets = message.sent.iter().copied();
    octets.filter(|octet| *octet != b'\r').collect()
}

const FETCHMAIL: Client = Client {
    program: "fetchmail",
    package: "fetchmail",
    fetch: |reader| {
        let tls = if is_stls(reader.server) {
            "sslproto \"TLS1.2+\""
        } else {
            "ssl"
        };
        let configuration = reader.write(
            "fetchmailrc",
            &format!(
                "set invisible\n\
                 poll {HOST} service {} protocol pop3 auth password no dns\n\
                 user \"{}\" password \"{}\" fetchall keep no rewrite stripcr pass8bits {tls} sslcertck \
                 sslcertfile \"{}\"\n\
                 mda \"/bin/sh -c 'cat > message-$(ls | grep -c message- | xargs expr 1 +)'\"\n",
                reader.server.port(),
                ALICE.name,
                ALICE.password,
                authority(),
            ),
        );
        let mut fetchmail = reader.command("fetchmail");
        fetchmail.arg("--fetchmailrc").arg(configuration).args([
            "--idfile",
            "ids",
            "--pidfile",
            "pid",
            "-v",
            "-v",
        ]);
        run::to_end(&mut fetchmail, b"").expect_success("fetchmail");
        reader.numbered_files("message-")
    },
    hands_on: without_cr,
    rewrites: &["long-line", "no-header"],
};

#[test]
fn fetchmail_fetches_by_tls() {
    fetches_by_tls(&FETCHMAIL);
}

/// What gnutls' client says of a server; it speaks the STLS itself.
#[test]
fn gnutls_verifies_the_server_both_ways() {
    if !run::is_installed("gnutls-cli") {
        return run::skipped("needs Debian's gnutls-bin");
    }
    setup().as_root(|site| {
        furnish(Kind::P256, 0);
        let _server = site.serve();
        for address in [site.address, tls_address()] {
            let mut gnutls = std::process::Command::new("/usr/bin/gnutls-cli");
            gnutls
                .args(["--x509cafile", &authority(), "--alpn", "pop3"])
                .args(["--port", &address.port().to_string()]);
            if is_stls(address) {
                gnutls.arg("--starttls-proto=pop3");
            }
            gnutls.arg(HOST);
            let outcome = run::to_end(&mut gnutls, b"QUIT\r\n");
            let text = String::from_utf8_lossy(&outcome.output).into_owned();
            assert!(outcome.status.success(), "{text}\n{}", outcome.errors);
            assert!(text.contains("The certificate is trusted"), "{text}");
        }
    });
}
