//! Sockets handed over by a service manager (sd_listen_fds(3)).

use std::process::Command;
use system_tests::corpus;
use system_tests::server::Server;
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;

/// What a service manager does: two listening sockets as descriptors 3 and 4, then the daemon in its own place.
const ACTIVATE: &str = r#"
import os, socket, sys
host, port = sys.argv[1], int(sys.argv[2])
kept = []
for number, family, address in [(3, socket.AF_INET, host), (4, socket.AF_INET6, "::1")]:
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((address, port))
    listening.listen(16)
    kept.append((number, os.dup2(listening.detach(), number + 20, inheritable=False)))
for number, socket_kept in kept:
    os.dup2(socket_kept, number)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="four:six")
os.execv(sys.argv[3], sys.argv[3:])
"#;

fn activated(site: &Site) -> Server {
    let server = site.command();
    let mut command = Command::new("/usr/bin/python3");
    command
        .env_clear()
        .envs(
            server
                .get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        )
        .args([
            "-c",
            ACTIVATE,
            &site.address.ip().to_string(),
            &site.address.port().to_string(),
        ])
        .arg(server.get_program())
        .args(server.get_args())
        .args(["-D", "-f"]);
    Server::start(command, &site.directory)
}

#[test]
fn inherited_sockets_are_served_instead_of_configured_ones() {
    // The configured address would need a port that this test does not have.
    Setup::new()
        .set("", "listen", r#"["192.0.2.1:110"]"#)
        .as_root(|site| {
            site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
            let server = activated(site);
            let mut pop = site.login(ALICE);
            assert!(pop.ok("STAT").starts_with("2 "));
            pop.ok("QUIT");
            pop.expect_closed();
            let six =
                std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, site.address.port()));
            let mut pop = system_tests::pop::Pop::connect(six);
            pop.login(ALICE.name, ALICE.password);
            pop.ok("QUIT");
            pop.expect_closed();
            server.stop();
        });
}
