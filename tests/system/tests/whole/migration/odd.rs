//! An old server that does much of what servers get wrong: it knows neither CAPA nor TOP, counts a line end as one octet,
//! and adds header fields that it does not count.

use super::{deliver_mbox, done, mail, popa3ctl, twins};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use system_tests::site::Setup;
use system_tests::users::ALICE;

/// Where it listens.
const ADDRESS: &str = "127.0.0.1:1110";

/// Serves `mail` to one client after the other, with an id of more than 70 octets for the last.
fn serve(listener: &TcpListener, mail: &[String]) {
    for client in listener.incoming() {
        // A client that leaves in the middle is served no further.
        let _gone = client.and_then(|client| session(client, mail));
    }
}

fn session(client: TcpStream, mail: &[String]) -> std::io::Result<()> {
    let mut output = client.try_clone()?;
    output.write_all(b"+OK ready\r\n")?;
    for line in BufReader::new(client).lines() {
        let line = line?;
        let mut words = line.split(' ');
        let (command, argument) = (words.next().unwrap_or_default(), words.next());
        let each = |tell: &dyn Fn(usize, &String) -> String| {
            let lines: String = (1..)
                .zip(mail)
                .map(|(number, message)| format!("{number} {}\r\n", tell(number, message)))
                .collect();
            format!("+OK\r\n{lines}.\r\n")
        };
        let reply = match command {
            "USER" => "+OK\r\n".to_owned(),
            "PASS" if argument == Some(ALICE.password) => "+OK\r\n".to_owned(),
            "UIDL" => each(&|number, _| match number == mail.len() {
                true => "x".repeat(71),
                false => format!("odd-{number}"),
            }),
            "LIST" => each(&|_, message| message.len().to_string()),
            "RETR" => {
                let number: usize = argument.and_then(|text| text.parse().ok()).unwrap_or(1);
                let mut reply = "+OK\r\nX-UIDL: added\r\nStatus: O\r\n".to_owned();
                for line in mail[number - 1].lines() {
                    let dot = if line.starts_with('.') { "." } else { "" };
                    reply += &format!("{dot}{line}\r\n");
                }
                reply + ".\r\n"
            }
            "QUIT" => "+OK\r\n".to_owned(),
            _ => "-ERR unknown command\r\n".to_owned(),
        };
        output.write_all(reply.as_bytes())?;
    }
    Ok(())
}

#[test]
fn messages_are_found_though_a_server_does_much_wrong() {
    Setup::new().as_root(|site| {
        let (there, here) = ([mail(), twins()].concat(), [twins(), mail()].concat());
        deliver_mbox(&[&here[..], &twins()[..1]].concat());
        let listener = TcpListener::bind(ADDRESS).expect("a port");
        std::thread::spawn(move || serve(&listener, &there));
        let from = ["--from", "pop3://127.0.0.1:1110", "--plain", "--json"];
        let outcome = popa3ctl(site, &[&["uidl", "import", ALICE.name], &from[..]].concat());
        assert_eq!(outcome.status.code(), Some(1), "{}", outcome.errors);
        let said = String::from_utf8(outcome.output).expect("text");
        // One more here than there of those that nothing tells apart: none of them is guessed.
        let long = "x".repeat(71);
        for (id, what) in [
            ("odd-1", "ambiguous"),
            ("odd-11", "ambiguous"),
            ("odd-12", "ambiguous"),
            (long.as_str(), "unusable"),
        ] {
            let (id, what) = (
                format!(r#"{{"id":"{id}","#),
                format!(r#","what":"{what}"}}"#),
            );
            let found = said
                .split_once(&id)
                .and_then(|(_, rest)| rest.split_once('}'));
            assert!(
                found.is_some_and(|(trouble, _)| format!(",{trouble}}}").ends_with(&what)),
                "{id} {what} in {said}"
            );
        }
        assert!(said.contains(r#""there":14,"here":15,"same":10"#), "{said}");
        // The list that was kept, on its own and taken from one place to another.
        let list = done(site, &["uidl", "export", ALICE.name]);
        assert_eq!(list.lines().count(), 16);
        for number in 2..=10 {
            assert!(list.contains(&format!(" odd-{number}\n")), "{list}");
        }
        let file = site.directory.join("list");
        std::fs::write(&file, list.replace(" odd-2\n", " other\n")).expect("a file");
        let file = file.display().to_string();
        done(site, &["uidl", "import", ALICE.name, "--file", &file]);
        let again = done(site, &["uidl", "export", ALICE.name]);
        assert!(
            again.contains(" other\n") && !again.contains(" odd-2\n"),
            "{again}"
        );
        // And served.
        let server = site.serve();
        let ids = site.login(ALICE).list("UIDL");
        assert!(
            ids.contains(&"6 other".to_owned()),
            "{ids:?}\n{}",
            server.log()
        );
    });
}
