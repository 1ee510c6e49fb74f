//! A test runner without threads: every test runs in a child process, so that it may fork, close
//! descriptors and give up what it cannot have back. Speaks as much of libtest's command line as
//! cargo and nextest use.
#![allow(dead_code, missing_docs)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{ExitCode, ExitStatus};

use confine::process::{self, Fork};

pub mod attempts;

/// A name that is a sentence, and the test.
pub type Test = (&'static str, fn());

/// The tests of these names.
#[macro_export]
macro_rules! tests {
    ($($test:ident),* $(,)?) => { &[$((stringify!($test), $test)),*] };
}

/// Runs the tests whose names contain one of the arguments, or all.
pub fn run(tests: &[Test]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    // `--format terse` is how nextest asks for the list.
    let names: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with('-') && *argument != "terse")
        .collect();
    let chosen = |test: &&Test| {
        let matches = |name: &&String| {
            if has("--exact") {
                test.0 == name.as_str()
            } else {
                test.0.contains(name.as_str())
            }
        };
        !has("--ignored") && (names.is_empty() || names.iter().any(matches))
    };
    let chosen: Vec<&Test> = tests.iter().filter(chosen).collect();
    if has("--list") {
        chosen.iter().for_each(|test| println!("{}: test", test.0));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    let mut failed = 0;
    for (name, test) in &chosen {
        let status = in_child(test);
        failed += usize::from(!status.success());
        println!(
            "test {name} ... {}",
            if status.success() { "ok" } else { "FAILED" }
        );
    }
    println!(
        "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out\n",
        if failed == 0 { "ok" } else { "FAILED" },
        chosen.len() - failed,
        tests.len() - chosen.len(),
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Does `work` in a child and waits for its end. A panic is exit status 1.
pub fn in_child(work: impl FnOnce()) -> ExitStatus {
    process::wait(start_child(work)).unwrap()
}

/// Does `work` in a child.
pub fn start_child(work: impl FnOnce()) -> process::Pid {
    match process::fork().unwrap() {
        Fork::Parent(child) => child,
        Fork::Child => {
            let done = catch_unwind(AssertUnwindSafe(work)).is_ok();
            process::exit(i32::from(!done))
        }
    }
}

/// Whether we are root; says what is skipped where not.
pub fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped, needs root: {test}");
    }
    root
}

/// A line of /proc/self/status without its name, spaces made single.
pub fn status_line(name: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
