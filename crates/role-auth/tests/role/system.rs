//! The system's own users: passwd, shadow and PAM, made up in a mount name space of this test's own.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use confine::identity::{Identity, NonRootGid};
use messages::auth::{AddressDomains, AuthConfig, Backend, Denial};
use messages::role::Confinement;

use messages::Rights;

use crate::app_passwords::{line, password};
use crate::rig::{CHEAP_HASH, PATIENCE, Rig, USER, assert_same_cost, field};

/// name, uid, the rest of the shadow line behind the name; CHEAP stands for the hash of `secret`.
const USERS: [(&str, u32, &str); 10] = [
    ("joe", USER, "CHEAP:19000:0:99999:7:::"),
    ("ann", USER + 1, "CHEAP:19000:0:99999:7:::"),
    ("locked", USER + 2, "!CHEAP:19000:0:99999:7:::"),
    ("expired", USER + 3, "CHEAP:19000:0:99999:7::19001:"),
    ("aged", USER + 4, "CHEAP:10000:0:30:7:::"),
    ("empty", USER + 5, ":19000:0:99999:7:::"),
    (
        "dear",
        USER + 6,
        "$6$rounds=20000$salt$/:19000:0:99999:7:::",
    ),
    (
        "modern",
        USER + 7,
        "$y$j9T$uucIQOyT.tBwlbA9E9Bq2/$Nm4KFSw0q4aPRZq90sJwyEqaAYhaV.0H2EPcaFD2Wp2:19000::::::",
    ),
    ("keyed", USER + 8, "*:19000:0:99999:7:::"),
    ("toor", 0, "CHEAP:19000:0:99999:7:::"),
];

/// What comes of an access token of theirs: a login, or why there is none.
pub const PROVEN: [(&str, Option<&str>); 6] = [
    ("joe", None),
    ("locked", Some("account locked")),
    (
        "expired",
        Some("account or password expired, or not allowed"),
    ),
    ("aged", Some("account or password expired, or not allowed")),
    ("empty", Some("account locked")),
    ("toor", Some("root or without a user and group of its own")),
];

const SERVICES: [(&str, &str); 7] = [
    (
        "test-permit",
        "auth required pam_permit.so\naccount required pam_permit.so\n",
    ),
    (
        "test-deny",
        "auth required pam_deny.so\naccount required pam_permit.so\n",
    ),
    (
        "test-closed",
        "auth required pam_permit.so\naccount required pam_deny.so\n",
    ),
    (
        "test-unix",
        "auth required pam_unix.so\naccount required pam_unix.so\n",
    ),
    (
        "test-debian",
        "@include common-auth\n@include common-account\n",
    ),
    (
        "test-slow",
        "auth required pam_exec.so quiet /bin/sh -c [test $PAM_USER != ann || sleep 3]\n\
         auth required pam_unix.so\naccount required pam_unix.so\n",
    ),
    (
        "test-crash",
        "auth required pam_exec.so quiet /bin/sh -c [test $PAM_USER != ann || kill -9 $PPID]\n\
         auth required pam_exec.so quiet /bin/sh -c [test $PAM_RHOST = 192.0.2.1]\n\
         auth required pam_unix.so\naccount required pam_unix.so\n",
    ),
];

/// Puts them in the place of the machine's, for this process and its children alone.
pub fn make_up_users() {
    // Debian's own stack, as the service "other" and most others include it.
    let stacks = ["common-auth", "common-account"].map(|name| {
        let contents = fs::read_to_string(Path::new("/etc/pam.d").join(name));
        (
            name,
            contents.unwrap_or_else(|_| {
                "auth required pam_unix.so\naccount required pam_unix.so\n".to_owned()
            }),
        )
    });
    mount(&["-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/etc/pam.d"]);
    for (name, contents) in &stacks {
        fs::write(Path::new("/etc/pam.d").join(name), contents).unwrap();
    }
    for (name, contents) in SERVICES {
        fs::write(Path::new("/etc/pam.d").join(name), contents).unwrap();
    }
    let mut passwd = fs::read_to_string("/etc/passwd").unwrap();
    let mut shadow = "root:*:19000:0:99999:7:::\n".to_owned();
    for (name, uid, rest) in USERS {
        passwd += &format!("{name}:x:{uid}:{USER}::/home/{name}:/usr/sbin/nologin\n");
        shadow += &format!("{name}:{}\n", rest.replace("CHEAP", CHEAP_HASH));
    }
    for (name, contents, mode) in [("passwd", passwd, 0o644), ("shadow", shadow, 0o640)] {
        let made_up = Path::new("/etc/pam.d").join(name);
        fs::write(&made_up, contents).unwrap();
        fs::set_permissions(&made_up, fs::Permissions::from_mode(mode)).unwrap();
        chown(&made_up, Some(0), Some(shadow_group())).unwrap();
        let place = format!("/etc/{name}");
        mount(&["--bind", made_up.to_str().unwrap(), &place]);
    }
}

fn mount(arguments: &[&str]) {
    let status = Command::new("mount").args(arguments).status().unwrap();
    assert!(status.success(), "mount {arguments:?}");
}

fn shadow_group() -> u32 {
    let groups = fs::read_to_string("/etc/group").unwrap();
    let line = groups.lines().find(|line| line.starts_with("shadow:"));
    line.and_then(|line| line.split(':').nth(2))
        .unwrap()
        .parse()
        .unwrap()
}

/// Auth as it runs in earnest: not root, but able to read /etc/shadow.
pub fn rig(change: impl FnOnce(&mut AuthConfig)) -> Rig {
    let confinement = Confinement {
        identity: Some(Identity {
            uid: 65_534.try_into().unwrap(),
            gid: 65_534.try_into().unwrap(),
            groups: vec![NonRootGid::try_from(shadow_group()).unwrap()],
        }),
        chroot: None,
        required: true,
    };
    Rig::confined("", confinement, change)
}

pub fn pam(service: &str) -> Rig {
    rig(|configuration| {
        configuration.backends = vec![Backend::Pam];
        configuration.pam_service = service.to_owned();
    })
}

pub fn shadow_decides_as_the_system_does() {
    let mut rig = rig(|configuration| configuration.backends = vec![Backend::Shadow]);
    let account = rig.log_in("joe", "secret").unwrap();
    assert_eq!((account.uid.as_raw(), account.gid.as_raw()), (USER, USER));
    assert_eq!(account.home, "/home/joe");
    assert_eq!(field(&rig.log("login"), "backend"), Some("shadow"));
    assert_eq!(rig.log_in("modern", "pässword:1").unwrap().name, "modern");
    for (user, password, reason) in [
        ("joe", "wrong", "wrong password"),
        ("locked", "secret", "account locked"),
        (
            "expired",
            "secret",
            "account or password expired, or not allowed",
        ),
        (
            "aged",
            "secret",
            "account or password expired, or not allowed",
        ),
        ("empty", "secret", "account locked"),
        ("empty", "", "malformed or empty"),
        (
            "toor",
            "secret",
            "root or without a user and group of its own",
        ),
        ("root", "*", "account locked"),
        ("nobody-here", "secret", "unknown user"),
    ] {
        assert_eq!(
            rig.log_in(user, password),
            Err(Denial::Credentials),
            "{user}"
        );
        let record = rig.log("login failed");
        assert_eq!(field(&record, "reason"), Some(reason), "{user}");
    }
}

pub fn app_passwords_serve_the_systems_users_while_their_accounts_are_good() {
    let names = [
        "joe",
        "locked",
        "expired",
        "aged",
        "toor",
        "keyed",
        "nobody-here",
    ];
    let lines: String = names
        .iter()
        .map(|name| line(name, "desk", "no-delete"))
        .collect();
    let stores = [
        (Backend::Shadow, "", true),
        (Backend::Pam, "test-unix", true),
        // An account that the modules do not let in.
        (Backend::Pam, "test-closed", false),
    ];
    for (backend, service, is_open) in stores {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = directory.path().join("app-passwords");
        fs::write(&path, &lines).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        chown(&path, Some(0), Some(65_534)).unwrap();
        let mut rig = rig(|configuration| {
            configuration.backends = vec![backend];
            configuration.pam_service = service.to_owned();
            configuration.app_passwords = Some(path);
        });
        for name in names {
            let found = rig.log_in(name, &password("desk"));
            if is_open && name == "joe" {
                assert_eq!(found.unwrap().rights, Rights::NoDelete, "{name}");
                let record = rig.log("login");
                assert_eq!(field(&record, "credential"), Some("desk"));
            } else {
                assert_eq!(found, Err(Denial::Credentials), "{name} {backend:?}");
            }
        }
        if is_open {
            assert_eq!(rig.log_in("joe", "secret").unwrap().rights, Rights::Full);
        }
    }
}

pub fn pam_decides_as_its_service_says() {
    let mut permit = pam("test-permit");
    assert_eq!(permit.log_in("joe", "anything").unwrap().uid.as_raw(), USER);
    assert_eq!(field(&permit.log("login"), "backend"), Some("pam"));
    // What PAM accepts still has to be a user of the system, and not root, and to have given a password.
    assert_eq!(permit.log_in("toor", "anything"), Err(Denial::Credentials));
    assert_eq!(permit.log_in("joe", ""), Err(Denial::Credentials));
    assert_eq!(
        permit.log_in("nobody-here", "anything"),
        Err(Denial::Permanent)
    );
    for service in ["test-deny", "test-closed"] {
        assert_eq!(
            pam(service).log_in("joe", "secret"),
            Err(Denial::Credentials),
            "{service}"
        );
    }
    // There is no service "other" either: nobody can log in until somebody writes one.
    let mut none = pam("test-no-such-service");
    for user in ["joe", "nobody-here"] {
        assert_eq!(none.log_in(user, "secret"), Err(Denial::Temporary));
        assert_eq!(
            field(&none.log("login not possible"), "reason"),
            Some("PAM error 26")
        );
    }
}

pub fn pam_unix_knows_the_systems_users() {
    for service in ["test-unix", "test-debian"] {
        knows_the_systems_users(pam(service));
    }
}

fn knows_the_systems_users(mut rig: Rig) {
    assert_eq!(rig.log_in("joe", "secret").unwrap().name, "joe");
    assert_eq!(rig.log_in("modern", "pässword:1").unwrap().name, "modern");
    for (user, password, logged) in [
        ("joe", "wrong", Some("joe")),
        ("locked", "secret", Some("locked")),
        ("expired", "secret", Some("expired")),
        ("aged", "secret", Some("aged")),
        ("empty", "secret", Some("empty")),
        ("nobody-here", "secret", None),
    ] {
        let begun = Instant::now();
        assert_eq!(
            rig.log_in(user, password),
            Err(Denial::Credentials),
            "{user}"
        );
        assert_eq!(field(&rig.log("login failed"), "user"), logged);
        // libpam would wait about two seconds.
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{user}: {:?}",
            begun.elapsed()
        );
    }
}

pub fn a_slow_pam_module_does_not_delay_another_login() {
    let mut rig = pam("test-slow");
    let slow = rig.session();
    slow.send("ann", "secret");
    rig.assert_serves();
    slow.assert_waits();
    assert!(slow.verdict().is_ok());
}

pub fn a_crashing_pam_module_fails_one_attempt() {
    let mut rig = pam("test-crash");
    let begun = Instant::now();
    assert_eq!(rig.log_in("ann", "secret"), Err(Denial::Temporary));
    assert!(begun.elapsed() < PATIENCE);
    // The second module in this service has seen that PAM_RHOST is the client.
    rig.assert_serves();
}

pub fn what_pam_costs_is_hidden_by_the_delay() {
    let delay = Duration::from_millis(200);
    let mut rig = rig(|configuration| {
        configuration.backends = vec![Backend::Pam];
        configuration.pam_service = "test-unix".to_owned();
        configuration.failure_delay = delay;
    });
    // pam_unix hashes twice for the first, and not at all for the second.
    for user in ["dear", "locked", "nobody-here"] {
        let quickest = (0..5).map(|_| {
            let begun = Instant::now();
            assert_eq!(rig.log_in(user, "wrong"), Err(Denial::Credentials));
            begun.elapsed()
        });
        let quickest = quickest.min().unwrap();
        assert!(
            quickest >= delay && quickest < delay * 5 / 4,
            "{user}: {quickest:?}"
        );
    }
}

pub fn shadow_costs_the_same_for_everybody() {
    let mut rig = rig(|configuration| {
        configuration.backends = vec![Backend::Shadow];
        configuration.workers = 1;
        configuration.dummy_setting = Some("$6$rounds=20000$salt".to_owned());
    });
    assert_same_cost(&mut rig, &["dear", "locked", "empty", "nobody-here"]);
}

/// What auth, and with it every PAM module, must not be able to do, tried by a program that a module runs.
pub fn what_a_module_runs_is_confined() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let touch = format!("touch {}/file", directory.path().display());
    for (attempt, allowed) in [
        ("cat /etc/passwd >/dev/null", true),
        (touch.as_str(), false),
        ("ls / >/dev/null", false),
        ("cat /proc/self/status >/dev/null", false),
        ("unshare --user true", false),
        (&connect, false),
    ] {
        // Here, it works: what fails there fails for being confined.
        let mut outside = Command::new("/bin/bash");
        let outside = outside.args(["-c", attempt]).output().unwrap();
        assert!(outside.status.success(), "{attempt}: {outside:?}");
        let service = format!(
            "auth required pam_exec.so quiet /bin/bash -c [{attempt}]\n\
             account required pam_permit.so\n"
        );
        fs::write("/etc/pam.d/test-confined", service).unwrap();
        let outcome = pam("test-confined").log_in("joe", "secret");
        assert_eq!(outcome.is_ok(), allowed, "{attempt}: {outcome:?}");
    }
}

pub fn an_unreadable_domain_does_not_put_names_into_the_log() {
    let mut rig = rig(|configuration| {
        let home = configuration.users_file.with_file_name("vhome");
        let auth = home.join("192.0.2.99/auth");
        fs::create_dir_all(&auth).unwrap();
        fs::set_permissions(&auth, fs::Permissions::from_mode(0o700)).unwrap();
        configuration.address_domains = Some(AddressDomains {
            home,
            auth: "auth".into(),
            spool: "mail".into(),
            only: true,
        });
    });
    assert_eq!(rig.log_in("typed-password", "x"), Err(Denial::Permanent));
    let record = format!("{:?}", rig.log("login not possible"));
    assert!(!record.contains("typed-password"), "{record}");
    assert!(record.contains("192.0.2.99/auth"), "{record}");
}
