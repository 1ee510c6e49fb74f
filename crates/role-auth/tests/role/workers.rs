//! Worker processes: many, slow, killed, confined.

use std::fs;

use confine::process::{Pid, Signal};
use messages::auth::Denial;
use rustix::process::kill_process;

use crate::rig::{CHEAP_HASH, Rig, children, ids};

/// `slow` takes a second or more to be refused.
fn users_with_a_slow_one() -> String {
    let ids = ids();
    format!("joe:{CHEAP_HASH}:{ids}\nslow:$6$rounds=5000000$salt$/:{ids}\n")
}

pub fn a_slow_login_does_not_delay_another() {
    let mut rig = Rig::with_users(&users_with_a_slow_one(), |configuration| {
        configuration.workers = 2;
    });
    let slow = rig.session();
    slow.send("slow", "guess");
    for _ in 0..5 {
        rig.assert_serves();
    }
    slow.assert_waits();
    assert_eq!(slow.verdict().unwrap_err(), Denial::Credentials);
}

pub fn more_attempts_than_workers_are_all_decided() {
    let mut rig = Rig::new(|configuration| configuration.workers = 2);
    let sessions: Vec<_> = (0..50).map(|_| rig.session()).collect();
    for (index, session) in sessions.iter().enumerate() {
        session.send("joe", if index % 2 == 0 { "secret" } else { "wrong" });
    }
    for (index, session) in sessions.iter().enumerate() {
        assert_eq!(session.verdict().is_ok(), index % 2 == 0);
    }
    assert!(children(rig.pid).len() <= 2);
}

pub fn a_killed_worker_fails_one_attempt() {
    let mut rig = Rig::with_users(&users_with_a_slow_one(), |configuration| {
        configuration.workers = 1;
    });
    let slow = rig.session();
    slow.send("slow", "guess");
    let next = rig.session();
    next.send("joe", "secret");
    let worker = loop {
        if let [worker] = children(rig.pid)[..] {
            break worker;
        }
    };
    kill_process(worker, Signal::KILL).unwrap();
    assert_eq!(slow.verdict().unwrap_err(), Denial::Temporary);
    rig.log("login not possible");
    // The one that waited has a new worker.
    assert!(next.verdict().is_ok());
    rig.started();
    rig.assert_serves();
}

pub fn the_role_is_confined() {
    let mut rig = Rig::new(|_| {});
    rig.assert_serves();
    let worker = children(rig.pid)[0];
    for process in [rig.pid, worker] {
        let status =
            fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).unwrap();
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap().trim().to_owned()
        };
        assert_eq!(value("NoNewPrivs:"), "1");
        assert_eq!(value("Seccomp:"), "2");
    }
    let filters = |process: Pid| {
        let status =
            fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Seccomp_filters:"));
        line.unwrap().trim().parse::<u32>().unwrap()
    };
    assert_eq!(filters(worker), filters(rig.pid) + 1);
}
