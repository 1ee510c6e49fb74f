//! `popa3ctl`: what an administrator does to popa3d besides writing its configuration.
//!
//! Runs as whoever calls it, on files that he names, and trusts him. It speaks to no running server of ours. What opens a
//! maildrop, or meets the network, are processes of its own with less to lose (`helper.rs`).
#![forbid(unsafe_code)]

mod accounts;
mod app_password;
mod convert;
mod deliver;
mod helper;
mod mailbox;
mod state;
mod text_file;
mod uidl;
mod undelete;
mod user;
mod users_file;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::state::Hidden;

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
    /// Unique-ids of another server, carried over so that no client downloads everything again.
    #[command(subcommand)]
    Uidl(uidl::Command),
    /// Puts a maildrop into another format: the same messages, the same unique-ids.
    Convert(convert::Convert),
    /// Shows messages again that a user has deleted, and that are kept for a while (`maildrop.delete_grace`).
    Undelete(undelete::Messages),
    /// Shows messages again that were retrieved and are hidden since (`maildrop.hide_acknowledged`).
    Unhide(undelete::Messages),
    /// Is one of popa3ctl's own processes.
    #[command(hide = true)]
    Helper { task: String },
    /// Delivers a message to a user's maildrop.
    Deliver(deliver::Deliver),
    /// Is one of popa3ctl's own processes.
    #[command(hide = true)]
    LmtpSession(deliver::LmtpSession),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::User(command) => user::run(command),
        Command::Uidl(command) => uidl::run(command),
        Command::Convert(convert) => convert::run(&convert),
        Command::Undelete(messages) => undelete::run(Hidden::Deleted, &messages),
        Command::Unhide(messages) => undelete::run(Hidden::Retrieved, &messages),
        Command::Helper { task } => return helper::serve(&task),
        Command::Deliver(command) => return deliver::run(&command),
        Command::LmtpSession(command) => return deliver::run_lmtp_session(&command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("popa3ctl: {error}");
            ExitCode::FAILURE
        }
    }
}
