//! Virtual domains both ways: by `user@domain`, and by the address connected to.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use system_tests::corpus;
use system_tests::machine;
use system_tests::pop::Pop;
use system_tests::site::{Setup, Site};
use system_tests::users::{ALICE, BOB, SERVICE};

/// A file that auth may read and nobody else.
fn for_auth(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    fs::write(path, text).expect("a file");
    chown(path, Some(0), Some(SERVICE[1].1)).expect("its owner");
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).expect("its mode");
}

fn mailbox(path: &Path, owner: u32, messages: usize) {
    let directory = path.parent().expect("a directory");
    fs::create_dir_all(directory).expect("a directory");
    fs::set_permissions(directory, fs::Permissions::from_mode(0o2775)).expect("its mode");
    chown(directory, Some(0), Some(machine::mail_group())).expect("its owner");
    fs::write(path, corpus::mbox(&corpus::many(messages))).expect("a mailbox");
    chown(path, Some(owner), Some(owner)).expect("its owner");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode");
}

fn messages(site: &Site, address: IpAddr, name: &str, password: &str) -> Option<String> {
    let mut pop = Pop::connect(SocketAddr::new(address, site.address.port()));
    pop.ok(&format!("USER {name}"));
    if !pop.ask(&format!("PASS {password}")).ok {
        return None;
    }
    let count = pop.ok("STAT").split(' ').next().map(str::to_owned);
    pop.ok("QUIT");
    count
}

#[test]
fn a_name_with_a_domain_selects_the_maildrop() {
    let setup = Setup::new()
        .set("auth", "backends", r#"["users-file"]"#)
        .set("auth", "failure_delay", r#""1ms""#)
        .set("maildrop", "location", r#""mbox:/srv/%d/%n""#);
    setup.as_root(|site| {
        rustix::mount::mount(
            "tmpfs",
            "/srv",
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            c"mode=0755",
        )
        .expect("/srv");
        let line = |name: &str, hash: &str, id: u32| format!("{name}:{hash}:{id}:{id}\n");
        let users = [
            line("info@one.example", ALICE.hash, 6001),
            line("info@two.example", BOB.hash, 6002),
            line("info@..", ALICE.hash, 6001),
            line("..@one.example", ALICE.hash, 6001),
        ];
        for_auth(Path::new("/etc/popa3d/users"), &users.concat());
        mailbox(Path::new("/srv/one.example/info"), 6001, 1);
        mailbox(Path::new("/srv/two.example/info"), 6002, 2);
        let _server = site.serve();
        let here = site.address.ip();
        assert_eq!(
            messages(site, here, "info@one.example", ALICE.password).as_deref(),
            Some("1")
        );
        assert_eq!(
            messages(site, here, "info@two.example", BOB.password).as_deref(),
            Some("2")
        );
        assert_eq!(messages(site, here, "info@one.example", BOB.password), None);
        assert_eq!(messages(site, here, "info", ALICE.password), None);
        assert_eq!(
            messages(site, here, "info@..", ALICE.password),
            None,
            "a name that leads elsewhere"
        );
        assert_eq!(
            messages(site, here, "..@one.example", ALICE.password),
            None,
            "a name that leads elsewhere"
        );
    });
}

#[test]
fn the_address_connected_to_selects_the_domain() {
    let setup = Setup::new()
        .set("", "listen", r#"["0.0.0.0:110"]"#)
        .set("address_domains", "home", r#""/home/vhome""#)
        .set("auth", "failure_delay", r#""1ms""#);
    setup.as_root(|site| {
        let home = Path::new("/home/vhome/127.0.0.2");
        for_auth(
            &home.join("auth/info"),
            &format!("alice:{}:more\n", BOB.hash),
        );
        mailbox(&home.join("mail/info"), ALICE.id, 3);
        site.deliver(ALICE, &corpus::mbox(&corpus::many(1)));
        let _server = site.serve();
        let (first, second): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        assert_eq!(
            messages(site, second, "info", BOB.password).as_deref(),
            Some("3")
        );
        assert_eq!(messages(site, second, "info", ALICE.password), None);
        assert_eq!(
            messages(site, second, "alice", ALICE.password),
            None,
            "no system user in a virtual domain"
        );
        assert_eq!(messages(site, second, "../auth/info", BOB.password), None);
        assert_eq!(
            messages(site, first, "info", BOB.password),
            None,
            "only at its address"
        );
        assert_eq!(
            messages(site, first, "alice", ALICE.password).as_deref(),
            Some("1"),
            "elsewhere as always"
        );
    });
}

#[test]
fn the_address_that_a_proxy_names_selects_the_domain() {
    let setup = Setup::new()
        .set("proxy", "networks", r#"["127.0.0.9/32"]"#)
        .set("address_domains", "home", r#""/home/vhome""#);
    setup.as_root(|site| {
        let home = Path::new("/home/vhome/198.51.100.7");
        let line = format!("alice:{}:more\n", BOB.hash);
        for_auth(&home.join("auth/info"), &line);
        mailbox(&home.join("mail/info"), ALICE.id, 3);
        let _server = site.serve();
        let mut pop = Pop::dial_from([127, 0, 0, 9].into(), site.address);
        pop.send(b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 110\r\n");
        assert!(pop.reply().ok);
        pop.login("info", BOB.password);
        assert!(pop.ok("STAT").starts_with("3 "));
    });
}
