//! Campaigns of crashes.
//!
//!     crash points  [--points N] [--seed N] [--threads N] [--directory DIRECTORY]
//!     crash maildir [--points N] [--seed N] [--threads N] [--directory DIRECTORY] [--rounds N]
//!     crash lists   [--points N] [--seed N] [--threads N] [--directory DIRECTORY] [--rounds N]
//!     crash power ext4|xfs [--points N] [--seed N] [--directory DIRECTORY] [--maildir|--lists]
//!     crash full ext4|xfs|tmpfs
//!     crash server [--step N] [--alone] [--dovecot]
//!
//! `points` tries every call in every way, for every shape of mailbox and size of batches, in a random order, up to as many
//! as are asked for; now and then it says how far it is. `maildir` does so for Maildirs, that many rounds, each with other
//! renames meanwhile; `lists` for maildrops of both kinds with lists of what is out of sight. `power` cuts the power of a file system at so many points, after each interruption. `server` tries
//! every call, or every N-th, with the whole server; or with Debian's where POPA3D_UNDER_TEST is `original`, or with
//! Dovecot; `--alone` kills single processes of it.
//!
//! Prints sums, and what was found wrong; fails if that is anything.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crash_tests::point::{BATCHES, FAULTS, Point};
use crash_tests::power::Disk;
use crash_tests::server::Target;
use crash_tests::shapes::{self, Shape};
use crash_tests::{Count, Place, lists, maildir};
use system_tests::random::Random;
use system_tests::site::Setup;
use tracer::faults::Fault;

/// Complaints that are printed; the others are counted.
const MAX_PRINTED: usize = 20;

/// A campaign takes hours.
const POINTS_BETWEEN_REPORTS: u64 = 1000;

/// Power cuts, unless fewer are asked for.
const MAX_CUTS: usize = 100_000;

/// What may come with a power cut.
const KILLS: [Fault; 3] = [Fault::Before, Fault::After, Fault::Torn];

/// What a full disk says: `ENOSPC`.
const NO_SPACE: i32 = 28;

/// Set where the program runs in a mount name space of its own.
const INSIDE: &str = "CRASH_INSIDE";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let began = Instant::now();
    match run(&arguments) {
        Ok(sums) => {
            sums.print();
            println!("{:.0} s", began.elapsed().as_secs_f64());
            match sums.total.bad {
                0 => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("crash: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<Sums, Box<dyn Error>> {
    let number = |name: &str, default: u64| match option(arguments, name) {
        Some(text) => text.parse::<u64>(),
        None => Ok(default),
    };
    let (seed, step) = (number("--seed", 1)?, number("--step", 1)?.max(1));
    let directory = Path::new(option(arguments, "--directory").unwrap_or("/dev/shm"));
    let is_given = |name: &str| arguments.iter().any(|argument| argument == name);
    let campaign = Campaign {
        directory,
        most: usize::try_from(number("--points", u32::MAX.into())?)?,
        seed,
        threads: number("--threads", 2)?.max(1),
    };
    match arguments.first().map(String::as_str) {
        Some("points") => points(&campaign),
        Some("maildir") => maildirs(&campaign, number("--rounds", 1)?),
        Some("lists") => with_lists(&campaign, number("--rounds", 1)?),
        Some("power") => {
            let kind = arguments.get(1).ok_or("power: ext4 or xfs?")?;
            let cut = match (is_given("--maildir"), is_given("--lists")) {
                (true, _) => cut_maildirs,
                (false, true) => cut_lists,
                (false, false) => cut_mailboxes,
            };
            power(&campaign, kind, cut)
        }
        Some("full") => full(
            &campaign,
            arguments.get(1).ok_or("full: ext4, xfs or tmpfs?")?,
        ),
        Some("server") => server(step, is_given("--alone"), is_given("--dovecot")),
        _ => Err(
            "usage: crash points|maildir|lists|power|full|server …; see the head of its source"
                .into(),
        ),
    }
}

fn option<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1).map(String::as_str)
}

/// What came of a campaign.
#[derive(Default)]
struct Sums {
    total: Count,
    by_fault: BTreeMap<String, Count>,
    complaints: Vec<String>,
}

impl Sums {
    fn add(&mut self, fault: Fault, count: Count, complaint: Option<String>) {
        self.total += count;
        *self.by_fault.entry(name(fault)).or_default() += count;
        self.complaints.extend(complaint);
    }

    fn print(&self) {
        for (fault, count) in &self.by_fault {
            println!("{fault}: {count}");
        }
        println!("all: {}", self.total);
        for complaint in self.complaints.iter().take(MAX_PRINTED) {
            println!("bad: {complaint}");
        }
    }
}

fn name(fault: Fault) -> String {
    let error = |number| io::Error::from_raw_os_error(number);
    match fault {
        Fault::Once(number) => format!("once: {}", error(number)),
        Fault::Lasting(number) => format!("lasting: {}", error(number)),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// The program that is interrupted, beside this one.
fn driver() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("driver"))
}

/// The calls of an update that nothing interrupts.
fn calls(place: &Place, shape: &Shape) -> Result<usize, Box<dyn Error>> {
    place.reset(&shape.messages.concat())?;
    let outcome = place.update(shape, None)?;
    match outcome.done && std::fs::read(place.mailbox())? == shape.after() {
        true => Ok(outcome.run.calls.len()),
        false => Err(format!("{}: does not work at all: {}", shape.name, outcome.said).into()),
    }
}

/// What a campaign is asked for.
struct Campaign<'a> {
    /// Where the maildrops are.
    directory: &'a Path,
    /// Points at most.
    most: usize,
    seed: u64,
    threads: u64,
}

impl Campaign<'_> {
    /// Tries all of `work` in a random order, on several threads, each in a place of its own.
    fn try_all<W: Sync, P>(
        &self,
        mut work: Vec<W>,
        place: impl Fn(&Path) -> io::Result<P> + Sync,
        attempt: impl Fn(&mut P, &W) -> io::Result<(Fault, Count, Option<String>)> + Sync,
    ) -> Result<Sums, Box<dyn Error>> {
        println!("{} points in all", work.len());
        let mut random = Random::new(self.seed);
        for left in (1..work.len()).rev() {
            work.swap(left, random.below(left + 1));
        }
        work.truncate(self.most);
        let (next, sums) = (AtomicUsize::new(0), Mutex::new(Sums::default()));
        let try_some = || -> io::Result<()> {
            let scratch = tempfile::tempdir_in(self.directory)?;
            let mut place = place(scratch.path())?;
            while let Some(item) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (fault, count, complaint) = attempt(&mut place, item)?;
                if let Ok(mut sums) = sums.lock() {
                    sums.add(fault, count, complaint);
                    if sums.total.points.is_multiple_of(POINTS_BETWEEN_REPORTS) {
                        println!("so far: {}", sums.total);
                    }
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads).map(|_| scope.spawn(try_some)).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or(Err(io::ErrorKind::Other.into())))
        })?;
        Ok(sums.into_inner().unwrap_or_default())
    }
}

fn points(campaign: &Campaign<'_>) -> Result<Sums, Box<dyn Error>> {
    let (shapes, driver) = (shapes::all(), driver()?);
    let mut work = Vec::new();
    {
        let scratch = tempfile::tempdir_in(campaign.directory)?;
        let mut place = Place::new(scratch.path(), &driver, BATCHES[0])?;
        for shape in &shapes {
            for batch in BATCHES {
                place.set_batch(batch);
                for call in 1..=calls(&place, shape)? {
                    work.extend(FAULTS.map(|fault| (batch, shape, call, fault)));
                }
            }
        }
    }
    campaign.try_all(
        work,
        |directory| Place::new(directory, &driver, BATCHES[0]),
        |place, &(batch, shape, call, fault)| {
            place.set_batch(batch);
            let seed = campaign.seed.wrapping_mul(batch);
            let point = Point {
                shape,
                call,
                fault,
                seed,
            };
            let (count, complaint) = point.try_at(place)?;
            let name = format!("{}, batches of {batch}", shape.name);
            Ok((fault, count, named(complaint, &name, fault, call)))
        },
    )
}

fn maildirs(campaign: &Campaign<'_>, rounds: u64) -> Result<Sums, Box<dyn Error>> {
    let (shapes, driver) = (maildir::shapes(), driver()?);
    let work = {
        let scratch = tempfile::tempdir_in(campaign.directory)?;
        let target = maildir::Target::new(scratch.path(), &driver)?;
        every_fault(&shapes, rounds, |shape| target.calls(shape))?
    };
    campaign.try_all(
        work,
        |directory| maildir::Target::new(directory, &driver),
        |target, &(shape, call, fault, round)| {
            let seed = campaign.seed.wrapping_add(round) << 16;
            let (count, complaint) = target.try_at(shape, call, fault, seed, || Ok(()))?;
            let name = format!("{}, seed {seed}", shape.name);
            Ok((fault, count, named(complaint, &name, fault, call)))
        },
    )
}

/// Every fault at every call of an update of each shape, in each round.
fn every_fault<Shape>(
    shapes: &[Shape],
    rounds: u64,
    calls: impl Fn(&Shape) -> io::Result<usize>,
) -> io::Result<Vec<(&Shape, usize, Fault, u64)>> {
    let mut points = Vec::new();
    for shape in shapes {
        for call in 1..=calls(shape)? {
            for round in 0..rounds {
                points.extend(FAULTS.map(|fault| (shape, call, fault, round)));
            }
        }
    }
    Ok(points)
}

/// A complaint with where it was.
fn named(complaint: Option<String>, name: &str, fault: Fault, call: usize) -> Option<String> {
    complaint.map(|complaint| format!("{name}, {fault:?} at call {call}: {complaint}"))
}

fn with_lists(campaign: &Campaign<'_>, rounds: u64) -> Result<Sums, Box<dyn Error>> {
    let (shapes, driver) = (lists::shapes(), driver()?);
    let work = {
        let scratch = tempfile::tempdir_in(campaign.directory)?;
        let target = lists::Target::new(scratch.path(), &driver)?;
        every_fault(&shapes, rounds, |shape| target.calls(shape))?
    };
    campaign.try_all(
        work,
        |directory| lists::Target::new(directory, &driver),
        |target, &(shape, call, fault, round)| {
            let seed = campaign.seed.wrapping_add(round) << 16;
            let (count, complaint) = target.try_at(shape, call, fault, seed, |_| Ok(()))?;
            let name = format!("{}, seed {seed}", shape.name);
            Ok((fault, count, named(complaint, &name, fault, call)))
        },
    )
}

/// Cuts the power of a disk that often.
type Cut = fn(&Disk, usize, &mut Random) -> Result<Sums, Box<dyn Error>>;

fn power(campaign: &Campaign<'_>, kind: &str, cut: Cut) -> Result<Sums, Box<dyn Error>> {
    enter_own_mounts()?;
    let scratch = tempfile::tempdir_in(campaign.directory)?;
    let disk = Disk::new(scratch.path(), kind)?;
    let mut random = Random::new(campaign.seed);
    let most = campaign.most.min(MAX_CUTS);
    cut(&disk, most, &mut random)
}

/// Begins anew where what is mounted is not seen outside, unless that has been done.
fn enter_own_mounts() -> io::Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private"]);
    unshare
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1));
    Err(unshare.env(INSIDE, "").exec())
}

/// Opens each mailbox, has the disk filled to the last octet, and deletes.
fn full(campaign: &Campaign<'_>, kind: &str) -> Result<Sums, Box<dyn Error>> {
    enter_own_mounts()?;
    let scratch = tempfile::tempdir_in(campaign.directory)?;
    let disk = Disk::new(scratch.path(), kind)?;
    let mut place = Place::new(disk.path(), &driver()?, BATCHES[0])?;
    let mut sums = Sums::default();
    for shape in shapes::all().iter().filter(|shape| shape.early.is_empty()) {
        for batch in BATCHES {
            place.set_batch(batch);
            place.reset(&shape.messages.concat())?;
            place.open(None)?;
            disk.fill()?;
            let outcome = place.update(shape, None)?;
            let deleted = std::fs::read(place.mailbox())? == shape.after();
            disk.make_room()?;
            let complaint = match outcome.done && deleted {
                true => place.complaint()?,
                false => Some(outcome.said),
            };
            let count = Count {
                points: 1,
                hit: 1,
                reported: outcome.done.into(),
                deleted: deleted.into(),
                bad: complaint.is_some().into(),
                twice: 0,
            };
            let name = format!("{}, batches of {batch}", shape.name);
            let fault = Fault::Lasting(NO_SPACE);
            sums.add(fault, count, named(complaint, &name, fault, 0));
        }
    }
    Ok(sums)
}

fn cut_mailboxes(disk: &Disk, most: usize, random: &mut Random) -> Result<Sums, Box<dyn Error>> {
    let mut place = Place::new(disk.path(), &driver()?, BATCHES[0])?;
    let shapes = shapes::all();
    let mut lengths = BTreeMap::new();
    let mut sums = Sums::default();
    for _ in 0..most {
        let at = random.below(shapes.len());
        let (shape, batch) = (&shapes[at], BATCHES[random.below(BATCHES.len())]);
        place.set_batch(batch);
        let length = match lengths.get(&(at, batch)) {
            Some(&length) => length,
            None => {
                let length = calls(&place, shape)?;
                lengths.insert((at, batch), length);
                length
            }
        };
        let point = Point {
            shape,
            call: 1 + random.below(length),
            fault: KILLS[random.below(KILLS.len())],
            seed: random.bits(),
        };
        let (mailbox, journal) = (place.mailbox(), place.journal());
        let cut = || disk.cut(&[&mailbox, &journal], random);
        let (count, complaint) = point.try_with(&place, cut)?;
        let name = format!("{}, batches of {batch}", shape.name);
        let complaint = named(complaint, &name, point.fault, point.call);
        sums.add(point.fault, count, complaint);
    }
    Ok(sums)
}

fn cut_maildirs(disk: &Disk, most: usize, random: &mut Random) -> Result<Sums, Box<dyn Error>> {
    let target = maildir::Target::new(disk.path(), &driver()?)?;
    let shapes = maildir::shapes();
    let mut sums = Sums::default();
    for _ in 0..most {
        let shape = &shapes[random.below(shapes.len())];
        // Each message is one call, and then there are two.
        let call = 1 + random.below(shape.deleted.len() + 2);
        let fault = KILLS[random.below(KILLS.len())];
        let seed = random.bits();
        let cut = || disk.cut(&[], random);
        let (count, complaint) = target.try_at(shape, call, fault, seed, cut)?;
        sums.add(fault, count, named(complaint, shape.name, fault, call));
    }
    Ok(sums)
}

fn cut_lists(disk: &Disk, most: usize, random: &mut Random) -> Result<Sums, Box<dyn Error>> {
    let target = lists::Target::new(disk.path(), &driver()?)?;
    let shapes = lists::shapes();
    let lengths: Vec<_> = shapes
        .iter()
        .map(|shape| target.calls(shape))
        .collect::<Result<_, _>>()?;
    let mut sums = Sums::default();
    for _ in 0..most {
        let at = random.below(shapes.len());
        let call = 1 + random.below(lengths[at]);
        let fault = KILLS[random.below(KILLS.len())];
        let seed = random.bits();
        let cut = |files: &[PathBuf]| {
            let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
            disk.cut(&files, random)
        };
        let (count, complaint) = target.try_at(&shapes[at], call, fault, seed, cut)?;
        sums.add(fault, count, named(complaint, shapes[at].name, fault, call));
    }
    Ok(sums)
}

fn server(step: u64, alone: bool, is_dovecot: bool) -> Result<Sums, Box<dyn Error>> {
    let sums = Mutex::new(Ok(Sums::default()));
    Setup::new().as_root(|site| {
        let target = match is_dovecot {
            true => Target::dovecot(site).map_err(|error| error.to_string()),
            false => Ok(Target::new(site)),
        };
        if let Ok(mut sums) = sums.lock() {
            *sums = target.and_then(|target| interrupt(&target, step, alone));
        }
    });
    Ok(sums.into_inner().map_err(|_| "poisoned")??)
}

fn interrupt(target: &Target<'_>, step: u64, alone: bool) -> Result<Sums, String> {
    let text = |error: io::Error| error.to_string();
    let mut sums = Sums::default();
    let step = usize::try_from(step).map_err(|error| error.to_string())?;
    for shape in shapes::all().iter().filter(|shape| shape.early.is_empty()) {
        let calls = match target.calls(shape).map_err(text)? {
            Ok(calls) => calls,
            Err(why) => {
                println!("{}: not tried: {why}", shape.name);
                continue;
            }
        };
        println!("{}: {calls} calls", shape.name);
        for (number, call) in (1..=calls).step_by(step).enumerate() {
            let fault = FAULTS[number % FAULTS.len()];
            let (count, complaint) = target.try_at(shape, call, fault, alone).map_err(text)?;
            sums.add(fault, count, named(complaint, shape.name, fault, call));
        }
    }
    Ok(sums)
}
