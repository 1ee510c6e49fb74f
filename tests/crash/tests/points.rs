//! A sample of the points; `cargo run --release -p crash-tests` tries all, and says how.

use std::path::Path;
use std::process::Command;

use crash_tests::point::{BATCHES, FAULTS, Point};
use crash_tests::{Count, Place, lists, maildir, shapes};

/// Power cuts of each file system.
const CUTS: &str = "16";

#[test]
fn no_point_of_the_sample_leaves_a_mailbox_that_it_should_not() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let driver = Path::new(env!("CARGO_BIN_EXE_driver"));
    let mut place = Place::new(directory.path(), driver, BATCHES[0]).unwrap();
    let mut sum = Count::default();
    let mut complaints = Vec::new();
    for (number, shape) in shapes::all().iter().enumerate() {
        for batch in BATCHES {
            place.set_batch(batch);
            place.reset(&shape.messages.concat()).unwrap();
            let whole = place.update(shape, None).unwrap();
            assert!(whole.done, "{}: {}", shape.name, whole.said);
            assert!(std::fs::read(place.mailbox()).unwrap() == shape.after());
            for (at, fault) in FAULTS.into_iter().enumerate() {
                let call = 1 + (at * 7 + number) % whole.run.calls.len();
                let seed = batch;
                let point = Point {
                    shape,
                    call,
                    fault,
                    seed,
                };
                let (count, complaint) = point.try_at(&place).unwrap();
                sum += count;
                complaints.extend(complaint.map(|complaint| {
                    let name = shape.name;
                    format!("{name}, batches of {batch}, {fault:?} at {call}: {complaint}")
                }));
            }
        }
    }
    println!("{sum}");
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(sum.hit == sum.points && sum.twice > sum.points / 2);
    assert!(sum.deleted > 0 && sum.deleted < sum.points);
}

#[test]
fn no_point_of_the_sample_leaves_a_maildir_that_it_should_not() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let driver = Path::new(env!("CARGO_BIN_EXE_driver"));
    let target = maildir::Target::new(directory.path(), driver).unwrap();
    let mut sum = Count::default();
    for shape in maildir::shapes() {
        let calls = target.calls(&shape).unwrap();
        assert!(calls >= shape.deleted.len() + 2, "{}", shape.name);
        for (at, fault) in FAULTS.into_iter().enumerate() {
            let call = 1 + at * 7 % calls;
            let (count, complaint) = target.try_at(&shape, call, fault, 1, || Ok(())).unwrap();
            assert_eq!(complaint, None, "{}, {fault:?} at {call}", shape.name);
            sum += count;
        }
    }
    println!("{sum}");
    // Calls are more or fewer, as messages are found elsewhere.
    assert!(sum.hit > sum.points / 2 && sum.twice > sum.points / 4);
}

#[test]
fn no_point_leaves_lists_or_messages_that_it_should_not() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let driver = Path::new(env!("CARGO_BIN_EXE_driver"));
    let target = lists::Target::new(directory.path(), driver).unwrap();
    let mut sum = Count::default();
    for shape in lists::shapes() {
        for call in 1..=target.calls(&shape).unwrap() {
            for at in [0, 3, 7] {
                let fault = FAULTS[(at + call) % FAULTS.len()];
                let (count, complaint) = target.try_at(&shape, call, fault, 1, |_| Ok(())).unwrap();
                assert_eq!(complaint, None, "{}, {fault:?} at {call}", shape.name);
                sum += count;
            }
        }
    }
    println!("{sum}");
    assert!(sum.hit == sum.points && sum.reported > 0 && sum.reported < sum.points);
}

#[test]
fn no_power_cut_of_the_sample_leaves_a_mailbox_that_it_should_not() {
    cut_power(&[]);
}

#[test]
fn no_power_cut_of_the_sample_leaves_a_maildir_that_it_should_not() {
    cut_power(&["--maildir"]);
}

#[test]
fn no_power_cut_of_the_sample_leaves_lists_that_it_should_not() {
    cut_power(&["--lists"]);
}

#[test]
fn mail_is_deleted_on_a_full_disk() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped, needs root");
        return;
    }
    for kind in ["ext4", "xfs", "tmpfs"] {
        let has_mkfs = Command::new(format!("mkfs.{kind}")).arg("-V").output();
        if kind != "tmpfs" && has_mkfs.is_err() {
            println!("skipped, there is no mkfs.{kind}");
            continue;
        }
        let output = Command::new(env!("CARGO_BIN_EXE_crash"))
            .args(["full", kind])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{kind}: {said}{complained}");
        assert!(said.contains("48 reported done; deleted in 48"), "{said}");
    }
}

fn cut_power(more: &[&str]) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped, needs root");
        return;
    }
    for kind in ["ext4", "xfs"] {
        let has_mkfs = Command::new(format!("mkfs.{kind}")).arg("-V").output();
        if has_mkfs.is_err() {
            println!("skipped, there is no mkfs.{kind}");
            continue;
        }
        let output = Command::new(env!("CARGO_BIN_EXE_crash"))
            .args(["power", kind, "--points", CUTS])
            .args(more)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{kind}: {said}{complained}");
        assert!(
            said.contains(&format!("all: {CUTS} points, 0 bad")),
            "{said}"
        );
    }
}
