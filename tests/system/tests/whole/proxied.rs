//! Clients behind a proxy, which says whose connection it passes on (PROXY protocol): believed from configured networks and from
//! nowhere else, and from there on the client is whom it names.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use system_tests::pop::Pop;
use system_tests::server::Server;
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;
use system_tests::{corpus, poll, program, run};

/// Where the proxy's connections come from.
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

/// An address that is no proxy's.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn setup() -> Setup {
    Setup::new()
        .set("proxy", "networks", &format!(r#"["{PROXY}/32"]"#))
        .set("limits", "source_hold", r#""0s""#)
}

/// A header of version 1 for a client of this address.
fn v1(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 198.51.100.7 56324 110\r\n").into_bytes()
}

/// A header of version 2 for the client 192.0.2.`n`, with a TLV that means nothing.
fn v2(n: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11".to_vec();
    header.extend([192, 0, 2, n, 198, 51, 100, 7, 0xdc, 4, 0, 110]);
    header.extend([0x04, 0, 2, 0, 0]);
    header
}

/// Version 2 of a proxy that speaks for itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// A connection from the proxy that begins with `octets`.
fn from_proxy(site: &Site, octets: &[u8]) -> Pop {
    let mut pop = Pop::dial_from(PROXY, site.address);
    pop.send(octets);
    pop
}

/// The peer in the log line of a login.
fn peer_of_login(server: &Server) -> String {
    let line = server.await_log("the login", |line| line.starts_with("login:"));
    let peer = line.split("peer=").nth(1).unwrap_or_default();
    peer.split([' ', ':']).next().unwrap_or_default().to_owned()
}

#[test]
fn limits_count_the_client_and_not_the_proxy() {
    let setup = setup().set("limits", "sessions_per_source", "2");
    setup.as_ordinary_user(|site| {
        let _server = site.serve();
        let mut held = Vec::new();
        for n in 1..=6 {
            let header = if n % 2 == 0 {
                v2(n)
            } else {
                v1(&format!("192.0.2.{n}"))
            };
            let mut pop = from_proxy(site, &header);
            assert!(pop.reply().ok, "one of many clients behind the proxy");
            held.push(pop);
        }
        let mut second = from_proxy(site, &v1("192.0.2.2"));
        assert!(second.reply().ok);
        let mut third = from_proxy(site, &v2(2));
        assert!(third.reply().text.starts_with("[SYS/TEMP]"));
        third.half_close();
        third.expect_closed();
        // What it counts for is the client, so its end makes room for that client.
        drop(second);
        poll::until("room for the client", || {
            from_proxy(site, &v2(2)).reply().ok.then_some(())
        });
    });
}

#[test]
fn networks_that_may_not_connect_may_not_by_a_proxy_either() {
    let setup = setup().set("limits", "deny", r#"["192.0.2.0/25"]"#);
    setup.as_ordinary_user(|site| {
        let _server = site.serve();
        assert!(
            from_proxy(site, &v2(7))
                .reply()
                .text
                .starts_with("[SYS/PERM]")
        );
        assert!(from_proxy(site, &v2(200)).reply().ok);
    });
}

#[test]
fn nothing_is_said_before_the_header_and_nothing_behind_it_is_lost() {
    setup().as_ordinary_user(|site| {
        let _server = site.serve();
        for header in [
            v1("192.0.2.1"),
            v2(1),
            LOCAL.to_vec(),
            b"PROXY UNKNOWN\r\n".to_vec(),
        ] {
            let mut pop = Pop::dial_from(PROXY, site.address);
            for octet in &header {
                assert_eq!(pop.arrived(Duration::ZERO), 0, "before the header is whole");
                pop.send(&[*octet]);
            }
            assert!(pop.reply().ok);
            pop.ok("CAPA");
            pop.lines();
            pop.ok("QUIT");
            // All at once.
            let mut pop = from_proxy(site, &[&header, &b"NOOP\r\nQUIT\r\n"[..]].concat());
            assert!(pop.reply().ok);
            assert!(!pop.reply().ok, "NOOP before login");
            assert!(pop.reply().ok);
            pop.expect_closed();
        }
    });
}

#[test]
fn a_header_from_elsewhere_is_bad_input_and_not_believed() {
    setup().as_ordinary_user(|site| {
        site.deliver(ALICE, b"");
        let server = site.serve();
        let mut pop = Pop::dial_from(STRANGER, site.address);
        assert!(pop.reply().ok, "greeted at once");
        pop.send(&v1("192.0.2.1"));
        assert!(!pop.reply().ok);
        pop.login(ALICE.name, ALICE.password);
        assert_eq!(peer_of_login(&server), STRANGER.to_string());
    });
}

#[test]
fn the_log_and_the_rule_on_cleartext_go_by_the_client() {
    let setup = setup().set("auth", "cleartext", r#""loopback""#);
    setup.as_ordinary_user(|site| {
        site.deliver(ALICE, b"");
        let server = site.serve();
        let mut remote = from_proxy(site, &v1("192.0.2.1"));
        assert!(remote.reply().ok);
        remote.err("USER alice");
        let mut here = from_proxy(site, &v1("127.0.0.77"));
        assert!(here.reply().ok);
        here.login(ALICE.name, ALICE.password);
        assert_eq!(peer_of_login(&server), "127.0.0.77");
    });
}

#[test]
fn a_proxy_that_speaks_for_itself_is_a_client_of_its_own_address() {
    let setup = setup().set("limits", "sessions_per_source", "1");
    setup.as_ordinary_user(|site| {
        site.deliver(ALICE, b"");
        let server = site.serve();
        let mut pop = from_proxy(site, LOCAL);
        assert!(pop.reply().ok);
        assert!(!from_proxy(site, b"PROXY UNKNOWN\r\n").reply().ok);
        pop.login(ALICE.name, ALICE.password);
        assert_eq!(peer_of_login(&server), PROXY.to_string());
    });
}

#[test]
fn without_a_header_a_proxy_is_closed_and_the_log_says_so_now_and_then() {
    let setup = setup().set("limits", "login_timeout", r#""1s""#);
    setup.as_ordinary_user(|site| {
        let server = site.serve();
        let hostile: [&[u8]; 4] = [
            b"USER alice\r\n",
            b"PROXY TCP4 x\r\n",
            b"\x16\x03\x01",
            &[b'P'; 300],
        ];
        for mut pop in hostile.map(|octets| from_proxy(site, octets)) {
            pop.expect_closed();
        }
        // Half a header, then nothing, or the end.
        let half = &v2(1)[..20];
        from_proxy(site, half).expect_closed();
        let mut ending = from_proxy(site, half);
        ending.half_close();
        ending.expect_closed();
        let line = server.await_log("the refusal", |line| line.contains("no PROXY header"));
        assert!(line.contains(&format!("peer={PROXY}")), "{line}");
        // One in ten seconds, whatever comes.
        let lines = server.log().matches("no PROXY header").count();
        assert!(lines < 6, "{}", server.log());
    });
}

#[test]
fn a_new_network_of_proxies_takes_a_reload() {
    Setup::new().as_ordinary_user(|site| {
        let mut server = site.serve();
        assert!(Pop::dial_from(PROXY, site.address).reply().ok);
        site.reconfigure(|setup| setup.set("proxy", "networks", r#"["127.0.0.8/30"]"#));
        server.reload();
        poll::until("the header to be read", || {
            let mut pop = from_proxy(site, &v1("192.0.2.1"));
            (pop.reply().ok && pop.try_send(b"QUIT\r\n") && pop.reply().ok).then_some(())
        });
    });
}

#[test]
fn curl_says_who_it_is() {
    setup().as_ordinary_user(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        let server = site.serve();
        let mut curl = Command::new("/usr/bin/curl");
        curl.args(["--silent", "--show-error", "--haproxy-protocol"])
            .args(["--interface", &PROXY.to_string()])
            .args(["--user", &format!("{}:{}", ALICE.name, ALICE.password)])
            .arg(format!("pop3://{}/1", site.address));
        let fetched = run::to_end(&mut curl, b"").expect_success("curl");
        assert!(!fetched.is_empty());
        assert_eq!(peer_of_login(&server), PROXY.to_string());
    });
}

/// Debian's haproxy, taken apart by `tests/run`; ended with the test.
struct Haproxy(Child);

impl Haproxy {
    /// Listens on a port for each of `servers`: the port, where the server listens, and how it is told of the client.
    fn start(site: &Site, servers: &[(u16, SocketAddr, &str)]) -> Haproxy {
        let haproxy = program::debian("usr/sbin/haproxy").expect("haproxy: run tests/run once");
        let mut text =
            "defaults\n mode tcp\n timeout connect 60s\n timeout client 60s\n timeout server 60s\n"
                .to_owned();
        for (port, server, how) in servers {
            text += &format!(
                "listen on-{port}\n bind 127.0.0.1:{port}\n server pop {server} {how} source {PROXY} check check-send-proxy inter 100\n"
            );
        }
        let configuration = site.directory.join("haproxy.cfg");
        fs::write(&configuration, text).expect("a configuration");
        let root = haproxy.ancestors().nth(3).expect("its root");
        let child = Command::new(&haproxy)
            .env("LD_LIBRARY_PATH", root.join("usr/lib/x86_64-linux-gnu"))
            .args(["-db", "-f"])
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("haproxy");
        Haproxy(child)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// A client that comes to haproxy from an address of its own; awaited, since haproxy has to find the server alive first.
fn by_haproxy(n: u8, port: u16) -> Pop {
    poll::until("haproxy", || {
        let address: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
        std::net::TcpStream::connect(address).ok()?;
        let mut pop = Pop::dial_from([127, 0, 0, n].into(), address);
        pop.try_reply().filter(|greeting| greeting.ok).map(|_| pop)
    })
}

#[test]
fn haproxy_passes_clients_on_in_both_versions() {
    let setup = setup().set("limits", "sessions_per_source", "1");
    setup.as_root(|site| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        let server = site.serve();
        let _haproxy = Haproxy::start(
            site,
            &[
                (4110, site.address, "send-proxy"),
                (4111, site.address, "send-proxy-v2"),
            ],
        );
        let held: Vec<Pop> = (21..=24)
            .map(|n| by_haproxy(n, 4110 + u16::from(n % 2)))
            .collect();
        // Each of these clients has the one connection that it may have.
        for n in 21..=24 {
            let address: SocketAddr = (Ipv4Addr::LOCALHOST, 4110).into();
            let mut more = Pop::dial_from([127, 0, 0, n].into(), address);
            assert!(!more.reply().ok);
        }
        drop(held);
        for port in [4110, 4111] {
            let mut pop = by_haproxy(30, port);
            pop.login(ALICE.name, ALICE.password);
            assert!(!pop.listing("RETR 1").is_empty());
            pop.ok("QUIT");
        }
        server.await_log("a login by its own address", |line| {
            line.starts_with("login:") && line.contains("peer=127.0.0.30")
        });
    });
}
