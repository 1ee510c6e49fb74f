//! `fuzzing TARGET SECONDS [SEED]`: runs one target, or `all` of them one after the other, by the generator.

use std::process::ExitCode;
use std::time::Duration;

use fuzzing::{Bound, TARGETS, run, target};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
    let chosen: Vec<_> = match arguments.first().map(String::as_str) {
        Some("all") => TARGETS.iter().collect(),
        Some(name) => target(name).into_iter().collect(),
        None => Vec::new(),
    };
    let (false, Some(seconds)) = (chosen.is_empty(), number(1)) else {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("usage: fuzzing TARGET SECONDS [SEED]");
        eprintln!("targets: all, {}", names.join(", "));
        return ExitCode::FAILURE;
    };
    for target in chosen {
        let bound = Bound::Time(Duration::from_secs(seconds));
        match run(target, bound, number(2).unwrap_or(1)) {
            Ok(outcome) => println!("{}: {outcome}", target.name),
            Err(failure) => {
                eprintln!("{}: failed at {failure}", target.name);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
