//! Works on one maildrop as a maildrop process does, with nothing around it, so that tens of thousands of runs are soon done.
//!
//!     driver open   MAILBOX JOURNAL BATCH
//!     driver update MAILBOX JOURNAL BATCH INDEX,INDEX,… [MAIL OTHER-NAME]
//!     driver maildir MAILDIR UNIQUE-ID…
//!
//! `update` opens the mailbox, has MAIL appended to it under another name, so that a tracer does not take that for
//! something UPDATE does, and deletes. `maildir` deletes what has these unique-ids. Prints `done`, with the number of messages at the opening, or what went wrong.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maildrop::{
    Account, Expanded, FileLock, Journal, Keeper, Limits, Location, Maildrop, OpenOptions, open,
};
use rustix::fs::{FlockOperation, flock};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(messages) => println!("done, {messages} messages"),
        Err(error) => println!("failed: {error}"),
    }
}

fn run(arguments: &[String]) -> Result<u32, Box<dyn Error>> {
    if let [what, maildir, deleted @ ..] = arguments
        && what == "maildir"
    {
        return maildir_update(maildir, deleted);
    }
    let [what, mailbox, journal, batch, rest @ ..] = arguments else {
        return Err("usage: driver open|update MAILBOX JOURNAL BATCH …".into());
    };
    let maildrop = scan(Path::new(mailbox), Path::new(journal), batch.parse()?)?;
    let messages = maildrop.count();
    match (&**what, rest) {
        ("open", []) => {}
        ("update", [deleted, rest @ ..]) => {
            if let [mail, other_name] = rest {
                std::fs::hard_link(mailbox, other_name)?;
                let mail = std::fs::read(mail)?;
                let mut file = File::options().append(true).open(other_name)?;
                file.write_all(&mail)?;
                file.sync_all()?;
                std::fs::remove_file(other_name)?;
                // A power cut would bring it back, and a mailbox with two names is refused.
                if let Some(directory) = Path::new(other_name).parent() {
                    File::open(directory)?.sync_all()?;
                }
            }
            let deleted: Vec<u32> = deleted
                .split(',')
                .map(str::parse)
                .collect::<Result<_, _>>()?;
            maildrop.update(&|index| deleted.contains(&index))?;
        }
        _ => return Err("wrong arguments".into()),
    }
    Ok(messages)
}

fn maildir_update(maildir: &str, deleted: &[String]) -> Result<u32, Box<dyn Error>> {
    let opened = open(&location(&format!("maildir:{maildir}"))?, &options())?;
    let maildrop = opened.lock_and_scan(&limits(), Box::new(Flock))?;
    let messages = maildrop.count();
    let deleted: Vec<u32> = (0..messages)
        .filter(|&index| {
            let id = maildrop.unique_id(index).map(|id| id.to_string());
            id.is_some_and(|id| deleted.contains(&id))
        })
        .collect();
    maildrop.update(&|index| deleted.contains(&index))?;
    Ok(messages)
}

fn scan(mailbox: &Path, journal: &Path, batch: u64) -> Result<Box<dyn Maildrop>, Box<dyn Error>> {
    let location = location(&format!("mbox:{}", mailbox.display()))?;
    let keeper = Shelf(journal.to_owned());
    let file = keeper.journal()?;
    let journal = Journal::new(file, &location, Box::new(keeper)).with_batch(batch);
    let opened = open(&location, &options())?.with_journal(journal);
    Ok(opened.lock_and_scan(&limits(), Box::new(Flock))?)
}

fn location(text: &str) -> Result<Expanded, Box<dyn Error>> {
    let account = Account {
        name: "nobody",
        home: "/",
    };
    Ok(Location::parse(text)?.expand(&account)?)
}

fn options() -> OpenOptions {
    OpenOptions {
        owner: rustix::process::geteuid().as_raw(),
        dotlock: false,
    }
}

fn limits() -> Limits {
    Limits {
        lock_wait: Duration::ZERO,
        ..Limits::default()
    }
}

struct Flock;

impl FileLock for Flock {
    fn try_lock_exclusive(&self, file: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(flock(file, FlockOperation::NonBlockingLockExclusive).is_ok())
    }

    fn unlock(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        Ok(flock(file, FlockOperation::Unlock)?)
    }
}

/// Where journals are kept, with nobody to look after them.
struct Shelf(PathBuf);

impl Shelf {
    fn journal(&self) -> io::Result<File> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        options.open(&self.0)
    }
}

impl Keeper for Shelf {
    fn updating(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    fn settled(&self) {}

    fn finished(&self) {}

    fn set_aside(&self, _: &str) -> io::Result<File> {
        std::fs::rename(&self.0, self.0.with_extension("aside"))?;
        self.journal()
    }
}
