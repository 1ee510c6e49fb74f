//! Running a program to its end, within a deadline, and telling by name what cannot be run here.

use crate::poll;
use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// Real clients fetch tens of megabytes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a program said before it ended.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub output: Vec<u8>,
    /// Its standard error.
    pub errors: String,
}

impl Outcome {
    /// The standard output of a program that ended well.
    ///
    /// # Panics
    /// When it did not, with what it said.
    pub fn expect_success(self, program: &str) -> Vec<u8> {
        let said = String::from_utf8_lossy(&self.output[..self.output.len().min(4096)]);
        assert!(
            self.status.success(),
            "{program}: {}\n{said}\n{}",
            self.status,
            self.errors
        );
        self.output
    }
}

/// Runs `command` with `input` on its standard input.
///
/// # Panics
/// When it cannot be started, or has not ended after a minute.
pub fn to_end(command: &mut Command, input: &[u8]) -> Outcome {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let (mut stdin, mut stdout, mut stderr) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that ends before it has read everything is judged by its status.
            let _ended = stdin.as_mut().map(|pipe| pipe.write_all(input));
        });
        let output = scope.spawn(move || {
            let mut octets = Vec::new();
            let _ended = stdout.as_mut().map(|pipe| pipe.read_to_end(&mut octets));
            octets
        });
        let errors = scope.spawn(move || {
            let mut octets = Vec::new();
            let _ended = stderr.as_mut().map(|pipe| pipe.read_to_end(&mut octets));
            String::from_utf8_lossy(&octets).into_owned()
        });
        let end = std::time::Instant::now() + PATIENCE;
        let status = poll::within(PATIENCE * 2, &name, || {
            if std::time::Instant::now() > end {
                let _ended = child.kill();
            }
            child.try_wait().expect("the state of a child")
        });
        Outcome {
            status,
            output: output.join().expect("standard output"),
            errors: errors.join().expect("standard error"),
        }
    })
}

/// True if `program` is on the path of the tests.
pub fn is_installed(program: &str) -> bool {
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"]
        .iter()
        .any(|directory| std::path::Path::new(directory).join(program).exists())
}

/// Tells, past the test runner's capture, that this test was not run and why.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    let line = format!("skipped, {why}: {name}\n");
    let _lost = std::io::stderr().write_all(line.as_bytes());
}
