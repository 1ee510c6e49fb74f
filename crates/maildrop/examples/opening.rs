//! Times how long opening a maildrop takes with an index and without: first, again, with 10 new messages, and after an
//! UPDATE that removes the last one, which takes no journal.
//!
//! `cargo run --release -p maildrop --example opening -- mbox|maildir MESSAGES OCTETS DIRECTORY`, where OCTETS is the
//! size of a message. The maildrop is made in DIRECTORY, which is removed afterwards; not as root, who owns no mail.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use maildrop::{
    Account, Expanded, FileLock, Index, Limits, Location, Maildrop, Memory, OpenOptions, open,
};
use rustix::fs::{FlockOperation, flock};

type Anyhow<T> = Result<T, Box<dyn std::error::Error>>;

/// flock(2), so that the example needs no other crate; a server uses `F_OFD_SETLK`.
struct Flock;

impl FileLock for Flock {
    fn try_lock_exclusive(&self, file: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(flock(file, FlockOperation::NonBlockingLockExclusive).is_ok())
    }

    fn unlock(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        Ok(flock(file, FlockOperation::Unlock)?)
    }
}

/// A maildrop that is made for the measurement.
struct Site {
    directory: PathBuf,
    is_mbox: bool,
    octets: usize,
}

impl Site {
    fn location(&self) -> Anyhow<Expanded> {
        let kind = if self.is_mbox { "mbox" } else { "maildir" };
        let template = format!("{kind}:{}", self.mail().display());
        let nobody = Account {
            name: "nobody",
            home: "/nonexistent",
        };
        Ok(Location::parse(&template)?.expand(&nobody)?)
    }

    fn mail(&self) -> PathBuf {
        self.directory.join("mail")
    }

    fn make(&self, messages: usize) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        if !self.is_mbox {
            for folder in ["new", "cur", "tmp"] {
                fs::create_dir_all(self.mail().join(folder))?;
            }
        }
        self.deliver(0..messages)
    }

    fn deliver(&self, numbers: std::ops::Range<usize>) -> io::Result<()> {
        if self.is_mbox {
            let file = File::options()
                .append(true)
                .create(true)
                .open(self.mail())?;
            let mut file = BufWriter::with_capacity(1 << 20, file);
            for number in numbers {
                writeln!(file, "From sender@example.org Thu Jan  1 00:00:00 1970")?;
                file.write_all(&self.message(number))?;
                file.write_all(b"\n")?;
            }
            return file.flush();
        }
        for number in numbers {
            let name = format!(
                "{}.M{number}P7.example.org,S={}",
                1_700_000_000 + number,
                self.octets
            );
            fs::write(self.mail().join("new").join(name), self.message(number))?;
        }
        Ok(())
    }

    fn message(&self, number: usize) -> Vec<u8> {
        let mut message = format!(
            "Received: from a by b; {number}\nDate: {number}\nMessage-ID: <{number}@example.org>\nSubject: {number}\n\n"
        )
        .into_bytes();
        let line = b"A line of text as they are in mail, of seventy-six characters at the most.\n";
        while message.len() < self.octets {
            message.extend_from_slice(line);
        }
        message
    }

    fn open(&self, index: Option<&Path>) -> Anyhow<(f64, Box<dyn Maildrop>)> {
        let location = self.location()?;
        let options = OpenOptions {
            owner: fs::metadata(self.mail())?.uid(),
            dotlock: false,
        };
        let limits = Limits {
            lock_wait: Duration::ZERO,
            ..Limits::default()
        };
        let begun = Instant::now();
        let mut opened = open(&location, &options)?;
        if let Some(path) = index {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            opened = opened.with_memory(Memory {
                index: Some(Index::new(file)),
                ..Memory::default()
            });
        }
        let maildrop = opened.lock_and_scan(&limits, Box::new(Flock))?;
        Ok((begun.elapsed().as_secs_f64() * 1e3, maildrop))
    }

    /// The middle one of several.
    fn time(&self, index: Option<&Path>) -> Anyhow<f64> {
        let times: Result<Vec<f64>, _> = (0..9)
            .map(|_| self.open(index).map(|(milliseconds, _)| milliseconds))
            .collect();
        let mut times = times?;
        times.sort_by(f64::total_cmp);
        Ok(times[times.len() / 2])
    }
}

fn main() -> Anyhow<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, messages, octets, directory] = arguments.as_slice() else {
        return Err("usage: opening mbox|maildir MESSAGES OCTETS DIRECTORY".into());
    };
    let messages: usize = messages.parse()?;
    let site = Site {
        directory: PathBuf::from(directory).join("opening"),
        is_mbox: kind == "mbox",
        octets: octets.parse()?,
    };
    site.make(messages)?;
    let index = site.directory.join("index");
    let index = Some(index.as_path());

    println!(
        "{messages} messages of {} octets, milliseconds",
        site.octets
    );
    println!("without an index  {:9.3}", site.time(None)?);
    println!("index made        {:9.3}", site.open(index)?.0);
    // Changes of this clock tick leave no trace, so that they are looked at again.
    std::thread::sleep(Duration::from_millis(20));
    println!("made again        {:9.3}", site.open(index)?.0);
    println!("nothing new       {:9.3}", site.time(index)?);
    site.deliver(messages..messages + 10)?;
    std::thread::sleep(Duration::from_millis(20));
    println!("10 new            {:9.3}", site.open(index)?.0);
    println!("nothing new       {:9.3}", site.time(index)?);
    let (_, maildrop) = site.open(index)?;
    let begun = Instant::now();
    let last = maildrop.count().saturating_sub(1);
    maildrop.update(&|index| index == last)?;
    println!(
        "UPDATE            {:9.3}",
        begun.elapsed().as_secs_f64() * 1e3
    );
    println!("after it          {:9.3}", site.open(index)?.0);
    println!("nothing new       {:9.3}", site.time(index)?);
    fs::remove_dir_all(&site.directory)?;
    Ok(())
}
