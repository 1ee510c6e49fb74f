//! What confinement costs: `cargo run --release -p confine --example costs`. CPU time of this
//! process and its children.

use std::os::fd::AsFd;
use std::time::Duration;

use confine::channel::{Channel, Message, Received};
use confine::identity::Identity;
use confine::process::{self, Fork};
use confine::sandbox::{Landlock, Limits, Sandbox};
use confine::seccomp::{BASE, CONFINE, FORK, IDENTITY, MESSAGES, PANIC, Policy};
use serde::{Deserialize, Serialize};

const ROUNDS: u32 = 2_000;

#[derive(Serialize, Deserialize)]
struct Short(u32);

impl Message for Short {
    const MAX_OCTETS: usize = 128 * 1024;
}

fn main() {
    if std::env::args().next().as_deref() == Some("role") {
        return;
    }
    let session = Policy::new("session", &[BASE, PANIC, MESSAGES])
        .compile()
        .unwrap();
    let spawner = Policy::new("spawner", &[BASE, PANIC, MESSAGES, FORK, IDENTITY, CONFINE])
        .compile()
        .unwrap();
    println!("{session:?}, {spawner:?}");
    let user = Identity {
        uid: 65534.try_into().unwrap(),
        gid: 65534.try_into().unwrap(),
        groups: Vec::new(),
    };

    measure("compile a filter", || {
        Policy::new("session", &[BASE, PANIC, MESSAGES])
            .compile()
            .unwrap();
    });
    measure("fork, exit, wait", || in_child(|| ()));
    measure("  + no_new_privs and filter", || {
        in_child(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            session.install().unwrap();
        });
    });
    measure("  + sandbox, Landlock inherited", || {
        in_child(|| {
            drop(
                Sandbox::new(&session)
                    .landlock_inherited()
                    .limits(limits())
                    .enter()
                    .unwrap(),
            )
        });
    });
    measure("  + sandbox, Landlock nothing", || {
        in_child(|| drop(Sandbox::new(&session).limits(limits()).enter().unwrap()));
    });
    if rustix::process::geteuid().is_root() {
        measure("  + sandbox, Landlock, identity", || {
            in_child(|| {
                drop(
                    Sandbox::new(&session)
                        .identity(&user)
                        .limits(limits())
                        .enter()
                        .unwrap(),
                )
            });
        });
    }
    let executable = process::own_executable().unwrap();
    measure("spawn_role, exit, wait", || {
        let (_ours, theirs) = Channel::pair().unwrap();
        let role =
            process::spawn_role(executable.as_fd(), c"role", theirs.into_fd(), None).unwrap();
        process::wait(role).unwrap();
    });
    let (ours, theirs) = Channel::pair().unwrap();
    measure(
        "send and receive a message of up to 128 KiB with 1 octet",
        || {
            theirs.send(&Short(7), &[]).unwrap();
            assert!(matches!(
                ours.receive::<Short>().unwrap(),
                Received::Message(Short(7), _)
            ));
        },
    );
    measure("Landlock: all files", || {
        in_child(|| {
            drop(
                Sandbox::new(&spawner)
                    .landlock(Landlock::all_files())
                    .enter()
                    .unwrap(),
            )
        });
    });
}

fn limits() -> Limits {
    Limits {
        open_files: Some(16),
        processes: Some(0),
        ..Limits::default()
    }
}

fn in_child(work: impl FnOnce()) {
    match process::fork().unwrap() {
        Fork::Child => {
            work();
            process::exit(0)
        }
        Fork::Parent(child) => assert!(process::wait(child).unwrap().success()),
    }
}

fn measure(what: &str, mut work: impl FnMut()) {
    let before = processor_time();
    (0..ROUNDS).for_each(|_| work());
    let each = (processor_time() - before) / ROUNDS;
    println!("{:>8.1} us  {what}", each.as_nanos() as f64 / 1000.0);
}

/// User and system time of this process and of the children it has waited for.
fn processor_time() -> Duration {
    let of = |whose| {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the structure is written by the call and valid as zeroes before.
        let usage = unsafe {
            libc::getrusage(whose, usage.as_mut_ptr());
            usage.assume_init()
        };
        [usage.ru_utime, usage.ru_stime]
            .iter()
            .map(|time| Duration::from_micros(time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64))
            .sum::<Duration>()
    };
    of(libc::RUSAGE_SELF) + of(libc::RUSAGE_CHILDREN)
}
