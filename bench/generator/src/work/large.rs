//! Large mailboxes: the first login, the next ones, and deleting. Each turn makes the mailbox anew, and throws away
//! what the server knew about it.

use super::{Figure, Figures, Work};
use crate::Outcome;
use crate::client::Client;
use crate::mail::{Contents, Format, Mailbox};
use crate::servers::OURS;
use crate::setup::{Cost, Instance, LARGE, SetUp};
use crate::transport::Transport;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// What is delivered between two logins.
const ARRIVALS: usize = 10;

/// How many times less it is at quick scale.
const QUICK_SCALE: usize = 20;

/// An mbox of 20,000 messages, 1 GB.
pub const MBOX: Work = Work {
    name: "large-mbox",
    set_up: |_quick| SetUp::Large,
    formats: &[Format::Mbox],
    rounds: 3,
    leaves_out: &["ceiling", "ours-pam", "mailutils"],
    turn: |instance, quick| {
        let scale = if quick { QUICK_SCALE } else { 1 };
        let contents = Contents::uniform(20_000 / scale, 50_000);
        large(instance, &contents, 1, true)
    },
};

/// A Maildir of 100,000 messages.
pub const MAILDIR: Work = Work {
    name: "large-maildir",
    formats: &[Format::Maildir],
    turn: |instance, quick| {
        let scale = if quick { QUICK_SCALE } else { 1 };
        let contents = Contents::uniform(100_000 / scale, 2_000);
        large(instance, &contents, 1_000 / scale, false)
    },
    ..MBOX
};

fn large(
    instance: &Instance,
    contents: &Contents,
    deleted: usize,
    delete_all: bool,
) -> Outcome<Vec<Figures>> {
    let mailbox = instance.mailbox(LARGE)?;
    renew(instance, &mailbox, contents)?;
    let mut figures = vec![
        login(instance, "login, first")?,
        login(instance, "login, again")?,
    ];
    let arrivals = Contents {
        seed: 7,
        ..Contents::uniform(ARRIVALS, 4_000)
    };
    instance.machine.run(move || {
        mailbox.deliver(&arrivals, 1_710_000_000)?;
        rustix::fs::sync();
        Ok(())
    })?;
    figures.push(login(instance, "login, 10 new messages")?);
    let row = if deleted == 1 {
        "QUIT, 1 deleted"
    } else {
        "QUIT, 1 % deleted"
    };
    // From the middle, as a client does that keeps what is new and what is old.
    let middle = contents.sizes.len() / 2;
    figures.push(quit(instance, row, middle, middle + deleted)?);
    if delete_all {
        let count = contents.sizes.len() + ARRIVALS - deleted;
        figures.push(quit(instance, "QUIT, all deleted", 1, count + 1)?);
    }
    Ok(figures)
}

/// Makes the mailbox anew, on the disk as well, and removes whatever the server has remembered about it.
fn renew(instance: &Instance, mailbox: &Mailbox, contents: &Contents) -> Outcome<()> {
    let (mailbox, contents) = (mailbox.clone(), contents.clone());
    let is_ours = instance.server.name == OURS;
    instance.machine.run(move || {
        let home = Path::new("/home").join(LARGE);
        for entry in fs::read_dir(&home)? {
            let path = entry?.path();
            if path.is_dir() {
                fs::remove_dir_all(path)?;
            } else {
                fs::remove_file(path)?;
            }
        }
        if is_ours {
            forget("/var/lib/popa3d/index")?;
        }
        mailbox.fill(&contents)?;
        // Otherwise the first to wait for the disk would wait for all of this.
        rustix::fs::sync();
        Ok(())
    })
}

/// Not the directory itself: the server has it open and would go on to write into one that has no name.
fn forget(directory: &str) -> Outcome<()> {
    for entry in fs::read_dir(directory)? {
        fs::remove_file(entry?.path())?;
    }
    Ok(())
}

/// From the connection to the reply to STAT, by which every server must have counted the messages and their octets.
fn login(instance: &Instance, row: &'static str) -> Outcome<Figures> {
    let (cost, elapsed) = instance.measure(|| {
        let start = Instant::now();
        let mut client = Client::login(Transport::Plain, LARGE)?;
        client.ask("STAT")?;
        let elapsed = start.elapsed();
        client.ask("QUIT")?;
        Ok(elapsed)
    })?;
    Ok(figures(row, Cost { elapsed, ..cost }))
}

/// QUIT alone, until the server closes: Courier says `+OK` before it deletes. Messages from `first` up to but not including `end` are marked.
fn quit(instance: &Instance, row: &'static str, first: usize, end: usize) -> Outcome<Figures> {
    let client = instance.machine.run(move || {
        let mut client = Client::login(Transport::Plain, LARGE)?;
        for batch in (first..end).collect::<Vec<_>>().chunks(100) {
            let commands: String = batch.iter().map(|n| format!("DELE {n}\r\n")).collect();
            client.send(commands.as_bytes())?;
            batch.iter().try_for_each(|_| client.reply())?;
        }
        Ok(client)
    })?;
    let (cost, ()) = instance.measure(move || {
        let mut client = client;
        client.ask("QUIT")?;
        client.await_end()
    })?;
    Ok(figures(row, cost))
}

fn figures(row: &'static str, cost: Cost) -> Figures {
    Figures {
        row,
        main: Figure::less(cost.elapsed.as_secs_f64() * 1e3, "ms"),
        cost: Some(Figure::less(cost.cpu.as_secs_f64() * 1e3, "ms CPU")),
        note: String::new(),
    }
}
