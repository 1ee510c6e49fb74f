//! `popa3ctl`: what an administrator does to popa3d besides writing its configuration.
//!
//! Runs as whoever calls it, on files that he names, and trusts him. It speaks to no running server.
#![forbid(unsafe_code)]

mod user;
mod users_file;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Administration of popa3d.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Users of a users file, with SCRAM verifiers in place of passwords.
    #[command(subcommand)]
    User(user::Command),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::User(command) => user::run(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("popa3ctl: {error}");
            ExitCode::FAILURE
        }
    }
}
