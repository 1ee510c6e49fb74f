//! The manual page and the shells' completions, made from the command line's definition.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::{Cli, Generated};

/// Writes to standard output.
///
/// # Errors
/// Of writing.
pub fn run(what: Generated) -> io::Result<()> {
    let mut command = Cli::command();
    let mut text = Vec::new();
    let shell = match what {
        Generated::Man => {
            manual(command, &mut text)?;
            return io::stdout().write_all(&text);
        }
        Generated::Bash => Shell::Bash,
        Generated::Fish => Shell::Fish,
        Generated::Zsh => Shell::Zsh,
    };
    clap_complete::generate(shell, &mut command, "popget", &mut text);
    io::stdout().write_all(&text)
}

/// One page: the command, then each of its subcommands with its options.
fn manual(command: clap::Command, out: &mut Vec<u8>) -> io::Result<()> {
    let mut command = command;
    command.build();
    let page = Man::new(command.clone());
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    page.render_options_section(out)?;
    for subcommand in command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set())
    {
        if subcommand.get_name() == "help" {
            continue;
        }
        let name = subcommand.get_name().to_uppercase();
        writeln!(out, ".SH \"{name}\"")?;
        let page = Man::new(subcommand.clone());
        let mut part = Vec::new();
        page.render_synopsis_section(&mut part)?;
        page.render_description_section(&mut part)?;
        page.render_options_section(&mut part)?;
        // Sections of the part become subsections of the page.
        let part = String::from_utf8_lossy(&part).replace(".SH ", ".SS ");
        out.write_all(part.as_bytes())?;
    }
    page.render_extra_section(out)?;
    Ok(())
}
