//! popget killed at random instants while it fetches with `--delete` from this project's server: nothing is lost, nothing comes twice.
//!
//! `POPGET_KILLS` says how many times for each place of delivery; few by default, as the tests of every change run it too. The whole
//! campaign, of which `docs/popget.md` tells the outcome:
//!
//! ```text
//! POPGET_KILLS=1000 cargo test -p popget --test kill -- --nocapture
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use system_tests::poll;
use system_tests::random::Random;
use system_tests::site::{Setup, Site};
use system_tests::users::ALICE;

/// Messages delivered for each round.
const MESSAGES: usize = 120;

fn kills() -> usize {
    std::env::var("POPGET_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(20)
}

/// The text of a message, which names it.
fn message(round: usize, number: usize) -> String {
    let body = format!("line of message {round}/{number}\n").repeat(1 + number * 7 % 200);
    format!("Subject: {round}/{number}\nMessage-ID: <{round}.{number}@example.org>\n\n{body}")
}

fn popget(site: &Site<'_>, home: &Path, place: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_popget"));
    command
        .args(["fetch", &format!("pop3://{}@{}", ALICE.name, site.address)])
        .args(["--plain", "--delete", "--json", "--password-command"])
        .arg(format!("echo {}", ALICE.password))
        .args(place)
        .env("HOME", home)
        .env_remove("XDG_STATE_HOME")
        .env_remove("XDG_CONFIG_HOME")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Messages that a run found delivered though the run before had not come to record them.
fn recovered(output: &Output) -> usize {
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    report["recovered"].as_u64().unwrap_or(0) as usize
}

/// Fetches until all is fetched; returns how long that took without being killed, and how many messages were found delivered.
fn to_end(site: &Site<'_>, home: &Path, place: &[&str]) -> (Duration, usize) {
    let mut found = 0;
    let duration = poll::within(Duration::from_secs(60), "popget to have its way", || {
        let started = Instant::now();
        // The server may still be busy with a session before.
        let output = popget(site, home, place)
            .stdout(Stdio::piped())
            .output()
            .unwrap();
        found += recovered(&output);
        let is_done = output.status.success() && fs::read(site.mailbox(ALICE)).unwrap().is_empty();
        is_done.then(|| started.elapsed())
    });
    (duration, found)
}

/// Kills popget again and again; `delivered` says what has arrived.
fn torture(place: &[&str], delivered: impl Fn(&Path) -> Vec<String> + Send + Sync) {
    // SCRAM takes a second where nothing is optimized.
    let setup = Setup::new().set("auth", "mechanisms", r#"["PLAIN"]"#);
    setup.as_ordinary_user(|site| {
        let home = site.directory.join("popget");
        fs::create_dir(&home).unwrap();
        let place: Vec<String> = place
            .iter()
            .map(|word| word.replace('~', home.to_str().unwrap()))
            .collect();
        let place: Vec<&str> = place.iter().map(String::as_str).collect();
        let _server = site.serve();
        let mut random = Random::new(20_261_123);
        let mut expected: BTreeMap<String, usize> = BTreeMap::new();
        let mut whole = Duration::from_millis(50);
        let (mut round, mut killed, mut found) = (0, 0, 0);
        while killed < kills() {
            round += 1;
            let mut mbox = String::new();
            for number in 0..MESSAGES {
                let text = message(round, number);
                mbox.push_str(&format!("From somebody Thu Jan  1 00:00:00 1970\n{text}\n"));
                expected.insert(text, 1);
            }
            site.deliver(ALICE, mbox.as_bytes());
            for _ in 0..4 {
                let mut popget = popget(site, &home, &place).spawn().unwrap();
                let micros = random.below(whole.as_micros() as usize * 5 / 4);
                // Not to wait for anything: the instant is what is tried.
                thread::sleep(Duration::from_micros(micros as u64));
                popget.kill().unwrap();
                killed += usize::from(!popget.wait().unwrap().success());
            }
            let (duration, recovered) = to_end(site, &home, &place);
            whole = duration.clamp(Duration::from_millis(5), Duration::from_secs(2));
            found += recovered;
        }
        let mut arrived: BTreeMap<String, usize> = BTreeMap::new();
        for text in delivered(&home) {
            *arrived.entry(text).or_default() += 1;
        }
        let lost = expected
            .keys()
            .filter(|text| !arrived.contains_key(*text))
            .count();
        let broken = arrived
            .keys()
            .filter(|text| !expected.contains_key(*text))
            .count();
        let doubled = arrived.values().filter(|times| **times > 1).count();
        println!(
            "{}: {killed} kills, {} messages: {lost} lost, {broken} broken, {doubled} doubled; of those delivered and not \
             recorded when it was killed, {found} recognised in the last run of a round",
            place[0],
            expected.len()
        );
        assert_eq!((lost, broken, doubled), (0, 0, 0));
    });
}

#[test]
fn into_a_maildir() {
    torture(&["--maildir", "~/Mail"], |home| {
        let path: PathBuf = home.join("Mail/new");
        let files = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        files
            .map(|file| fs::read_to_string(file).unwrap())
            .collect()
    });
}

#[test]
fn into_an_mbox() {
    torture(&["--mbox", "~/mbox"], |home| {
        let text = fs::read_to_string(home.join("mbox")).unwrap();
        let mut messages = Vec::new();
        for message in text.split("From popget-").skip(1) {
            let (_, message) = message.split_once('\n').unwrap();
            messages.push(message.strip_suffix('\n').unwrap_or(message).to_owned());
        }
        messages
    });
}
