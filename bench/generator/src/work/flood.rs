//! A polite client while others do what they can to be in its way, from one address and from a hundred; servers have
//! the limits here that they have by default.

use super::{Figure, Figures, Work};
use crate::Outcome;
use crate::accounts::PASSWORD;
use crate::client::Client;
use crate::mail::Format;
use crate::setup::{FLOODED, Instance, SetUp, flooded, polled};
use crate::table::rounded;
use crate::transport::Transport;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Connections that a flood holds; more than any server's default limit on sessions.
const MAX_HELD: usize = 1200;

/// Connections that a flood opens in a second: it has to leave processor time to those it competes with.
const MAX_OPENED_A_SECOND: u64 = 2_000;

/// Connections that a flood begins before it looks after those it has.
const MAX_OPENED_AT_ONCE: usize = 50;

/// Between two looks at those it has: a flood that looked all the time would itself take a processor from all others.
const FLOOD_PAUSE: Duration = Duration::from_millis(2);

/// A polite session that takes longer has failed.
const POLITE_PATIENCE: Duration = Duration::from_secs(10);

/// Addresses of the polite client; popa3d counts the sessions of the last ten seconds.
const POLITE_NETWORK: [u8; 2] = [127, 201];

/// Between two polite sessions.
const POLITE_PAUSE: Duration = Duration::from_millis(10);

/// Each kind of flood, from 1 and from 100 addresses.
pub const FLOOD: Work = Work {
    name: "flood",
    set_up: |_quick| SetUp::Flood,
    formats: &[Format::Mbox],
    leaves_out: &[
        "ceiling",
        "ours-pam",
        "popa3d-debian",
        "dovecot-debian",
        "mailutils",
    ],
    rounds: 1,
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

/// The first two are what `--quick` tries, from a hundred addresses.
const KINDS: [(Kind, [&str; 2]); 7] = [
    (
        Kind::Silent,
        ["flood from 1: silent", "flood from 100: silent"],
    ),
    (
        Kind::WrongPasswords,
        [
            "flood from 1: wrong passwords",
            "flood from 100: wrong passwords",
        ],
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
];

fn turn(instance: &Instance, quick: bool) -> Outcome<Vec<Figures>> {
    let time = Duration::from_millis(if quick { 700 } else { 6_000 });
    let calm = instance.machine.run(move || Ok(polite(time)))?;
    if let Some(failure) = calm.first_failure {
        return Err(format!("without any flood: {failure}").into());
    }
    let kinds = if quick { &KINDS[..2] } else { &KINDS[..] };
    let mut all = Vec::new();
    for (kind, rows) in kinds {
        for (row, sources) in rows.iter().zip([1, 100]) {
            if sources > 1 || !quick {
                all.push(under_flood(instance, &calm, *kind, row, sources, time)?);
            }
        }
    }
    Ok(all)
}

fn under_flood(
    instance: &Instance,
    calm: &Seen,
    kind: Kind,
    row: &'static str,
    sources: u8,
    time: Duration,
) -> Outcome<Figures> {
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
    Ok(Figures {
        row,
        main: Figure::more(during.succeeded(), "% served"),
        cost: Some(Figure::less(
            during.percentile_99() / calm.percentile_99(),
            "x p99",
        )),
        note: format!(
            "p99 {} → {} ms, {} sessions, flood of {opened}, {dropped} SYN dropped {}",
            rounded(calm.percentile_99()),
            rounded(during.percentile_99()),
            during.tried,
            during.first_failure.as_deref().unwrap_or_default()
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
    first_failure: Option<String>,
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
        first_failure: None,
        milliseconds: Vec::new(),
    };
    while start.elapsed() < time {
        let began = Instant::now();
        let done = polite_session(seen.tried);
        seen.tried += 1;
        match done {
            Ok(()) => seen.milliseconds.push(began.elapsed().as_secs_f64() * 1e3),
            Err(error) => drop(seen.first_failure.get_or_insert(error.to_string())),
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
    let mut client = Client::connect_from(source, Transport::Plain, POLITE_PATIENCE)?;
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
    user: String,
    is_connected: bool,
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
            for _ in 0..MAX_OPENED_AT_ONCE {
                if self.opened < due && self.held.len() < self.most() {
                    self.open();
                }
            }
            self.serve();
            opened.store(self.opened, Ordering::Relaxed);
            std::thread::sleep(FLOOD_PAUSE);
        }
    }

    fn most(&self) -> usize {
        match self.kind {
            // A server lets one in for each mailbox.
            Kind::NeverRead => FLOODED,
            _ => MAX_HELD,
        }
    }

    /// Begins a connection; one that floods does not wait for it.
    fn open(&mut self) {
        let number = self.opened;
        self.opened += 1;
        let last = (number % u64::from(self.sources)) as u8 + 1;
        let source = Ipv4Addr::new(127, 202, self.kind as u8, last);
        let user = flooded(number as usize % FLOODED);
        if let Ok(stream) = begin_to_dial(source) {
            self.held.push(Attacker {
                stream,
                user,
                is_connected: false,
                last: Instant::now(),
            });
        }
    }

    /// Does what each connection is there for, and forgets those that the server has closed.
    fn serve(&mut self) {
        let kind = self.kind;
        let wanted = |attacker: &Attacker| match kind {
            _ if !attacker.is_connected => PollFlags::OUT,
            // Only the end is of interest, which is always told.
            Kind::NeverRead => PollFlags::empty(),
            _ => PollFlags::IN,
        };
        let mut fds: Vec<_> = self
            .held
            .iter()
            .map(|attacker| PollFd::new(&attacker.stream, wanted(attacker)))
            .collect();
        let _ready = poll(&mut fds, Some(&Timespec::default()));
        let events: Vec<_> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        let mut events = events.into_iter();
        self.held.retain_mut(|attacker| {
            let events = events.next().unwrap_or(PollFlags::empty());
            attacker.act(kind, events)
        });
    }
}

fn begin_to_dial(source: Ipv4Addr) -> Outcome<TcpStream> {
    let flags = SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(source, 0))?;
    match rustix::net::connect(&socket, &Transport::Plain.address()) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(OwnedFd::into(socket)),
        Err(error) => Err(error.into()),
    }
}

impl Attacker {
    /// False when it is over.
    fn act(&mut self, kind: Kind, events: PollFlags) -> bool {
        if events.intersects(PollFlags::ERR | PollFlags::HUP) {
            return false;
        }
        if events.contains(PollFlags::OUT) {
            self.is_connected = true;
            return self.begin(kind);
        }
        if events.contains(PollFlags::IN) {
            match self.stream.read(&mut [0; 4096]) {
                Ok(0) => return false,
                Ok(_) if kind == Kind::WrongPasswords => return self.guess(),
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

    fn begin(&mut self, kind: Kind) -> bool {
        let user = &self.user;
        match kind {
            Kind::ConnectAndClose => false,
            Kind::Silent | Kind::OctetASecond | Kind::EndlessLine => true,
            Kind::UserThenSilence => {
                let line = format!("USER {user}\r\n");
                self.says(line.as_bytes())
            }
            Kind::WrongPasswords => self.guess(),
            Kind::NeverRead => {
                let login = format!("USER {user}\r\nPASS {PASSWORD}\r\n");
                self.says((login + &"RETR 1\r\n".repeat(16)).as_bytes())
            }
        }
    }

    fn guess(&mut self) -> bool {
        let guess = format!("USER {}\r\nPASS wrong\r\n", self.user);
        self.says(guess.as_bytes())
    }

    fn is_due(&mut self, every: Duration) -> bool {
        let is_due = self.is_connected && self.last.elapsed() >= every;
        if is_due {
            self.last = Instant::now();
        }
        is_due
    }

    fn says(&mut self, octets: &[u8]) -> bool {
        // What does not fit is no loss.
        let written = self.stream.write_all(octets);
        written.map_or_else(|error| error.kind() == ErrorKind::WouldBlock, |()| true)
    }
}
