//! The server started for each connection by the programs that do so: openbsd-inetd, socat, systemd.

use crate::clients;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use system_tests::site::{Setup, Site};
use system_tests::{poll, program, run};

/// A super-server, ended with the test.
struct SuperServer(Child);

impl SuperServer {
    fn start(command: &mut Command, address: SocketAddr) -> SuperServer {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .expect("the super-server");
        let server = SuperServer(child);
        poll::until("the super-server to listen", || {
            std::net::TcpStream::connect(address).ok()
        });
        server
    }
}

impl Drop for SuperServer {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// Lets every client fetch the corpus through the super-server on `port`.
fn serves_every_client(site: &Site, port: u16) {
    for client in clients::ALL {
        clients::fetches_the_corpus(client, site, ([127, 0, 0, 1], port).into());
    }
}

#[test]
fn every_client_is_served_through_openbsd_inetd() {
    Setup::new().as_root(|site| {
        let inetd = program::debian("usr/sbin/inetd").expect("inetd: run tests/run once");
        std::fs::write("/etc/services", "pop3 110/tcp\n").expect("/etc/services");
        let command = site.command();
        let mut line = format!(
            "127.0.0.1:pop3 stream tcp nowait.1000 root {} popa3d",
            site.program.path.display()
        );
        for argument in command.get_args() {
            line += &format!(" {}", argument.display());
        }
        std::fs::write("/etc/inetd.conf", line + "\n").expect("/etc/inetd.conf");
        let mut inetd = Command::new(inetd);
        inetd
            .args(["-d", "/etc/inetd.conf"])
            .stderr(Stdio::null())
            .stdout(Stdio::null());
        let _inetd = SuperServer::start(&mut inetd, site.address);
        serves_every_client(site, site.address.port());
    });
}

#[test]
fn every_client_is_served_through_socat() {
    Setup::new().as_root(|site| {
        assert!(
            run::is_installed("socat"),
            "socat is missing: apt-get install socat"
        );
        let words: Vec<_> = std::iter::once(site.program.path.as_os_str())
            .chain(site.command().get_args())
            .map(|word| word.display().to_string())
            .collect();
        let mut socat = Command::new("socat");
        socat
            .arg("TCP-LISTEN:1100,bind=127.0.0.1,reuseaddr,fork")
            .arg(format!("EXEC:{},nofork", words.join(" ")));
        let _socat = SuperServer::start(&mut socat, ([127, 0, 0, 1], 1100).into());
        serves_every_client(site, 1100);
    });
}
