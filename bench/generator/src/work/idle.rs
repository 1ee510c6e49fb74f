//! Sessions that do nothing, and connections that never say anything: how many are held, and what each costs.

use super::{Figure, Figures, Work};
use crate::Outcome;
use crate::client::Client;
use crate::mail::Format;
use crate::servers::OURS;
use crate::setup::{Instance, POLLED, SetUp, polled};
use crate::transport::Transport;
use std::time::{Duration, Instant};

/// Memory of 100 idle sessions, each logged in to a mailbox of 40 messages.
pub const MEMORY: Work = Work {
    name: "memory",
    set_up: |_quick| SetUp::Everyday,
    formats: &[Format::Mbox, Format::Maildir],
    rounds: 2,
    leaves_out: &["ceiling"],
    turn: |instance, _quick| memory(instance, Transport::Plain, "memory of 100 idle sessions"),
};

/// The same over TLS.
pub const MEMORY_TLS: Work = Work {
    name: "memory-tls",
    leaves_out: &["ceiling", "popa3d", "popa3d-debian"],
    turn: |instance, _quick| memory(instance, Transport::Tls, "memory of 100 idle sessions, TLS"),
    ..MEMORY
};

/// Very many sessions, each logged in.
pub const CROWD: Work = Work {
    name: "idle-sessions",
    set_up: |quick| SetUp::Crowd(if quick { 300 } else { 5_000 }),
    formats: &[Format::Mbox],
    rounds: 1,
    leaves_out: &["ceiling", "ours-pam", "mailutils"],
    turn: crowd,
};

/// Very many connections that never say anything.
pub const SILENT: Work = Work {
    name: "silent-connections",
    turn: silent,
    ..CROWD
};

fn memory(instance: &Instance, transport: Transport, row: &'static str) -> Outcome<Vec<Figures>> {
    instance
        .machine
        .run(move || Client::login(transport, &polled(0))?.ask("QUIT"))?;
    let held = hold(instance, POLLED, move |number| {
        Client::login(transport, &polled(number))
    })?;
    Ok(vec![held.figures(row)])
}

fn crowd(instance: &Instance, quick: bool) -> Outcome<Vec<Figures>> {
    let SetUp::Crowd(count) = (CROWD.set_up)(quick) else {
        return Err("not a crowd".into());
    };
    let held = hold(instance, count, |number| {
        Client::login(Transport::Plain, &format!("crowd{number}"))
    })?;
    Ok(vec![held.figures("many idle sessions")])
}

fn silent(instance: &Instance, quick: bool) -> Outcome<Vec<Figures>> {
    let count = if quick { 500 } else { 10_000 };
    let held = hold(instance, count, |_| Client::connect(Transport::Plain))?;
    Ok(vec![held.figures("many silent connections")])
}

/// What was held.
struct Held {
    asked: usize,
    open: usize,
    pss: u64,
    took: Duration,
    refusal: Option<String>,
}

impl Held {
    fn figures(&self, row: &'static str) -> Figures {
        let refusal = self.refusal.as_deref().unwrap_or_default();
        let note = if self.open == self.asked {
            format!(
                "{} held, opened in {:.1} s",
                self.open,
                self.took.as_secs_f64()
            )
        } else {
            format!("{} of {} held; {refusal}", self.open, self.asked)
        };
        Figures {
            row,
            main: Figure::less(
                self.pss as f64 / 1024.0 / self.open.max(1) as f64,
                "KiB PSS each",
            ),
            cost: None,
            note,
        }
    }
}

/// Opens `count` connections and looks how many are still open when the last has been opened; the memory is what the
/// server's processes have grown by.
fn hold(
    instance: &Instance,
    count: usize,
    open: impl Fn(usize) -> Outcome<Client> + Send + 'static,
) -> Outcome<Held> {
    let cgroup = &instance.machine.cgroup;
    cgroup.settle();
    let before = cgroup.pss();
    let start = Instant::now();
    let (clients, refusal) = instance.machine.run(move || {
        let mut clients = Vec::with_capacity(count);
        let mut refusal = None;
        for number in 0..count {
            match open(number) {
                Ok(client) => clients.push(client.small()),
                Err(error) => {
                    refusal = Some(error.to_string());
                    break;
                }
            }
        }
        Ok((clients, refusal))
    })?;
    let took = start.elapsed();
    cgroup.settle();
    let pss = cgroup.pss().saturating_sub(before);
    let open = clients
        .iter()
        .filter(|client| client.is_silent().unwrap_or(false))
        .count();
    drop(clients);
    cgroup.settle();
    let name = instance.server.name;
    if open == 0 && name == OURS {
        return Err(format!("nothing held: {refusal:?}, {}", instance.format.name()).into());
    }
    Ok(Held {
        asked: count,
        open,
        pss,
        took,
        refusal,
    })
}
