//! Fetching messages: whole sessions, and RETR alone, one by one and pipelined.

use super::poll::in_parallel;
use super::{Figure, Figures, Work};
use crate::Outcome;
use crate::client::Client;
use crate::mail::Format;
use crate::setup::{Instance, MIXED, SetUp, everyday_contents, mixed};
use crate::transport::Transport;
use std::time::{Duration, Instant};

/// RETR commands sent at once.
const BATCH: usize = 64;

/// Sessions of each client in one turn.
const SESSIONS: usize = 2;

const BOTH: &[Format] = &[Format::Mbox, Format::Maildir];

/// 40 messages of a realistic mix: login, STAT, UIDL, LIST, every message by RETR, QUIT.
pub const FETCH_ALL: Work = Work {
    name: "fetch-all",
    set_up: |_quick| SetUp::Everyday,
    formats: BOTH,
    rounds: 5,
    leaves_out: &[],
    turn: fetch_all,
};

/// RETR after RETR of 50 KB messages on one connection, the next when the one before has been read.
pub const RETR_50K: Work = Work {
    name: "retr-50k",
    turn: |instance, quick| {
        retrieve(
            instance,
            quick,
            "RETR one by one, 50 KB",
            Transport::Plain,
            "retr50k",
            1,
        )
    },
    ..FETCH_ALL
};

/// The same with the commands sent ahead.
pub const PIPELINED_50K: Work = Work {
    name: "pipelined-50k",
    turn: |instance, quick| {
        retrieve(
            instance,
            quick,
            "RETR pipelined, 50 KB",
            Transport::Plain,
            "retr50k",
            BATCH,
        )
    },
    ..FETCH_ALL
};

/// The same with messages of 5 MB.
pub const PIPELINED_5M: Work = Work {
    name: "pipelined-5m",
    turn: |instance, quick| {
        retrieve(
            instance,
            quick,
            "RETR pipelined, 5 MB",
            Transport::Plain,
            "retr5m",
            8,
        )
    },
    ..FETCH_ALL
};

/// Pipelined over TLS 1.3.
pub const PIPELINED_50K_TLS: Work = Work {
    name: "pipelined-50k-tls",
    leaves_out: super::WITHOUT_TLS,
    turn: |instance, quick| {
        let row = "RETR pipelined, 50 KB, TLS";
        retrieve(instance, quick, row, Transport::Tls, "retr50k", BATCH)
    },
    ..FETCH_ALL
};

/// The same with messages of 5 MB.
pub const PIPELINED_5M_TLS: Work = Work {
    name: "pipelined-5m-tls",
    turn: |instance, quick| {
        let row = "RETR pipelined, 5 MB, TLS";
        retrieve(instance, quick, row, Transport::Tls, "retr5m", 8)
    },
    ..PIPELINED_50K_TLS
};

fn fetch_all(instance: &Instance, quick: bool) -> Outcome<Vec<Figures>> {
    let each = if quick { 1 } else { SESSIONS };
    let messages = everyday_contents(&mixed(0)).sizes.len();
    let sessions = (each * MIXED) as f64;
    let (cost, ()) = instance.measure(move || {
        in_parallel(MIXED, |number| {
            let user = mixed(number);
            (0..each).try_for_each(|_| fetch_session(&user, messages))
        })
    })?;
    Ok(vec![Figures {
        row: "fetch-all session, 40 messages",
        main: Figure::more(sessions / cost.elapsed.as_secs_f64(), "sessions/s"),
        cost: Some(Figure::less(
            cost.cpu.as_secs_f64() * 1e3 / sessions,
            "ms CPU/session",
        )),
        note: String::new(),
    }])
}

fn fetch_session(user: &str, messages: usize) -> Outcome<()> {
    let mut client = Client::login(Transport::Plain, user)?;
    client.ask("STAT")?;
    client.list("UIDL")?;
    client.list("LIST")?;
    for number in 1..=messages {
        client.list(&format!("RETR {number}"))?;
    }
    client.ask("QUIT")
}

/// Retrieves all messages of `user` again and again, `ahead` commands at once.
fn retrieve(
    instance: &Instance,
    quick: bool,
    row: &'static str,
    transport: Transport,
    user: &'static str,
    ahead: usize,
) -> Outcome<Vec<Figures>> {
    let time = Duration::from_millis(if quick { 300 } else { 1000 });
    let messages = everyday_contents(user).sizes.len();
    let (sender, receiver) = std::sync::mpsc::channel();
    // Login and QUIT stay outside what is measured.
    let client = instance
        .machine
        .run(move || Client::login(transport, user))?;
    let (cost, octets) = instance.measure(move || {
        let mut client = client;
        let octets = retrieve_for(&mut client, time, messages, ahead)?;
        sender.send(client)?;
        Ok(octets)
    })?;
    instance.machine.run(move || receiver.recv()?.ask("QUIT"))?;
    let megabytes = octets as f64 / 1e6;
    Ok(vec![Figures {
        row,
        main: Figure::more(megabytes / cost.elapsed.as_secs_f64(), "MB/s"),
        cost: Some(Figure::less(
            cost.cpu.as_secs_f64() * 1e3 / (megabytes / 1e3),
            "ms CPU/GB",
        )),
        note: String::new(),
    }])
}

fn retrieve_for(
    client: &mut Client,
    time: Duration,
    messages: usize,
    ahead: usize,
) -> Outcome<u64> {
    let mut numbers = (1..=messages).cycle();
    let mut batch = || -> Vec<u8> {
        numbers
            .by_ref()
            .take(ahead)
            .flat_map(|number| format!("RETR {number}\r\n").into_bytes())
            .collect()
    };
    let end = Instant::now() + time;
    let mut octets = 0;
    client.send(&batch())?;
    let mut more = true;
    while more {
        // The next batch is under way before this one has been read, so that the server never waits for us.
        more = Instant::now() < end;
        if more && ahead > 1 {
            client.send(&batch())?;
        }
        for _ in 0..ahead {
            octets += client.multiline()?;
        }
        if more && ahead == 1 {
            client.send(&batch())?;
        }
    }
    Ok(octets)
}
