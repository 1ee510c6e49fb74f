//! A polite client while others do what they can to be in its way, from one address and from a hundred; servers have
//! the limits here that they have by default.

use super::{Figure, Figures, Work};
use crate::Outcome;
use crate::accounts::PASSWORD;
use crate::client::{Client, dial};
use crate::mail::Format;
use crate::setup::{FLOODED, Instance, SetUp, flooded, polled};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Connections that a flood holds; more than any server's default limit on sessions.
const MAX_HELD: usize = 1200;

/// Connections that a flood opens in a second: it has to leave processor time to those it competes with.
const MAX_OPENED_A_SECOND: u64 = 2_000;

/// A polite session that takes longer has failed.
const POLITE_PATIENCE: Duration = Duration::from_secs(10);

/// Addresses of the polite client; popa3d counts the sessions of the last ten seconds.
const POLITE_NETWORK: [u8; 2] = [127, 201];

/// Between two polite sessions.
const POLITE_PAUSE: Duration = Duration::from_millis(25);

/// Each kind of flood, from 1 and from 100 addresses.
pub const FLOOD: Work = Work {
    name: "flood",
    set_up: |_quick| SetUp::Flood,
    formats: &[Format::Mbox],
    rounds: 1,
    has_ceiling: false,
    turn,
};

/// What a flood does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Silent,
    OctetASecond,
    UserThenSilence,
    NeverRead,
    EndlessLine,
    ConnectAndClose,
    WrongPasswords,
}

const KINDS: [(Kind, [&str; 2]); 7] = [
    (
        Kind::Silent,
        ["flood from 1: silent", "flood from 100: silent"],
    ),
    (
        Kind::OctetASecond,
        [
            "flood from 1: an octet a second",
            "flood from 100: an octet a second",
        ],
    ),
    (
        Kind::UserThenSilence,
        [
            "flood from 1: USER, then silence",
            "flood from 100: USER, then silence",
        ],
    ),
    (
        Kind::NeverRead,
        [
            "flood from 1: RETR never read",
            "flood from 100: RETR never read",
        ],
    ),
    (
        Kind::EndlessLine,
        ["flood from 1: endless line", "flood from 100: endless line"],
    ),
    (
        Kind::ConnectAndClose,
        [
            "flood from 1: connect and close",
            "flood from 100: connect and close",
        ],
    ),
    (
        Kind::WrongPasswords,
        [
            "flood from 1: wrong passwords",
            "flood from 100: wrong passwords",
        ],
    ),
];

fn turn(instance: &Instance, quick: bool) -> Outcome<Vec<Figures>> {
    let time = Duration::from_millis(if quick { 700 } else { 4_000 });
    let mut all = Vec::new();
    for (kind, rows) in KINDS {
        for (row, sources) in rows.into_iter().zip([1, 100]) {
            all.push(under_flood(instance, kind, row, sources, time)?);
        }
    }
    Ok(all)
}

fn under_flood(
    instance: &Instance,
    kind: Kind,
    row: &'static str,
    sources: u8,
    time: Duration,
) -> Outcome<Figures> {
    let before = instance.machine.run(move || Ok(polite(time)))?;
    let (during, opened, dropped) = instance.machine.run(move || {
        let (stop, opened) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let drops = listen_drops()?;
        let flood = {
            let (stop, opened) = (Arc::clone(&stop), Arc::clone(&opened));
            std::thread::spawn(move || Flood::new(kind, sources).run(&stop, &opened))
        };
        // The flood comes first, then those who want their mail.
        std::thread::sleep(time / 4);
        let during = polite(time);
        stop.store(true, Ordering::Relaxed);
        flood.join().map_err(|_| "the flood's thread failed")?;
        Ok((
            during,
            opened.load(Ordering::Relaxed),
            listen_drops()? - drops,
        ))
    })?;
    // Until those that the flood has left behind are gone, the next one would be held against this server.
    instance.machine.cgroup.settle();
    await_service(instance)?;
    let (calm, flooded) = (before.percentile_99(), during.percentile_99());
    Ok(Figures {
        row,
        main: Figure::more(during.succeeded(), "% served"),
        cost: Some(Figure::less(flooded / calm, "x p99")),
        note: format!(
            "p99 {calm:.1} → {flooded:.1} ms, {} sessions, flood of {opened}, {dropped} SYN dropped",
            during.tried
        ),
    })
}

/// Waits until a polite session is served again; some servers need until their limits have forgotten the flood.
fn await_service(instance: &Instance) -> Outcome<()> {
    instance.machine.run(|| {
        let end = Instant::now() + Duration::from_secs(90);
        while Instant::now() < end {
            if polite_session(9).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err("no service after a flood has ended".into())
    })
}

/// What the polite client saw.
struct Seen {
    tried: usize,
    milliseconds: Vec<f64>,
}

impl Seen {
    fn succeeded(&self) -> f64 {
        100.0 * self.milliseconds.len() as f64 / self.tried.max(1) as f64
    }

    /// In milliseconds; what has failed took for ever, so that failing is no way to be quick.
    fn percentile_99(&self) -> f64 {
        let mut all = self.milliseconds.clone();
        all.resize(self.tried, f64::INFINITY);
        all.sort_by(f64::total_cmp);
        let last = all.len().saturating_sub(1);
        let index = (all.len() * 99 / 100).min(last);
        all.get(index).copied().unwrap_or(f64::INFINITY)
    }
}

fn polite(time: Duration) -> Seen {
    let start = Instant::now();
    let mut seen = Seen {
        tried: 0,
        milliseconds: Vec::new(),
    };
    while start.elapsed() < time {
        let began = Instant::now();
        let done = polite_session(seen.tried);
        seen.tried += 1;
        if done.is_ok() {
            seen.milliseconds.push(began.elapsed().as_secs_f64() * 1e3);
        }
        std::thread::sleep(POLITE_PAUSE);
    }
    seen
}

fn polite_session(number: usize) -> Outcome<()> {
    let [first, second] = POLITE_NETWORK;
    let source = Ipv4Addr::new(
        first,
        second,
        (number / 250) as u8,
        (number % 250 + 1) as u8,
    );
    let mut client = Client::connect_from(source, POLITE_PATIENCE)?;
    client.authenticate(&polled(0))?;
    client.poll()
}

/// SYNs and connections that this machine's kernel has dropped because a server did not accept them soon enough.
fn listen_drops() -> Outcome<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/netstat")?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next(), lines.next());
    let (names, values) = names.zip(values).ok_or("no TcpExt counters")?;
    let mut pairs = names.split(' ').zip(values.split(' '));
    let drops = pairs.find(|(name, _)| *name == "ListenDrops");
    Ok(drops.ok_or("no ListenDrops")?.1.parse()?)
}

/// One that floods: it keeps its connections open as the server lets it, and opens new ones for those it has lost.
struct Flood {
    kind: Kind,
    sources: u8,
    held: Vec<Attacker>,
    opened: u64,
}

struct Attacker {
    stream: TcpStream,
    number: u64,
    last: Instant,
}

impl Flood {
    fn new(kind: Kind, sources: u8) -> Flood {
        Flood {
            kind,
            sources,
            held: Vec::new(),
            opened: 0,
        }
    }

    fn run(mut self, stop: &AtomicBool, opened: &AtomicU64) {
        let start = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let due = start.elapsed().as_millis() as u64 * MAX_OPENED_A_SECOND / 1000;
            for _ in 0..50 {
                if self.opened < due && self.held.len() < self.most() {
                    self.open();
                }
            }
            self.serve();
            opened.store(self.opened, Ordering::Relaxed);
        }
    }

    fn most(&self) -> usize {
        match self.kind {
            // A server lets one in for each mailbox.
            Kind::NeverRead => FLOODED,
            _ => MAX_HELD,
        }
    }

    fn open(&mut self) {
        let number = self.opened;
        self.opened += 1;
        let source = Ipv4Addr::new(127, 202, 0, (number % u64::from(self.sources)) as u8 + 1);
        let Ok(mut stream) = dial(source, Duration::from_millis(200)) else {
            return;
        };
        let user = flooded(number as usize % FLOODED);
        let first = match self.kind {
            Kind::ConnectAndClose => return,
            Kind::Silent | Kind::OctetASecond | Kind::EndlessLine => String::new(),
            Kind::UserThenSilence => format!("USER {user}\r\n"),
            Kind::WrongPasswords => wrong_password(&user),
            Kind::NeverRead => {
                format!("USER {user}\r\nPASS {PASSWORD}\r\n") + &"RETR 1\r\n".repeat(16)
            }
        };
        let _refused = stream.write_all(first.as_bytes());
        if stream.set_nonblocking(true).is_ok() {
            let last = Instant::now();
            self.held.push(Attacker {
                stream,
                number,
                last,
            });
        }
    }

    /// Does what each connection is there for, and forgets those that the server has closed.
    fn serve(&mut self) {
        let wanted = match self.kind {
            // Only the end is of interest, which is always told.
            Kind::NeverRead => PollFlags::empty(),
            _ => PollFlags::IN,
        };
        let mut fds: Vec<_> = self
            .held
            .iter()
            .map(|attacker| PollFd::new(&attacker.stream, wanted))
            .collect();
        let a_moment = Timespec {
            tv_sec: 0,
            tv_nsec: 2_000_000,
        };
        let _ready = poll(&mut fds, Some(&a_moment));
        let events: Vec<_> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        let kind = self.kind;
        let mut events = events.into_iter();
        self.held.retain_mut(|attacker| {
            let events = events.next().unwrap_or(PollFlags::empty());
            attacker.act(kind, events)
        });
    }
}

impl Attacker {
    /// False when the server has closed.
    fn act(&mut self, kind: Kind, events: PollFlags) -> bool {
        if events.intersects(PollFlags::ERR | PollFlags::HUP) {
            return false;
        }
        if events.contains(PollFlags::IN) {
            match self.stream.read(&mut [0; 4096]) {
                Ok(0) => return false,
                Ok(_) if kind == Kind::WrongPasswords => {
                    let again = wrong_password(&flooded(self.number as usize % FLOODED));
                    let _refused = self.stream.write_all(again.as_bytes());
                }
                Err(error) if error.kind() != ErrorKind::WouldBlock => return false,
                _ => {}
            }
        }
        match kind {
            Kind::EndlessLine if self.is_due(Duration::from_millis(100)) => {
                self.says(&[b'x'; 16 * 1024])
            }
            Kind::OctetASecond if self.is_due(Duration::from_secs(1)) => self.says(b"U"),
            _ => true,
        }
    }

    fn is_due(&mut self, every: Duration) -> bool {
        let is_due = self.last.elapsed() >= every;
        if is_due {
            self.last = Instant::now();
        }
        is_due
    }

    fn says(&mut self, octets: &[u8]) -> bool {
        match self.stream.write(octets) {
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}

fn wrong_password(user: &str) -> String {
    format!("USER {user}\r\nPASS wrong\r\n")
}
