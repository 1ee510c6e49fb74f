//! Works on one maildrop as a maildrop process does, with nothing around it, so that tens of thousands of runs are soon done.
//!
//!     driver open   MAILBOX JOURNAL BATCH
//!     driver update MAILBOX JOURNAL BATCH INDEX,INDEX,… [MAIL OTHER-NAME]
//!     driver maildir MAILDIR UNIQUE-ID…
//!     driver lists LOCATION JOURNAL BATCH DELETED ACKNOWLEDGED SECONDS UNIQUE-ID,… UNIQUE-ID,…
//!
//! `update` opens the mailbox, has MAIL appended to it under another name, so that a tracer does not take that for
//! something UPDATE does, and deletes. `maildir` deletes what has these unique-ids. `lists` deletes the first ids and retrieves the second, with
//! files of lists of what was deleted, and is kept for so many seconds, and of what was retrieved. Prints `done`, with the number of messages at the opening, or what went wrong.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maildrop::{
    Account, DatedIds, Expanded, FileLock, Grace, Horizon, Journal, Keeper, Limits, Location,
    Maildrop, Memory, OpenOptions, open,
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
    if let [what, rest @ ..] = arguments
        && what == "lists"
    {
        return lists_update(rest);
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

fn lists_update(arguments: &[String]) -> Result<u32, Box<dyn Error>> {
    let [
        at,
        journal,
        batch,
        deleted,
        acknowledged,
        seconds,
        delete,
        retrieve,
    ] = arguments
    else {
        return Err("wrong arguments".into());
    };
    let list = |path: &str| -> io::Result<DatedIds> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(DatedIds::read(file))
    };
    let memory = Memory {
        grace: Some(Grace {
            deletions: list(deleted)?,
            time: Duration::from_secs(seconds.parse()?),
        }),
        horizon: Horizon {
            older: None,
            acknowledged: Some(list(acknowledged)?),
            hide_acknowledged: true,
        },
        ..Memory::default()
    };
    let location = location(at)?;
    let mut opened = open(&location, &options())?.with_memory(memory);
    if location.is_mbox() {
        let keeper = Shelf(journal.into());
        let file = keeper.journal()?;
        let journal = Journal::new(file, &location, Box::new(keeper));
        opened = opened.with_journal(journal.with_batch(batch.parse()?));
    }
    let mut maildrop = opened.lock_and_scan(&limits(), Box::new(Flock))?;
    let messages = maildrop.count();
    let named = |maildrop: &dyn Maildrop, ids: &str| -> Vec<u32> {
        let is_named = |&index: &u32| {
            let id = maildrop.unique_id(index).map(|id| id.to_string());
            id.is_some_and(|id| ids.split(',').any(|named| named == id))
        };
        (0..messages).filter(is_named).collect()
    };
    let delete = named(maildrop.as_ref(), delete);
    let retrieve = named(maildrop.as_ref(), retrieve);
    maildrop.acknowledge(&|index| retrieve.contains(&index));
    if maildrop.needs_update() || !delete.is_empty() {
        let summary = maildrop.update(&|index| delete.contains(&index))?;
        if summary.unremembered {
            return Err("what was retrieved is not remembered".into());
        }
    }
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
