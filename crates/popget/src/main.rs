//! `popget`: fetches mail from POP3 servers, and loses none.
//!
//! Runs as the user whose mail it is. The server is not trusted: the library bounds what it may send, and what it says is escaped
//! before it is shown. Mail is streamed to where it goes, without being looked at.
//!
//! [`cli`] and [`config`] say what is wanted, [`account`] how to reach a server, [`fetch`] is the run, [`deliver`] the places
//! where mail goes, [`seen`] the record that keeps it from being lost or doubled.
#![forbid(unsafe_code)]

mod account;
mod cli;
mod config;
mod deliver;
mod failure;
mod fetch;
mod filter;
mod generate;
mod inspect;
mod progress;
mod seen;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use clap::Parser;

use crate::account::Account;
use crate::cli::{Action, Cli, Common, Fetch};
use crate::config::{Configuration, user_directory};
use crate::failure::{Exit, Failed};
use crate::fetch::{Mode, Report};
use crate::progress::Bars;

/// Accounts worked on at a time.
const MAX_AT_A_TIME: usize = 8;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.action {
        Action::Fetch(fetch) => fetch_all(fetch, &cli.common),
        Action::Generate { what } => generate::run(*what)
            .map_err(Failed::local)
            .map(|()| Exit::Fine),
        other => inspect::run(other, &cli.common),
    };
    let exit = result.unwrap_or_else(|failed| {
        eprintln!("popget: {failed}");
        failed.exit
    });
    ExitCode::from(exit.code())
}

fn fetch_all(fetch: &Fetch, common: &Common) -> Result<Exit, Failed> {
    let configuration = Configuration::read(common.config.as_deref())?;
    let names = match fetch.accounts.is_empty() {
        true => configuration.names(),
        false => fetch.accounts.clone(),
    };
    if names.is_empty() {
        return Err(Failed::usage(
            "from where? popget fetch pop3s://user@host --maildir DIR".to_owned(),
        ));
    }
    let accounts: Result<Vec<Account>, Failed> = names
        .iter()
        .map(|name| configuration.account(name, &fetch.options))
        .collect();
    let state = match &common.state {
        Some(directory) => directory.clone(),
        None => user_directory("XDG_STATE_HOME", ".local/state")
            .ok_or_else(|| Failed::usage("no home directory; use --state".to_owned()))?,
    };
    let mode = Mode {
        dry_run: fetch.dry_run,
        seen_now: fetch.seen_now,
    };
    let bars = Bars::new(common.quiet || common.json || common.verbose);
    let waiting = Mutex::new(accounts?.into_iter());
    let exit = Mutex::new(Exit::Fine);
    thread::scope(|scope| {
        for _ in 0..names.len().min(MAX_AT_A_TIME) {
            scope.spawn(|| {
                while let Some(account) = locked(&waiting).next() {
                    let bar = bars.add(&account.name);
                    let report = fetch::run(&account, mode, &state, &bar, common.verbose);
                    show(&report, common);
                    let mut exit = locked(&exit);
                    *exit = exit.max(report.exit);
                }
            });
        }
    });
    Ok(*locked(&exit))
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Says what was done for an account: on standard output as JSON, else on standard error, since mail may go to the other.
fn show(report: &Report, common: &Common) {
    if common.json {
        if let Ok(json) = serde_json::to_string(report) {
            let mut out = std::io::stdout().lock();
            // Who does not listen does not want to know.
            let _ = writeln!(out, "{json}");
        }
        return;
    }
    for warning in report.warnings.iter().chain(&report.error) {
        eprintln!("popget: {}: {warning}", report.account);
    }
    if common.quiet {
        return;
    }
    for line in &report.plan {
        println!("{line}");
    }
    let mut summary = format!(
        "{}: {} messages, {} new, {} fetched",
        report.account, report.messages, report.new, report.fetched
    );
    for (count, what) in [
        (report.recovered, "found delivered"),
        (report.unwanted, "not wanted"),
        (report.failed, "failed"),
        (report.deleted, "deleted"),
    ] {
        if count > 0 {
            summary.push_str(&format!(", {count} {what}"));
        }
    }
    if report.error.is_none() {
        eprintln!("{summary}");
    }
}
