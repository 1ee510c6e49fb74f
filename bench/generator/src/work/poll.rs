//! Poll sessions: login, STAT, UIDL, LIST, QUIT, one command at a time, as programs do that look for new mail.

use super::{Figure, Figures, Work};
use crate::Outcome;
use crate::client::Client;
use crate::mail::Format;
use crate::setup::{Instance, POLLED, SetUp, polled};
use crate::transport::Transport;

/// Sessions at the same time, each of another user.
const CLIENTS: usize = 8;

/// Sessions in a turn; Debian's popa3d serves 500 in ten seconds at most.
const SESSIONS: usize = 240;

/// 40 messages of 4 KB.
pub const POLL: Work = Work {
    name: "poll",
    set_up: |_quick| SetUp::Everyday,
    formats: &[Format::Mbox, Format::Maildir],
    rounds: 5,
    leaves_out: &[],
    turn: |instance, quick| turn(instance, quick, Transport::Plain, "poll session"),
};

/// The same over TLS 1.3.
pub const POLL_TLS: Work = Work {
    name: "poll-tls",
    leaves_out: super::WITHOUT_TLS,
    turn: |instance, quick| turn(instance, quick, Transport::Tls, "poll session, TLS"),
    ..POLL
};

fn turn(
    instance: &Instance,
    quick: bool,
    transport: Transport,
    row: &'static str,
) -> Outcome<Vec<Figures>> {
    let each = if quick { 80 } else { SESSIONS } / CLIENTS;
    let sessions = (each * CLIENTS) as f64;
    let (cost, ()) = instance.measure(move || {
        in_parallel(CLIENTS, |number| {
            // Nobody looks twice in a row: what a server keeps for a user is of no use to the next.
            let mut users = (0..POLLED / CLIENTS)
                .cycle()
                .map(|n| polled(n * CLIENTS + number));
            (0..each).try_for_each(|_| {
                let user = users.next().ok_or("no users")?;
                Client::login(transport, &user)?.poll()
            })
        })
    })?;
    Ok(vec![Figures {
        row,
        main: Figure::more(sessions / cost.elapsed.as_secs_f64(), "sessions/s"),
        cost: Some(Figure::less(
            cost.cpu.as_secs_f64() * 1e3 / sessions,
            "ms CPU/session",
        )),
        note: String::new(),
    }])
}

/// Runs `work` on `count` threads, which are told their numbers; returns the first error.
pub fn in_parallel(count: usize, work: impl Fn(usize) -> Outcome<()> + Sync) -> Outcome<()> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..count)
            .map(|number| scope.spawn(move || work(number)))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err("a client's thread failed".into()))
        })
    })
}
