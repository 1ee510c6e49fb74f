//! UPDATE of a Maildir, with an IMAP server at work on it: renaming what is new, changing flags, and delivery besides.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tracer::faults::{self, Call, Fault};

use crate::place::{Outcome, command_for, own};
use crate::point::FAULTS;
use crate::shapes::message;
use crate::{Count, place};
use system_tests::random::Random;

/// Where new messages are, and where those are that a mail reader has seen.
const FOLDERS: [&str; 2] = ["new", "cur"];

/// Flags that an IMAP server may give a message.
const FLAGS: [&str; 6] = ["", "S", "FS", "RS", "T", "DFRS"];

/// The second interruption is at one of so many calls.
const CALLS_OF_UPDATE: usize = 8;

/// Messages of a Maildir, and which of them are deleted.
#[derive(Clone, Debug)]
pub struct Shape {
    /// For reports.
    pub name: &'static str,
    /// By base name: where it is at first, and its octets.
    pub messages: BTreeMap<String, (&'static str, Vec<u8>)>,
    /// Base names, which are the unique-ids.
    pub deleted: Vec<String>,
}

/// All twelve.
pub fn shapes() -> Vec<Shape> {
    let shape =
        |name, count: usize, in_cur: &dyn Fn(usize) -> bool, deleted: &dyn Fn(usize) -> bool| {
            let base = |number: usize| format!("17000{number:05}.M{number}P7.example");
            let folder = |number| FOLDERS[usize::from(in_cur(number))];
            let octets = |number: usize| message(&base(number), 200 + number * 977 % 9_000);
            Shape {
                name,
                messages: (0..count)
                    .map(|number| (base(number), (folder(number), octets(number))))
                    .collect(),
                deleted: (0..count)
                    .filter(|&number| deleted(number))
                    .map(base)
                    .collect(),
            }
        };
    let (new, cur): (&dyn Fn(usize) -> bool, &dyn Fn(usize) -> bool) = (&|_| false, &|_| true);
    let both = &|number: usize| number.is_multiple_of(2);
    vec![
        shape("one new", 1, new, &|_| true),
        shape("one seen", 1, cur, &|_| true),
        shape("all of 12 new", 12, new, &|_| true),
        shape("all of 12 seen", 12, cur, &|_| true),
        shape("all of 12", 12, both, &|_| true),
        shape("the first of 20", 20, both, &|number| number == 0),
        shape("the last of 20", 20, both, &|number| number == 19),
        shape("every other one of 30, the new ones", 30, both, &|number| {
            number % 2 == 1
        }),
        shape(
            "every other one of 30, the seen ones",
            30,
            both,
            &|number| number % 2 == 0,
        ),
        shape("every third one of 30", 30, both, &|number| number % 3 == 0),
        shape("20 of 100", 100, both, &|number| number % 5 == 2),
        shape("all but one of 15", 15, new, &|number| number != 7),
    ]
}

/// A Maildir in a directory.
#[derive(Debug)]
pub struct Target {
    directory: PathBuf,
    driver: PathBuf,
}

impl Target {
    /// In an existing directory, which is given to the user; `driver` is the program.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn new(directory: &Path, driver: &Path) -> io::Result<Self> {
        fs::set_permissions(directory, Permissions::from_mode(0o755))?;
        Ok(Self {
            directory: directory.to_owned(),
            driver: driver.to_owned(),
        })
    }

    fn maildir(&self) -> PathBuf {
        self.directory.join("Maildir")
    }

    fn reset(&self, shape: &Shape) -> io::Result<()> {
        match fs::remove_dir_all(self.maildir()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for name in ["", "tmp", "new", "cur"] {
            fs::create_dir(self.maildir().join(name))?;
            own(&self.maildir().join(name))?;
        }
        for (base, (folder, octets)) in &shape.messages {
            let info = if *folder == "cur" { ":2,S" } else { "" };
            let path = self.maildir().join(folder).join(format!("{base}{info}"));
            fs::write(&path, octets)?;
            own(&path)?;
        }
        Ok(rustix::fs::syncfs(File::open(&self.directory)?)?)
    }

    /// Delivers a message as a delivery agent does.
    fn deliver(&self, base: &str, octets: &[u8]) -> io::Result<()> {
        let written = self.maildir().join("tmp").join(base);
        fs::write(&written, octets)?;
        File::open(&written)?.sync_all()?;
        own(&written)?;
        let new = self.maildir().join("new");
        fs::rename(written, new.join(base))?;
        File::open(new)?.sync_all()
    }

    /// What is in the Maildir, file by file: folder, name.
    fn files(&self) -> io::Result<Vec<(&'static str, String)>> {
        let mut files = Vec::new();
        for folder in FOLDERS {
            for entry in fs::read_dir(self.maildir().join(folder))? {
                files.push((folder, entry?.file_name().to_string_lossy().into_owned()));
            }
        }
        files.sort();
        Ok(files)
    }

    /// An IMAP server gives some messages other names; among them, sometimes, that which a call is about.
    fn rename_some(&self, random: &mut Random, call: Option<&Call>) -> io::Result<()> {
        let at_hand = call.and_then(|call| call.path.file_name()?.to_str());
        let spared = random.once_in(2);
        for (folder, name) in self.files()? {
            let is_wanted = match at_hand {
                Some(at_hand) if at_hand == name => !spared,
                _ => random.once_in(4),
            };
            if is_wanted {
                let flags = FLAGS[random.below(FLAGS.len())];
                let renamed = format!("cur/{}:2,{flags}", base_of(&name));
                let old = self.maildir().join(folder).join(&name);
                fs::rename(old, self.maildir().join(renamed))?;
            }
        }
        Ok(())
    }

    /// Opens the Maildir and deletes what the shape says, with renames meanwhile and something going wrong.
    fn update(
        &self,
        shape: &Shape,
        fault: Option<(usize, Fault)>,
        random: &mut Random,
    ) -> io::Result<Outcome> {
        let mut command = command_for(&self.driver);
        command
            .arg("maildir")
            .arg(self.maildir())
            .args(&shape.deleted);
        let mut trouble = Ok(());
        let mut meanwhile = |_: usize, call: &Call| {
            if random.once_in(3) {
                let renamed = self.rename_some(random, Some(call));
                trouble = std::mem::replace(&mut trouble, Ok(())).and(renamed);
            }
        };
        let watched = self.maildir();
        let outcome = place::run(command, |command| {
            faults::run_meanwhile(command, &[&watched], fault, false, &mut meanwhile)
        });
        trouble.and(outcome)
    }

    /// How many calls there are in an update that nothing interrupts.
    ///
    /// # Errors
    /// It does not work.
    pub fn calls(&self, shape: &Shape) -> io::Result<usize> {
        self.reset(shape)?;
        let outcome = self.update(shape, None, &mut Random::new(0))?;
        match self.complaint(shape, &BTreeMap::new(), true)? {
            None if outcome.done => Ok(outcome.run.calls.len()),
            _ => Err(io::Error::other(format!(
                "{}: {}",
                shape.name, outcome.said
            ))),
        }
    }

    /// Tries a point: interrupted, renamed, delivered to, interrupted again, finished and judged. `besides` is done right
    /// after each interruption: a power cut.
    ///
    /// # Errors
    /// The trial itself failed.
    pub fn try_at(
        &self,
        shape: &Shape,
        call: usize,
        fault: Fault,
        seed: u64,
        mut besides: impl FnMut() -> io::Result<()>,
    ) -> io::Result<(Count, Option<String>)> {
        let mut random = Random::new(seed ^ call as u64);
        self.reset(shape)?;
        let first = self.update(shape, Some((call, fault)), &mut random)?;
        besides()?;
        let mut delivered = BTreeMap::new();
        let mut complaint = self.complaint(shape, &delivered, first.done)?;
        let base = format!("1800000000.M{}.example", random.bits());
        let octets = message("late", 700);
        self.deliver(&base, &octets)?;
        delivered.insert(base, octets);
        self.rename_some(&mut random, None)?;
        let again = (
            1 + random.below(CALLS_OF_UPDATE),
            FAULTS[random.below(FAULTS.len())],
        );
        let second = self.update(shape, Some(again), &mut random)?;
        besides()?;
        let last = self.update(shape, None, &mut random)?;
        complaint = complaint.or(match last.done {
            true => self.complaint(shape, &delivered, true)?,
            false => Some(format!("it does not work again: {}", last.said)),
        });
        let count = Count {
            points: 1,
            hit: first.run.hit.into(),
            reported: first.done.into(),
            deleted: complaint.is_none().into(),
            twice: second.run.hit.into(),
            bad: complaint.is_some().into(),
        };
        Ok((count, complaint))
    }

    /// What is wrong with the Maildir, if anything; `done`: the deleted messages are to be gone.
    fn complaint(
        &self,
        shape: &Shape,
        delivered: &BTreeMap<String, Vec<u8>>,
        done: bool,
    ) -> io::Result<Option<String>> {
        let mut found = BTreeMap::new();
        for (folder, name) in self.files()? {
            let octets = fs::read(self.maildir().join(folder).join(&name))?;
            if found.insert(base_of(&name).to_owned(), octets).is_some() {
                return Ok(Some(format!("{name} is there twice")));
            }
        }
        let kept = shape
            .messages
            .iter()
            .map(|(base, (_, octets))| (base, octets));
        for (base, octets) in kept.chain(delivered) {
            let is_deleted = shape.deleted.contains(base);
            match found.remove(base) {
                Some(_) if is_deleted && done => {
                    return Ok(Some(format!("{base}: reported done, and is not")));
                }
                Some(found) if found != *octets => return Ok(Some(format!("{base}: changed"))),
                None if !is_deleted => return Ok(Some(format!("{base}: lost"))),
                _ => {}
            }
        }
        Ok(found
            .keys()
            .next()
            .map(|base| format!("{base} should not be")))
    }
}

fn base_of(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_twelve_shapes_and_each_loses_something() {
        let shapes = shapes();
        assert_eq!(shapes.len(), 12);
        for shape in shapes {
            assert!(!shape.deleted.is_empty(), "{}", shape.name);
            let is_there = |base| shape.messages.contains_key(base);
            assert!(shape.deleted.iter().all(is_there), "{}", shape.name);
        }
    }
}
