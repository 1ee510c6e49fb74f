//! The load generator of `bench/run`: it sets up a private machine for each server, has each do the same work in turn,
//! several rounds, and prints one table. Runs as root, in no product; what it starts lives in namespaces and cgroups
//! of its own and ends with it.
//!
//! Where is …?
//! - a server's configuration: [`servers`]
//! - the mail: [`mail`]; who has which: [`setup`]
//! - TLS: [`transport`]
//! - the work: [`work`]
//! - what the server cost: [`cgroup`]
#![forbid(unsafe_code)]

mod accounts;
mod cgroup;
mod check;
mod client;
mod machine;
mod mail;
mod options;
mod servers;
mod setup;
mod table;
mod transport;
mod work;

use mail::Format;
use options::Options;
use setup::{Instance, SetUp};
use std::process::ExitCode;
use table::Table;
use work::Work;

/// What this program can say about a failure is the text; nobody acts on its kind.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Descriptors for the largest crowd.
const MAX_DESCRIPTORS: u64 = 65_536;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    let result = if arguments
        .peek()
        .is_some_and(|first| first == "serve-from-memory")
    {
        servers::serve_from_memory()
    } else {
        Options::parse(arguments).and_then(|options| run(&options))
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Outcome<()> {
    if options.list {
        list();
        return Ok(());
    }
    raise_limits()?;
    let wanted: Vec<_> = work::ALL
        .iter()
        .filter(|work| options.wants_work(work.name))
        .collect();
    let mut table = Table::default();
    // Work that wants the same mail is done by the same servers.
    let mut rest = wanted.as_slice();
    while let Some(first) = rest.first() {
        let set_up = (first.set_up)(options.quick);
        let same = rest
            .iter()
            .take_while(|work| (work.set_up)(options.quick) == set_up)
            .count();
        let (now, later) = rest.split_at(same);
        for format in [Format::Mbox, Format::Maildir] {
            do_work(now, format, set_up, options, &mut table)?;
        }
        rest = later;
    }
    print!("{}", table.report());
    write(&table, options)
}

/// Writes what there is, so that a run which is interrupted has not been for nothing.
fn write(table: &Table, options: &Options) -> Outcome<()> {
    if let Some(path) = &options.output {
        std::fs::write(path, table.report())?;
    }
    Ok(())
}

/// Has every server do each piece of work in turn, round after round. Rows are told as soon as they are complete.
fn do_work(
    works: &[&Work],
    format: Format,
    set_up: SetUp,
    options: &Options,
    table: &mut Table,
) -> Outcome<()> {
    let mut instances = Vec::new();
    for server in servers::ALL {
        let has_work = works.iter().any(|work| work.is_for(server, format));
        if !has_work || !options.wants_server(server.name) {
            continue;
        }
        eprintln!("bench: {} starts, {}", server.name, format.name());
        let started = Instance::start(server, format, set_up, options).and_then(|instance| {
            let served = check::check(&instance, set_up);
            served.map_err(|error| format!("{error} {}", instance.machine.said()))?;
            Ok(instance)
        });
        match started {
            Ok(instance) => instances.push(instance),
            Err(error) => table.fail(format!("{}, {}: {error}", server.name, format.name())),
        }
    }
    for work in works {
        let rounds = options.rounds.unwrap_or(if options.quick {
            work.rounds.min(2)
        } else {
            work.rounds
        });
        let known = table.len();
        for round in 1..=rounds {
            instances.retain_mut(|instance| {
                if !work.is_for(instance.server, format) {
                    return true;
                }
                let what = format!("{}, {}, {}", work.name, format.name(), instance.server.name);
                eprintln!("bench: {what}, round {round} of {rounds}");
                instance.rest();
                let turn = (work.turn)(instance, options.quick);
                instance.tire();
                match turn {
                    Ok(figures) => table.add(instance.server, format, figures),
                    Err(error) => {
                        let said = instance.machine.said();
                        table.fail(format!("{what}, and what would follow: {error} {said}"));
                        return false;
                    }
                }
                true
            });
        }
        eprint!("{}", table.rows_behind(known));
        write(table, options)?;
    }
    Ok(())
}

/// Takes the descriptors that are allowed; the servers inherit the limit.
fn raise_limits() -> Outcome<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(maximum.map_or(MAX_DESCRIPTORS, |allowed| allowed.min(MAX_DESCRIPTORS)));
    Ok(setrlimit(Resource::Nofile, Rlimit { current, maximum })?)
}

fn list() {
    println!("work:");
    for work in work::ALL {
        println!("  {}", work.name);
    }
    println!("servers:");
    for server in servers::ALL {
        println!("  {:16} {}", server.name, server.about);
    }
}
