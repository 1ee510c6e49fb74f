//! A conversion in which something goes wrong at one of the calls by which it changes files: the old maildrop is as it was,
//! and the new one is whole, with its unique-ids, or not there.

use super::{deliver_mbox, done, mail, twins};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use system_tests::program;
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;
use tracer::faults::{self, Fault};

const MAILBOX: &str = "/var/mail/alice";
const MAILDIR: &str = "/home/alice/Maildir";

const FAULTS: [Fault; 4] = [
    Fault::Before,
    Fault::After,
    Fault::Once(libc::ENOSPC),
    Fault::Once(libc::EIO),
];

/// The unique-ids that clients are shown by a server whose maildrops are at `location`.
fn shown(site: &Site, location: &str) -> Vec<String> {
    site.reconfigure(|setup| setup.set("maildrop", "location", location));
    let list = done(site, &["uidl", "export", ALICE.name]);
    site.reconfigure(|setup| setup);
    // In the order of our own ids, which is another in each format.
    let ids = list
        .lines()
        .skip(1)
        .filter_map(|line| line.split(' ').nth(1));
    let mut ids: Vec<String> = ids.map(str::to_owned).collect();
    ids.sort();
    ids
}

fn convert(site: &Site, fault: Option<(usize, Fault)>) -> faults::Run {
    let mut command = Command::new(program::tool("popa3ctl"));
    let configuration = site.directory.join("popa3d.toml");
    command
        .args(["convert", ALICE.name, "--to", "maildir:%h/Maildir", "-c"])
        .arg(configuration)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let watched = ["/home/alice", "/var/mail", "/var/lib/popa3d"].map(Path::new);
    faults::run(&mut command, &watched, fault, false).expect("a traced program")
}

#[test]
fn whatever_goes_wrong_both_maildrops_are_whole_or_the_new_one_is_not_there() {
    Setup::new().as_root(|site| {
        deliver_mbox(&[&mail()[..2], &twins()[..1]].concat());
        let mailbox = fs::read(MAILBOX).expect("the mailbox");
        let ids = shown(site, r#""mbox:/var/mail/%u""#);
        assert_eq!(ids.len(), 3);
        let (mut there, mut not_there) = (0, 0);
        for fault in FAULTS {
            for number in 1.. {
                drop(fs::remove_dir_all(MAILDIR));
                // Of the one before, every other time, so that it does not stand in the way either.
                if number % 2 == 0 {
                    drop(fs::remove_dir_all(format!("{MAILDIR}.popa3ctl-new")));
                }
                let run = convert(site, Some((number, fault)));
                let call = run.calls.get(number - 1);
                let point = format!("{fault:?} at {number}, {call:?}");
                assert_eq!(fs::read(MAILBOX).expect("the mailbox"), mailbox, "{point}");
                if Path::new(MAILDIR).exists() {
                    there += 1;
                    assert_eq!(shown(site, r#""maildir:%h/Maildir""#), ids, "{point}");
                } else {
                    not_there += 1;
                    assert!(!run.status.success(), "{point}");
                }
                if !run.hit {
                    assert!(run.status.success(), "nothing went wrong");
                    break;
                }
            }
        }
        assert!(there > 4 && not_there > 80, "{there}, {not_there}");
        // What was left by them does not stand in the way.
        drop(fs::remove_dir_all(MAILDIR));
        assert!(convert(site, None).status.success());
        println!("{there} times there, {not_there} times not");
    });
}
