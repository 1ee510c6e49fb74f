//! Whatever is in the state directory where an index should be (nothing, garbage, a damaged one, an old one, that of another
//! maildrop, one made up with a good checksum), clients get the replies that they would get without any.

use crate::grace::{MAILDIR, stored};
use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use system_tests::corpus::{self, Message};
use system_tests::poll;
use system_tests::random::Random;
use system_tests::site::{Setup, Site};
use system_tests::users::{ALICE, BOB, User};

const LOCATIONS: [&str; 2] = [r#""mbox:/var/mail/%u""#, r#""maildir:%h/Maildir""#];

const INDEXES: &str = "/var/lib/popa3d/index";

/// Octets of a row, and of the header.
const ROW: usize = 48;
const HEADER: usize = 4 * ROW;

/// Words of the header: rows, octets of names, the sum of both, the identity of the maildrop, the sum of the header.
const ROWS: usize = 2;
const NAMES: usize = 3;
const SUM: usize = 5;
const IDENTITY: usize = 11;
const HEADER_SUM: usize = 23;

/// What sessions find.
type Replies = Vec<Vec<u8>>;

fn mail(salt: &str) -> Vec<Message> {
    (0..8)
        .map(|number| {
            let body = format!("{salt} {number}\n.\n").repeat(1 + number * 7 % 5);
            let text = format!("Message-ID: <{number}.{salt}@example.org>\n\n{body}");
            Message::new("mail", text)
        })
        .collect()
}

/// Makes this the user's mail, as if delivered long ago.
fn fill(site: &Site, location: &str, user: User, mail: &[Message]) {
    if location.contains("mbox") {
        return site.deliver(user, &corpus::mbox(mail));
    }
    let maildir = PathBuf::from(format!("/home/{}/Maildir", user.name));
    drop(fs::remove_dir_all(&maildir));
    let own = |path: &Path| chown(path, Some(user.id), Some(user.id)).expect("an owner");
    for name in ["", "tmp", "new", "cur"] {
        fs::create_dir(maildir.join(name)).expect("a directory");
        own(&maildir.join(name));
    }
    for (number, message) in mail.iter().enumerate() {
        let path = maildir.join(format!("new/170000000{number}.M0P1.host"));
        fs::write(&path, &message.stored).expect("a message");
        own(&path);
        let file = File::options().append(true).open(&path).expect("a message");
        let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number as u64);
        file.set_modified(time).expect("a time");
    }
}

/// All that a session can ask, and QUIT.
fn replies(site: &Site, user: User) -> Replies {
    let mut pop = site.login(user);
    let mut replies = vec![pop.ok("STAT").into_bytes()];
    let list = pop.list("LIST");
    for number in 1..=list.len() {
        for command in ["LIST", "UIDL"] {
            replies.push(pop.ok(&format!("{command} {number}")).into_bytes());
        }
        for command in [format!("RETR {number}"), format!("TOP {number} 1")] {
            replies.push(pop.listing(&command));
        }
    }
    replies.push(pop.listing("LIST"));
    replies.push(pop.listing("UIDL"));
    pop.err(&format!("RETR {}", list.len() + 1));
    pop.ok("QUIT");
    pop.expect_closed();
    replies
}

fn delete(site: &Site, numbers: &[usize]) {
    let mut pop = site.login(ALICE);
    for number in numbers {
        pop.ok(&format!("DELE {number}"));
    }
    pop.ok("QUIT");
    pop.expect_closed();
}

/// The only index there is.
fn index() -> PathBuf {
    let mut indexes = fs::read_dir(INDEXES).expect("a directory");
    let path = indexes.next().expect("an index").expect("an entry").path();
    assert!(indexes.next().is_none());
    path
}

fn remove_indexes() {
    for entry in fs::read_dir(INDEXES).expect("a directory") {
        fs::remove_file(entry.expect("an entry").path()).expect("an index");
    }
}

/// Has the server make an index that it believes in, and returns that.
fn indexed(site: &Site, user: User) -> Vec<u8> {
    remove_indexes();
    let mut before = Vec::new();
    poll::until("an index that is believed", || {
        let mut pop = site.login(user);
        pop.ok("QUIT");
        pop.expect_closed();
        let now = fs::read(index()).expect("an index");
        let identity = now.get(IDENTITY * 8..HEADER_SUM * 8)?;
        let is_settled = identity.iter().any(|&octet| octet != 0);
        (is_settled && std::mem::replace(&mut before, now.clone()) == now).then_some(now)
    })
}

/// What is kept of the messages' own rows by `change`, with sums that fit.
fn forged(index: &[u8], change: impl FnOnce(&mut Vec<u64>)) -> Vec<u8> {
    let mut words: Vec<u64> = index
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().expect("a word")))
        .collect();
    change(&mut words);
    let sum = |rows: &[u64]| {
        let mut lanes = [1_u64, 2, 3, 4, 5, 6].map(|lane| FACTOR.wrapping_mul(lane));
        for row in rows.chunks_exact(lanes.len()) {
            for (lane, word) in lanes.iter_mut().zip(row) {
                *lane = (*lane ^ word).wrapping_mul(FACTOR).rotate_left(29);
            }
        }
        lanes
    };
    let rows = sum(&words[HEADER / 8..]);
    words[SUM..SUM + 6].copy_from_slice(&rows);
    words[HEADER_SUM] = 0;
    let header = sum(&words[..HEADER / 8]);
    words[HEADER_SUM] = header.iter().fold(0_u64, |word, lane| {
        (word.rotate_left(23) ^ lane).wrapping_mul(FACTOR)
    });
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The server's checksum multiplies by it.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Indexes that are none, or not this maildrop's, or make no sense, by name.
fn bad_ones(good: &[u8], others: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut random = Random::new(14);
    let mut bad = Vec::new();
    let mut add = |name: String, index: Vec<u8>| bad.push((name, index));
    for length in [0, 1, HEADER - 1, HEADER, HEADER + ROW, good.len() - 1] {
        add(format!("{length} octets of it"), good[..length].to_vec());
    }
    add("NULs".into(), vec![0; good.len()]);
    add("its header and NULs".into(), {
        let mut index = good[..HEADER].to_vec();
        index.resize(good.len(), 0);
        index
    });
    let garbage = |random: &mut Random, length| -> Vec<u8> {
        (0..length).map(|_| random.bits() as u8).collect()
    };
    for length in [good.len(), 1_000_000] {
        add(
            format!("{length} octets of garbage"),
            garbage(&mut random, length),
        );
    }
    for _ in 0..12 {
        let (at, bit) = (random.below(good.len()), random.below(8));
        let mut index = good.to_vec();
        index[at] ^= 1 << bit;
        add(format!("bit {bit} of octet {at}"), index);
    }
    add("that of another maildrop".into(), others.to_vec());
    // With good sums from here on.
    add("no rows".into(), forged(good, |words| words[ROWS] = 0));
    for rows in [1 << 20, u64::from(u32::MAX), u64::MAX] {
        add(
            format!("{rows} rows"),
            forged(good, |words| words[ROWS] = rows),
        );
        add(
            format!("{rows} octets of names"),
            forged(good, |words| words[NAMES] = rows),
        );
    }
    add("garbage in rows".into(), {
        forged(good, |words| {
            words[HEADER / 8..].fill_with(|| random.bits());
        })
    });
    add("the largest numbers in rows".into(), {
        forged(good, |words| words[HEADER / 8..].fill(u64::MAX))
    });
    add("this maildrop's identity, another's rows".into(), {
        forged(others, |words| {
            let header = good.chunks_exact(8).take(HEADER / 8);
            let header = header.map(|word| u64::from_le_bytes(word.try_into().expect("a word")));
            for (word, from) in words.iter_mut().zip(header).skip(IDENTITY) {
                *word = from;
            }
            // Of an mbox its beginnings do not fit; of a Maildir no name is the same.
            words[IDENTITY + 1] ^= 1;
        })
    });
    bad
}

#[test]
fn no_bad_index_changes_a_reply_or_what_is_deleted() {
    for location in LOCATIONS {
        let setup = Setup::new().set("maildrop", "location", location);
        setup.as_root(|site| {
            let server = site.serve();
            fill(site, location, BOB, &mail("bob"));
            let others = indexed(site, BOB);
            fill(site, location, ALICE, &mail("alice"));
            remove_indexes();
            let expected = replies(site, ALICE);
            remove_indexes();
            delete(site, &[2, 3, 7]);
            let left = stored(location);
            remove_indexes();
            let expected_of_left = replies(site, ALICE);

            fill(site, location, ALICE, &mail("alice"));
            let good = indexed(site, ALICE);
            let count = bad_ones(&good, &others).len();
            for number in 0..count {
                // It is about this very maildrop, but for what is wrong.
                fill(site, location, ALICE, &mail("alice"));
                let good = indexed(site, ALICE);
                let (name, bad) = bad_ones(&good, &others).swap_remove(number);
                fs::write(index(), &bad).expect("an index");
                assert!(
                    replies(site, ALICE) == expected,
                    "{location}, {name}: replies"
                );
                fs::write(index(), &bad).expect("an index");
                delete(site, &[2, 3, 7]);
                assert!(stored(location) == left, "{location}, {name}: what is left");
                let after = replies(site, ALICE);
                assert!(
                    after == expected_of_left,
                    "{location}, {name}: replies then"
                );
            }
            server.stop();
        });
    }
}

/// What another program does to a maildrop.
fn change(location: &str) {
    if location.contains("mbox") {
        // In place, as long as before, with the messages the other way round.
        let mut mail = mail("alice");
        mail.reverse();
        let before = stored(location).len();
        let mbox = corpus::mbox(&mail);
        assert_eq!(mbox.len(), before);
        return fs::write("/var/mail/alice", mbox).expect("a mailbox");
    }
    let name = |number: usize| format!("{MAILDIR}/new/170000000{number}.M0P1.host");
    fs::remove_file(name(3)).expect("a message");
    fs::rename(name(4), format!("{MAILDIR}/cur/1700000004.M0P1.host:2,S")).expect("a message");
    // Another message, as large and as old, by the name of one there was.
    let text = fs::read(name(5)).expect("a message");
    let metadata = fs::metadata(name(5)).expect("a message");
    let text: Vec<u8> = text.iter().map(u8::to_ascii_uppercase).collect();
    let new = format!("{MAILDIR}/tmp/x");
    fs::write(&new, text).expect("a message");
    chown(&new, Some(ALICE.id), Some(ALICE.id)).expect("an owner");
    let file = File::options().append(true).open(&new).expect("a message");
    file.set_modified(metadata.modified().expect("a time"))
        .expect("a time");
    fs::rename(new, name(5)).expect("a message");
}

#[test]
fn an_index_of_before_another_program_was_there_changes_no_reply() {
    for location in LOCATIONS {
        let setup = Setup::new().set("maildrop", "location", location);
        setup.as_root(|site| {
            let server = site.serve();
            fill(site, location, ALICE, &mail("alice"));
            let old = indexed(site, ALICE);
            let of_before = replies(site, ALICE);
            change(location);
            remove_indexes();
            let expected = replies(site, ALICE);
            assert!(expected != of_before);
            fs::write(index(), &old).expect("an index");
            assert!(replies(site, ALICE) == expected, "{location}");
            // One by which a message of before is deleted deletes none of now.
            fs::write(index(), &old).expect("an index");
            delete(site, &[1]);
            let left = stored(location);
            fill(site, location, ALICE, &mail("alice"));
            change(location);
            remove_indexes();
            delete(site, &[1]);
            assert!(left == stored(location), "{location}");
            server.stop();
        });
    }
}

/// A lie that makes sense, of the maildrop as it is, can be told by nobody but the owner's own processes. It shows in LIST; mail is
/// served as it is all the same, and nothing is deleted on its word.
#[test]
fn an_index_that_lies_and_makes_sense_loses_no_mail() {
    for location in LOCATIONS {
        let setup = Setup::new().set("maildrop", "location", location);
        setup.as_root(|site| {
            let server = site.serve();
            fill(site, location, ALICE, &mail("alice"));
            remove_indexes();
            let expected = replies(site, ALICE);
            let before = stored(location);
            // Of an mbox octets are the fourth word of a row and the digest is the fifth; of a Maildir octets are the first.
            let lies: &[usize] = if location.contains("mbox") {
                &[3, 4]
            } else {
                &[0, 1, 2]
            };
            for &word in lies {
                let good = indexed(site, ALICE);
                let lie = forged(&good, |words| words[HEADER / 8 + ROW / 8 + word] += 1);
                fs::write(index(), &lie).expect("an index");
                let mut pop = site.login(ALICE);
                let listed = [pop.listing("LIST"), pop.listing("UIDL")];
                // Without this it would not be about indexes that are believed.
                let is_silent = !location.contains("mbox") && word > 0;
                assert!(is_silent || !listed.iter().all(|list| expected.contains(list)));
                for number in [1, 3, 8] {
                    let octets = pop.listing(&format!("RETR {number}"));
                    assert!(expected.contains(&octets), "{location}, word {word}");
                }
                pop.ok("DELE 2");
                let done = pop.ask("QUIT").ok;
                pop.expect_closed();
                let now = stored(location);
                match done {
                    false => assert!(now == before, "{location}, word {word}"),
                    true => {
                        fill(site, location, ALICE, &mail("alice"));
                        remove_indexes();
                        delete(site, &[2]);
                        assert!(now == stored(location), "{location}, word {word}");
                    }
                }
                fill(site, location, ALICE, &mail("alice"));
                remove_indexes();
                assert!(replies(site, ALICE) == expected, "{location}, word {word}");
            }
            server.stop();
        });
    }
}
