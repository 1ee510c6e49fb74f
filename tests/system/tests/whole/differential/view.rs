//! A maildrop as a client sees it in one session.

use std::process::Command;
use system_tests::inetd;
use system_tests::users::User;

/// How many body lines TOP is asked for: none, one, some, more than any message has.
pub const TOP_LINES: [usize; 4] = [0, 1, 5, 1_000_000];

/// What the server showed; `None` if it would not open the maildrop.
pub type View = Option<Vec<Message>>;

/// One message, as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// By LIST.
    pub octets: usize,
    /// By RETR.
    pub content: Vec<u8>,
    /// By UIDL.
    pub unique_id: String,
    /// By TOP, with each of [`TOP_LINES`].
    pub tops: Vec<Vec<u8>>,
}

/// Runs `server` for one session of `user` and looks at everything.
pub fn of(server: Command, user: User) -> View {
    let mut session = inetd::start(server);
    let pop = &mut session.pop;
    assert!(pop.reply().ok, "the greeting");
    pop.ok(&format!("USER {}", user.name));
    if !pop.ask(&format!("PASS {}", user.password)).ok {
        session.end();
        return None;
    }
    let stat = pop.ok("STAT");
    let octets: Vec<usize> = pop
        .list("LIST")
        .iter()
        .map(|line| second(line).parse().expect("octets"))
        .collect();
    let unique_ids: Vec<String> = pop
        .list("UIDL")
        .iter()
        .map(|line| second(line).to_owned())
        .collect();
    assert_eq!(octets.len(), unique_ids.len(), "lines of LIST and UIDL");
    assert_eq!(
        stat,
        format!("{} {}", octets.len(), octets.iter().sum::<usize>()),
        "STAT"
    );

    let mut commands = String::new();
    for number in 1..=octets.len() {
        commands += &format!("RETR {number}\r\n");
        for lines in TOP_LINES {
            commands += &format!("TOP {number} {lines}\r\n");
        }
    }
    pop.send(commands.as_bytes());
    let mut messages = Vec::new();
    for (octets, unique_id) in octets.into_iter().zip(unique_ids) {
        assert!(pop.reply().ok, "RETR");
        let content = pop.lines();
        let tops = TOP_LINES.map(|_| {
            assert!(pop.reply().ok, "TOP");
            pop.lines()
        });
        messages.push(Message {
            octets,
            content,
            unique_id,
            tops: tops.to_vec(),
        });
    }
    pop.ok("QUIT");
    pop.expect_closed();
    session.end();
    Some(messages)
}

fn second(line: &str) -> &str {
    line.split(' ')
        .nth(1)
        .unwrap_or_else(|| panic!("scan listing {line:?}"))
}
