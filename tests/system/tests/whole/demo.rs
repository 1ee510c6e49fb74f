//! The first thing a visitor types: a server with scratch mail, and the commands it prints.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use system_tests::poll;
use system_tests::processes::Process;
use system_tests::run;
use system_tests::site::Setup;

#[test]
fn the_demo_serves_mail_to_the_command_it_prints_and_cleans_up() {
    Setup::new().as_ordinary_user(|site| {
        let mut command = site.bare_command();
        let mut demo = command
            .arg("--demo")
            .env("TMPDIR", &site.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the demo");
        let mut lines = BufReader::new(demo.stdout.take().expect("its output")).lines();
        let mut line = || lines.next().expect("another line").expect("text");
        let curl = poll::until("the command", || {
            Some(line()).filter(|line| line.contains("curl"))
        });
        let words: Vec<&str> = curl
            .split('#')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        assert!(
            run::is_installed("curl"),
            "curl is missing: apt-get install curl"
        );
        let list = run::to_end(Command::new(words[0]).arg("-sS").args(&words[1..]), b"")
            .expect_success("curl");
        assert!(list.starts_with(b"1 "), "{}", list.escape_ascii());
        let mailbox = poll::until("the mailbox", || {
            Some(line()).filter(|line| line.contains("mailbox is"))
        });
        let path = mailbox
            .split(' ')
            .find(|word| word.starts_with('/'))
            .expect("a path");
        let path = std::path::Path::new(path.trim_end_matches([';', '.', ',']));
        assert!(path.exists(), "{mailbox}");
        Process::numbered(demo.id()).signal(rustix::process::Signal::INT);
        assert!(demo.wait().expect("its end").success());
        assert!(!path.exists(), "it is removed");
    });
}
