//! UPDATE of a maildrop with lists of what is out of sight: what was deleted and is kept for a while (`maildrop.delete_grace`),
//! and what was retrieved (`maildrop.hide_acknowledged`).
//!
//! Each message is one of four kinds: *due*, deleted long ago; *deleted*, or *retrieved*, by the session that is interrupted; and
//! the others. After an interruption all of them are there, once and whole, but for those that were due; each list is what
//! it was or what it was to become; and if the session reported that all is done, it is the latter.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use maildrop::{Account, DatedIds, FileLock, Journal, Limits, Location, OpenOptions, UniqueId};
use system_tests::random::Random;
use tracer::faults::{self, Fault};

use crate::Count;
use crate::place::{self, Outcome, command_for, own, owner};
use crate::point::FAULTS;
use crate::shapes::message;

/// Octets of a batch: some for each update.
const BATCH: u64 = 4096;

/// Seconds that deleted messages are kept.
const GRACE: u64 = 7 * 24 * 60 * 60;

/// The second interruption is at one of so many calls.
const CALLS_OF_UPDATE: usize = 16;

/// What the lists are called.
const LISTS: [&str; 2] = ["deleted", "acknowledged"];

type Ids = BTreeSet<String>;

/// A maildrop, and what becomes of its messages, by their indexes.
#[derive(Clone, Debug)]
pub struct Shape {
    /// For reports.
    pub name: &'static str,
    is_mbox: bool,
    messages: usize,
    due: Vec<usize>,
    deleted: Vec<usize>,
    retrieved: Vec<usize>,
    /// How long what is deleted is kept, in seconds.
    grace: u64,
}

/// All ten.
pub fn shapes() -> Vec<Shape> {
    let shape = |name, is_mbox, kinds: [&[usize]; 3], grace| Shape {
        name,
        is_mbox,
        messages: 9,
        due: kinds[0].to_vec(),
        deleted: kinds[1].to_vec(),
        retrieved: kinds[2].to_vec(),
        grace,
    };
    let all: Vec<usize> = (0..9).collect();
    [true, false]
        .iter()
        .flat_map(|&is_mbox| {
            vec![
                shape("some of each", is_mbox, [&[0, 5], &[2, 7], &[3, 8]], GRACE),
                shape("two deleted, none due", is_mbox, [&[], &[1, 4], &[]], GRACE),
                shape("all due", is_mbox, [&all, &[], &[]], GRACE),
                shape("some retrieved", is_mbox, [&[], &[], &[0, 1, 8]], GRACE),
                shape("no grace any more", is_mbox, [&[1, 6], &[2], &[4]], 0),
            ]
        })
        .collect()
}

/// A maildrop and its lists in a directory.
#[derive(Debug)]
pub struct Target {
    directory: PathBuf,
    driver: PathBuf,
}

/// A shape that has been made, and what its messages are by their unique-ids.
struct Made<'a> {
    shape: &'a Shape,
    octets: BTreeMap<String, Vec<u8>>,
    due: Ids,
    deleted: Ids,
    retrieved: Ids,
}

impl Target {
    /// In an existing directory, which is given to the user; `driver` is the program.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn new(directory: &Path, driver: &Path) -> io::Result<Self> {
        fs::set_permissions(directory, Permissions::from_mode(0o755))?;
        for name in ["mail", "state"] {
            fs::create_dir_all(directory.join(name))?;
            own(&directory.join(name))?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            driver: driver.to_owned(),
        })
    }

    /// The files of which a power cut may lose a part.
    pub fn files(&self) -> Vec<PathBuf> {
        let state = ["journal", LISTS[0], LISTS[1]].map(|name| self.state(name));
        std::iter::once(self.mail("box")).chain(state).collect()
    }

    fn mail(&self, name: &str) -> PathBuf {
        self.directory.join("mail").join(name)
    }

    fn state(&self, name: &str) -> PathBuf {
        self.directory.join("state").join(name)
    }

    fn location(&self, shape: &Shape) -> String {
        match shape.is_mbox {
            true => format!("mbox:{}", self.mail("box").display()),
            false => format!("maildir:{}", self.mail("Maildir").display()),
        }
    }

    /// Makes the maildrop, with a list of what is due.
    fn make<'a>(&self, shape: &'a Shape) -> io::Result<Made<'a>> {
        for name in ["mail", "state"] {
            for entry in fs::read_dir(self.directory.join(name))? {
                let path = entry?.path();
                match path.is_dir() {
                    true => fs::remove_dir_all(path)?,
                    false => fs::remove_file(path)?,
                }
            }
        }
        let text = |number: usize| message(&format!("m{number}"), 250 + number * 1_777 % 6_000);
        let mail: Vec<_> = (0..shape.messages).map(text).collect();
        match shape.is_mbox {
            true => fs::write(self.mail("box"), mail.concat())?,
            false => {
                for name in ["Maildir", "Maildir/tmp", "Maildir/new", "Maildir/cur"] {
                    fs::create_dir(self.mail(name))?;
                    own(&self.mail(name))?;
                }
                for (number, octets) in mail.iter().enumerate() {
                    self.put_in_maildir(&format!("170000000{number}.M0P1.example"), octets)?;
                }
            }
        }
        for path in self
            .files()
            .iter()
            .filter(|path| shape.is_mbox || !path.ends_with("box"))
        {
            let made = File::options().append(true).create(true).open(path)?;
            drop(made);
            own(path)?;
        }
        let messages = self.messages(shape)?;
        let ids = |indexes: &[usize]| -> Ids {
            let found = indexes.iter().filter_map(|&index| messages.get(index));
            found.map(|(id, _)| id.clone()).collect()
        };
        let (due, deleted) = (ids(&shape.due), ids(&shape.deleted));
        let list = due.iter().filter_map(|id| UniqueId::new(id.as_bytes()));
        self.list(LISTS[0])?
            .replace(list.map(|id| (id, 0)).collect())?;
        rustix::fs::syncfs(File::open(&self.directory)?)?;
        Ok(Made {
            shape,
            due,
            deleted,
            retrieved: ids(&shape.retrieved),
            octets: messages.into_iter().collect(),
        })
    }

    fn put_in_maildir(&self, base: &str, octets: &[u8]) -> io::Result<()> {
        let path = self.mail("Maildir/new").join(base);
        fs::write(&path, octets)?;
        File::open(&path)?.sync_all()?;
        own(&path)?;
        File::open(self.mail("Maildir/new"))?.sync_all()
    }

    /// All messages, hidden or not, in their order: unique-ids and octets. For a maildrop of which no update is unfinished.
    fn messages(&self, shape: &Shape) -> io::Result<Vec<(String, Vec<u8>)>> {
        let account = Account {
            name: "nobody",
            home: "/",
        };
        let location = Location::parse(&self.location(shape))
            .and_then(|location| location.expand(&account))
            .map_err(io::Error::other)?;
        let options = OpenOptions {
            owner: owner(),
            dotlock: false,
        };
        let mut maildrop = maildrop::open(&location, &options)
            .and_then(|opened| opened.lock_and_scan(&Limits::default(), Box::new(NoLock)))
            .map_err(io::Error::other)?;
        (0..maildrop.count())
            .map(|index| {
                let id = maildrop.unique_id(index).ok_or(io::ErrorKind::NotFound)?;
                let mut octets = vec![0; 64 * 1024];
                let length = maildrop.read(index, 0, &mut octets)?;
                octets.truncate(length);
                Ok((id.to_string(), octets))
            })
            .collect()
    }

    fn list(&self, name: &str) -> io::Result<DatedIds> {
        let file = File::options()
            .read(true)
            .write(true)
            .open(self.state(name))?;
        Ok(DatedIds::read(file))
    }

    /// What the lists name.
    fn lists(&self) -> io::Result<[Ids; 2]> {
        let named = |name| {
            let list = self.list(name)?;
            Ok::<_, io::Error>(list.ids().keys().map(ToString::to_string).collect())
        };
        Ok([named(LISTS[0])?, named(LISTS[1])?])
    }

    /// A session that retrieves and deletes what the shape says, with something going wrong.
    fn update(&self, made: &Made<'_>, fault: Option<(usize, Fault)>) -> io::Result<Outcome> {
        let joined = |ids: &Ids| ids.iter().cloned().collect::<Vec<_>>().join(",");
        let mut command = command_for(&self.driver);
        command.arg("lists").arg(self.location(made.shape));
        command.arg(self.state("journal")).arg(BATCH.to_string());
        command.arg(self.state(LISTS[0])).arg(self.state(LISTS[1]));
        command.arg(made.shape.grace.to_string());
        command
            .arg(joined(&made.deleted))
            .arg(joined(&made.retrieved));
        let (mail, state) = (self.directory.join("mail"), self.directory.join("state"));
        place::run(command, |command| {
            faults::run(command, &[&mail, &state], fault, false)
        })
    }

    /// How many calls there are in an update that nothing interrupts.
    ///
    /// # Errors
    /// It does not work.
    pub fn calls(&self, shape: &Shape) -> io::Result<usize> {
        let made = self.make(shape)?;
        let outcome = self.update(&made, None)?;
        let complaint = self
            .complaint_of_lists(&made, outcome.done)?
            .or(self.complaint(&made, &BTreeMap::new(), outcome.done)?);
        match complaint {
            None if outcome.done => Ok(outcome.run.calls.len()),
            complaint => Err(io::Error::other(format!(
                "{}: {}: {complaint:?}",
                shape.name, outcome.said
            ))),
        }
    }

    /// Tries a point: interrupted, delivered to, interrupted again, finished and judged. `besides` is done right after each
    /// interruption: a power cut.
    ///
    /// # Errors
    /// The trial itself failed.
    pub fn try_at(
        &self,
        shape: &Shape,
        call: usize,
        fault: Fault,
        seed: u64,
        mut besides: impl FnMut(&[PathBuf]) -> io::Result<()>,
    ) -> io::Result<(Count, Option<String>)> {
        let mut random = Random::new(seed ^ call as u64);
        let made = self.make(shape)?;
        let first = self.update(&made, Some((call, fault)))?;
        besides(&self.files())?;
        let mut complaint = self.complaint_of_lists(&made, first.done)?;
        let before = self.lists()?;

        let (base, octets) = ("1800000000.M0P1.example", message("late", 700));
        match shape.is_mbox {
            true => {
                let mut mailbox = File::options().append(true).open(self.mail("box"))?;
                mailbox.write_all(&octets)?;
                mailbox.sync_all()?;
            }
            false => self.put_in_maildir(base, &octets)?,
        }
        let again = (
            1 + random.below(CALLS_OF_UPDATE),
            FAULTS[random.below(FAULTS.len())],
        );
        let second = self.update(&made, Some(again))?;
        besides(&self.files())?;
        let then = match first.done || second.done {
            true => self.complaint_of_lists(&made, true)?,
            false => self.complaint_of_later_lists(&made, &before)?,
        };
        complaint = complaint.or(then);
        let last = self.update(&made, None)?;
        complaint = complaint.or(match last.done {
            true => self.complaint_of_lists(&made, true)?,
            false => Some(format!("it does not work again: {}", last.said)),
        });
        // By its text: the id that an mbox will give it is not known before.
        let stored = match shape.is_mbox {
            true => octets
                .splitn(2, |&octet| octet == b'\n')
                .nth(1)
                .unwrap_or_default(),
            false => &octets,
        };
        let delivered = BTreeMap::from([("late", stored.to_vec())]);
        if complaint.is_none() {
            // What is due is forgotten before it is removed. Interrupted in between, it shows again, and stays.
            complaint = self.complaint(&made, &delivered, first.done)?;
        }
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

    /// What is wrong with the lists, if anything. `done`: they are to be what they were to become.
    fn complaint_of_lists(&self, made: &Made<'_>, done: bool) -> io::Result<Option<String>> {
        let lists = self.lists()?;
        let [deleted, retrieved] = &lists;
        let new = match made.shape.grace {
            0 => Ids::new(),
            _ => made.deleted.clone(),
        };
        let both: Ids = made.due.union(&made.deleted).cloned().collect();
        let is_known = match done {
            true => *deleted == new,
            // Both, where what was due could not be removed.
            false => [&new, &made.due, &both].contains(&deleted),
        };
        let is_known = is_known && (*retrieved == made.retrieved || !done && retrieved.is_empty());
        Ok((!is_known).then(|| format!("done: {done}, the lists are {lists:?}")))
    }

    /// The same after a second interruption, of which the first left those lists. What was due may have been forgotten by the one,
    /// and removed, in part, by the other.
    fn complaint_of_later_lists(
        &self,
        made: &Made<'_>,
        before: &[Ids; 2],
    ) -> io::Result<Option<String>> {
        let lists = self.lists()?;
        let is_named = |id: &String| made.due.contains(id) || made.deleted.contains(id);
        let is_kept = |id: &String| made.shape.grace > 0 && made.deleted.contains(id);
        let is_known = lists[0].iter().all(is_named)
            && before[0]
                .iter()
                .filter(|&id| is_kept(id))
                .all(|id| lists[0].contains(id))
            && lists[1].is_subset(&made.retrieved)
            && lists[1].is_superset(&before[1]);
        Ok((!is_known).then(|| format!("the lists were {before:?}, and are {lists:?}")))
    }

    /// What is wrong with the messages, if anything. `done`: those that were due are to be gone.
    fn complaint(
        &self,
        made: &Made<'_>,
        delivered: &BTreeMap<&str, Vec<u8>>,
        done: bool,
    ) -> io::Result<Option<String>> {
        let messages = self.messages(made.shape)?;
        let mut found: BTreeMap<_, _> = messages.iter().cloned().collect();
        if found.len() != messages.len() {
            return Ok(Some("two messages have the same id".to_owned()));
        }
        let may_go =
            |id| made.due.contains(id) || made.shape.grace == 0 && made.deleted.contains(id);
        for (id, octets) in &made.octets {
            match found.remove(id) {
                Some(_) if done && may_go(id) => {
                    return Ok(Some(format!("{id}: reported done, and is there")));
                }
                Some(found) if found != *octets => return Ok(Some(format!("{id}: changed"))),
                None if !may_go(id) => return Ok(Some(format!("{id}: lost"))),
                _ => {}
            }
        }
        // Of an mbox without the empty line behind it.
        let left = found.values().map(|octets| octets.trim_ascii_end());
        if !left.eq(delivered.values().map(|octets| octets.trim_ascii_end())) {
            return Ok(Some(format!("{:?} are there besides", found.keys())));
        }
        if !made.shape.is_mbox {
            return Ok(None);
        }
        let journal = Journal::unfinished(&File::open(self.state("journal"))?);
        Ok(match journal {
            Ok(None) => None,
            _ => Some("the journal is unfinished".to_owned()),
        })
    }
}

/// Nobody else has it.
struct NoLock;

impl FileLock for NoLock {
    fn try_lock_exclusive(&self, _: BorrowedFd<'_>) -> io::Result<bool> {
        Ok(true)
    }

    fn unlock(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }
}
