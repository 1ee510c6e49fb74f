//! System call filters that cannot be installed: what a kernel without any says, and an error where there are some.

use super::{Openssl, furnish, setup, tls_address, with_server};
use std::process::Command;
use system_tests::certificates::Kind;
use system_tests::corpus;
use system_tests::server::Server;
use system_tests::strace::{STRACE, Strace};
use system_tests::users::ALICE;

/// As a kernel answers that has no filters.
const NO_FILTERS: &str = "inject=seccomp:error=EINVAL";

/// The same to a process that is under a filter: what is called instead has to be on its list.
const REFUSED: &str = "inject=seccomp:error=EINVAL:syscall=getpid";

#[test]
fn without_filters_in_the_kernel_everybody_is_served_and_told() {
    setup().as_root(|site| {
        furnish(Kind::P256, 0);
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        let popa3d = site.command();
        let mut command = Command::new(STRACE);
        // The tracer is not the parent: that is the test.
        command.args(["-D", "-f", "-qq", "-e", "trace=seccomp", "-e", NO_FILTERS]);
        command.arg("-o").arg(site.directory.join("trace"));
        command.arg(popa3d.get_program()).args(popa3d.get_args());
        command.args(["-D", "-f"]).env_clear().current_dir("/");
        let server = Server::start(command, &site.directory);
        let mut tls = Openssl::to(tls_address()).greeted();
        let mut clear = site.connect();
        clear.ok("USER bob");
        tls.pop.login(ALICE.name, ALICE.password);
        assert!(tls.pop.ok("STAT").starts_with("2 "));
        tls.pop.ok("QUIT");
        tls.pop.expect_closed();
        let log = server.log();
        let reported = log
            .lines()
            .filter(|line| line.contains("protection missing") && line.contains("seccomp filters"));
        assert_eq!(reported.count(), 5, "{log}");
    });
}

#[test]
fn a_child_of_a_spawner_that_cannot_be_confined_serves_nobody() {
    with_server(setup(), Kind::P256, |site, server| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        let trace = site.directory.join("trace");
        let refused = ["trace=seccomp", REFUSED];

        let strace = Strace::attach(&[server.role("session spawner")], &refused, &trace);
        let mut pop = site.connect();
        pop.send_line("NOOP");
        pop.expect_closed();
        server.await_log("reason", |line| {
            line.contains("session not confined") && line.contains("seccomp: ")
        });
        drop(strace);

        let _strace = Strace::attach(&[server.role("spawner")], &refused, &trace);
        let mut pop = site.connect();
        pop.ok(&format!("USER {}", ALICE.name));
        pop.send_line(&format!("PASS {}", ALICE.password));
        // By the session, if the maildrop process has gone before it is given the client.
        let answer = pop.try_reply();
        assert!(answer.is_none_or(|reply| reply.code() == Some("SYS/TEMP")));
        server.await_log("reason", |line| {
            line.contains("maildrop process failed") && line.contains("seccomp: ")
        });
    });
}

#[test]
fn a_relay_that_cannot_be_confined_serves_nobody() {
    with_server(setup(), Kind::P256, |site, server| {
        site.deliver(ALICE, &corpus::mbox(&corpus::many(2)));
        let mut tls = Openssl::to(tls_address()).greeted();
        tls.pop.ok(&format!("USER {}", ALICE.name));
        let trace = site.directory.join("trace");
        let session = [server.role("session")];
        let _strace = Strace::attach(&session, &["trace=seccomp", REFUSED], &trace);
        tls.pop.send_line(&format!("PASS {}", ALICE.password));
        tls.pop.expect_closed();
        server.await_log("reason", |line| {
            line.contains("connection lost") && line.contains("relay not confined: seccomp: ")
        });
    });
}
