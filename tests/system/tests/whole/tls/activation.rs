//! Sockets handed over by a service manager: which of them are for TLS at once.

use super::{Openssl, furnish, setup};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use system_tests::certificates::Kind;
use system_tests::server::Server;
use system_tests::site::Site;

/// What a service manager does: listening sockets as descriptors 3, 4 and 5, then the daemon in its own place.
const ACTIVATE: &str = r#"
import os, socket, sys
for number, port in enumerate([1110, 1995, 995], 3):
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(16)
    os.dup2(listening.detach(), number + 20, inheritable=False)
for number in [3, 4, 5]:
    os.dup2(number + 20, number)
os.environ.update(LISTEN_FDS="3", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="pop3:tls:other")
os.execv(sys.argv[1], sys.argv[1:])
"#;

fn activated(site: &Site) -> Command {
    let server = site.command();
    let mut command = Command::new("/usr/bin/python3");
    let environment = server.get_envs();
    command
        .env_clear()
        .envs(environment.filter_map(|(key, value)| Some((key, value?))))
        .args(["-c", ACTIVATE])
        .arg(server.get_program())
        .args(server.get_args())
        .args(["-D", "-f"]);
    command
}

#[test]
fn the_name_tls_or_the_port_of_pop3s_marks_a_socket_for_tls() {
    setup().as_root(|site| {
        furnish(Kind::P256, 0);
        let _server = Server::start(activated(site), &site.directory);
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Openssl::by_stls(at(1110)).connect().pop.ok("QUIT");
        for port in [1995, 995] {
            Openssl::to(at(port)).greeted().pop.ok("QUIT");
        }
    });
}

#[test]
fn a_socket_for_tls_without_a_certificate_does_not_start() {
    system_tests::site::Setup::new().as_root(|site| {
        let outcome = system_tests::run::to_end(&mut activated(site), b"");
        assert!(!outcome.status.success());
        assert!(
            outcome.errors.contains("[tls] is not configured"),
            "{}",
            outcome.errors
        );
    });
}
