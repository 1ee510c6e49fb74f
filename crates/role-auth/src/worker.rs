//! A worker process: receives an attempt, decides it by the stores, answers, and waits for the next.
//!
//! Forked from auth, without an exec: the stores' configuration is in its memory already. It holds its own channel and no other
//! descriptor: no session, no lease, no way to the spawner; what it says is believed, but it can only answer what it was asked.

use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use confine::channel::{Channel, Received};
use confine::seccomp::Program;
use confine::{process, sandbox, signals};

use crate::backends::Stores;
use crate::work::Request;

/// How long a worker lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until auth has no more use for it.
    Many,
    /// One attempt: foreign modules have run in it.
    One,
}

/// What the new process does first and last.
pub fn run(channel: &Channel, stores: &Stores, narrow: &Program, lifetime: Lifetime) -> ! {
    // A panic must not unwind into the frames of the process that this is a copy of.
    let done = catch_unwind(AssertUnwindSafe(|| {
        prepare(channel, narrow, lifetime)?;
        serve(channel, stores, lifetime);
        Ok::<_, io::Error>(())
    }));
    process::exit(match done {
        Ok(Ok(())) => 0,
        _ => 1,
    })
}

fn prepare(channel: &Channel, narrow: &Program, lifetime: Lifetime) -> io::Result<()> {
    process::close_all_except(&[channel.as_fd()])?;
    signals::default_all();
    signals::unblock_all()?;
    match lifetime {
        // See `syscalls` for why not both.
        Lifetime::Many => sandbox::narrow(narrow).map_err(io::Error::other),
        Lifetime::One => Ok(()),
    }
}

fn serve(channel: &Channel, stores: &Stores, lifetime: Lifetime) {
    while let Ok(Received::Message(request, _)) = channel.receive::<Request>() {
        let outcome = stores.decide(&request);
        drop(request);
        if channel.send(&outcome, &[]).is_err() || lifetime == Lifetime::One {
            return;
        }
    }
}
