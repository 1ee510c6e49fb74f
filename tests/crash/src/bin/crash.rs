//! Campaigns of crashes.
//!
//!     crash points [--points N] [--seed N] [--threads N] [--directory DIRECTORY]
//!     crash power ext4|xfs [--points N] [--seed N] [--directory DIRECTORY]
//!     crash server [--step N] [--alone]
//!
//! `points` tries every call in every way, for every shape of mailbox and size of batches, in a random order, up to as many
//! as are asked for; now and then it says how far it is. `power` cuts the power of a file system at so many of them, after each interruption. `server` does it with the
//! whole server, or with Debian's where POPA3D_UNDER_TEST is `original`; `--alone` kills single processes of it.
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
use crash_tests::{Count, Place};
use system_tests::random::Random;
use system_tests::site::Setup;
use tracer::faults::Fault;

/// Complaints that are printed; the others are counted.
const MAX_PRINTED: usize = 20;

/// A campaign takes hours.
const POINTS_BETWEEN_REPORTS: u64 = 1000;

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
    match arguments.first().map(String::as_str) {
        Some("points") => {
            let threads = number("--threads", 2)?.max(1);
            points(number("--points", u64::MAX)?, seed, threads, directory)
        }
        Some("power") => {
            let kind = arguments.get(1).ok_or("power: ext4 or xfs?")?;
            power(kind, number("--points", 100)?, seed, directory)
        }
        Some("server") => server(step, arguments.iter().any(|option| option == "--alone")),
        _ => Err("usage: crash points|power|server …; see the head of its source".into()),
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

fn points(most: u64, seed: u64, threads: u64, directory: &Path) -> Result<Sums, Box<dyn Error>> {
    let shapes = shapes::all();
    let mut work = Vec::new();
    {
        let scratch = tempfile::tempdir_in(directory)?;
        let mut place = Place::new(scratch.path(), &driver()?, BATCHES[0])?;
        for shape in &shapes {
            for batch in BATCHES {
                place.set_batch(batch);
                for call in 1..=calls(&place, shape)? {
                    work.extend(FAULTS.map(|fault| (shape, batch, call, fault)));
                }
            }
        }
    }
    let mut random = Random::new(seed);
    for left in (1..work.len()).rev() {
        work.swap(left, random.below(left + 1));
    }
    println!("{} points in all", work.len());
    work.truncate(usize::try_from(most)?);
    let (next, sums) = (AtomicUsize::new(0), Mutex::new(Sums::default()));
    let try_all = || -> io::Result<()> {
        let scratch = tempfile::tempdir_in(directory)?;
        let mut place = Place::new(scratch.path(), &driver()?, BATCHES[0])?;
        while let Some(&(shape, batch, call, fault)) =
            work.get(next.fetch_add(1, Ordering::Relaxed))
        {
            place.set_batch(batch);
            let seed = seed.wrapping_mul(batch);
            let point = Point {
                shape,
                call,
                fault,
                seed,
            };
            let (count, complaint) = point.try_at(&place)?;
            let complaint = complaint.map(|complaint| {
                format!(
                    "{}, batches of {batch}, {fault:?} at call {call}: {complaint}",
                    shape.name
                )
            });
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
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(try_all)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or(Err(io::ErrorKind::Other.into())))
    })?;
    Ok(sums.into_inner().unwrap_or_default())
}

fn power(kind: &str, points: u64, seed: u64, directory: &Path) -> Result<Sums, Box<dyn Error>> {
    if std::env::var_os(INSIDE).is_none() {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private"]);
        unshare
            .arg(std::env::current_exe()?)
            .args(std::env::args_os().skip(1));
        return Err(unshare.env(INSIDE, "").exec().into());
    }
    let scratch = tempfile::tempdir_in(directory)?;
    let disk = Disk::new(scratch.path(), kind)?;
    let mut place = Place::new(disk.path(), &driver()?, BATCHES[0])?;
    let shapes = shapes::all();
    let mut lengths = BTreeMap::new();
    let mut random = Random::new(seed);
    let mut sums = Sums::default();
    for _ in 0..points {
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
            fault: [Fault::Before, Fault::After, Fault::Torn][random.below(3)],
            seed: random.bits(),
        };
        let (mailbox, journal) = (place.mailbox(), place.journal());
        let cut = || disk.cut(&[&mailbox, &journal], &mut random);
        let (count, complaint) = point.try_with(&place, cut)?;
        let complaint = complaint.map(|complaint| {
            format!(
                "{}, batches of {batch}, {:?} at call {}: {complaint}",
                shape.name, point.fault, point.call
            )
        });
        sums.add(point.fault, count, complaint);
    }
    Ok(sums)
}

fn server(step: u64, alone: bool) -> Result<Sums, Box<dyn Error>> {
    let sums = Mutex::new(Ok(Sums::default()));
    Setup::new().as_root(|site| {
        if let Ok(mut sums) = sums.lock() {
            *sums = interrupt(&Target::new(site), step, alone);
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
            let complaint = complaint
                .map(|complaint| format!("{}, {fault:?} at call {call}: {complaint}", shape.name));
            sums.add(fault, count, complaint);
        }
    }
    Ok(sums)
}
