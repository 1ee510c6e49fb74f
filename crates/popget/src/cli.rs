//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::account::AccountOptions;

/// Fetches mail from POP3 servers, and loses none.
///
/// Works with no configuration: `popget fetch pop3s://user@host --maildir ~/Mail`. Mail stays on the server unless --delete or
/// --delete-after says otherwise. What has been fetched is remembered by its unique-id.
#[derive(Debug, Parser)]
#[command(name = "popget", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub action: Action,
    #[command(flatten)]
    pub common: Common,
}

const EXIT_CODES: &str = "\
Exit codes: 0 all is well; 1 some message could not be delivered, the rest was; 2 wrong usage or configuration; 3 a passing trouble \
(network, maildrop in use): try again later; 4 the login was refused; 5 any other error.";

#[derive(Clone, Debug, Default, Args)]
pub struct Common {
    /// Print JSON, one value a line
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Show what is said to the server and heard from it, without passwords
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// File with accounts [default: ~/.config/popget/popget.toml]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory for the records of what has been fetched [default: ~/.local/state/popget]
    #[arg(long, global = true, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Fetch new mail
    Fetch(Fetch),
    /// Show how many messages there are, and their octets
    Stat(Single),
    /// List messages: number, octets, unique-id
    List(Single),
    /// List unique-ids
    Uidl(Single),
    /// Show the header of a message, and the first lines of its body
    Top {
        #[command(flatten)]
        single: Single,
        /// Number of the message
        message: u32,
        /// Lines of the body
        #[arg(default_value_t = 0)]
        lines: u64,
    },
    /// Write a message to standard output, as it is
    Retr {
        #[command(flatten)]
        single: Single,
        /// Number of the message
        message: u32,
    },
    /// Delete messages
    Dele {
        #[command(flatten)]
        single: Single,
        /// Numbers of the messages
        #[arg(required = true)]
        messages: Vec<u32>,
    },
    /// Show what the server can do
    Capa(Single),
    /// Write the manual page or a shell's completions to standard output
    #[command(hide = true)]
    Generate { what: Generated },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Generated {
    Man,
    Bash,
    Fish,
    Zsh,
}

#[derive(Debug, Args)]
pub struct Single {
    /// The server, as `pop3s://user@host[:port]`, or the name of an account in the configuration; `pop3://` uses STLS
    pub account: String,
    #[command(flatten)]
    pub options: Box<AccountOptions>,
}

#[derive(Debug, Args)]
pub struct Fetch {
    /// Servers, as `pop3s://user@host[:port]`, or names of accounts in the configuration [default: all in the configuration]
    pub accounts: Vec<String>,
    #[command(flatten)]
    pub options: Box<AccountOptions>,
    /// Do nothing but show what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Fetch nothing, and take all that is there as fetched
    #[arg(long, conflicts_with = "dry_run")]
    pub seen_now: bool,
}
