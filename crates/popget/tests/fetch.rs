//! popget as a user runs it, against a server that behaves and one that does not.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use scripted_server::{Mailbox, Message, Server};
use tempfile::TempDir;

struct Site {
    directory: TempDir,
    url: String,
}

impl Site {
    fn new(server: &Server) -> Site {
        Site {
            directory: tempfile::tempdir().unwrap(),
            url: format!("pop3://mrose@127.0.0.1:{}", server.port()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_popget"));
        command
            .env("HOME", self.directory.path())
            .env_remove("XDG_STATE_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("CREDENTIALS_DIRECTORY")
            .env_remove("NETRC")
            .stdin(Stdio::null());
        command
    }

    /// With the URL and a password.
    fn popget(&self, action: &str, arguments: &[&str]) -> Output {
        self.command()
            .args([
                action,
                &self.url,
                "--plain",
                "--password-command",
                "echo tanstaaf",
            ])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn fetch(&self, arguments: &[&str]) -> Output {
        let maildir = self.path("Mail");
        let place = ["--maildir", maildir.to_str().unwrap()];
        self.popget("fetch", &[&place, arguments].concat())
    }

    fn delivered(&self) -> Vec<Vec<u8>> {
        files(&self.path("Mail/new"))
    }
}

fn files(directory: &Path) -> Vec<Vec<u8>> {
    let names: BTreeMap<_, _> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    let mut contents: Vec<Vec<u8>> = names.into_values().collect();
    contents.sort();
    contents
}

fn with_lf(octets: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(octets)
        .replace("\r\n", "\n")
        .into_bytes()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn mail_is_fetched_once_and_left_on_the_server() {
    let mailbox = Mailbox::many(150, 3000);
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&[]);
    assert_eq!(code(&output), 0, "{output:?}");
    let mut expected: Vec<Vec<u8>> = mailbox
        .messages()
        .iter()
        .map(|m| with_lf(&m.octets))
        .collect();
    expected.sort();
    assert!(site.delivered() == expected);
    assert_eq!(mailbox.messages().len(), 150);
    assert!(files(&site.path("Mail/tmp")).is_empty());

    mailbox.deliver(Message {
        unique_id: "new".to_owned(),
        octets: b"Subject: new\r\n\r\n".to_vec(),
    });
    let output = site.fetch(&[]);
    assert!(
        said(&output).contains("151 messages, 1 new, 1 fetched"),
        "{output:?}"
    );
    assert_eq!(site.delivered().len(), 151);
}

#[test]
fn what_was_fetched_is_deleted_if_that_is_wanted() {
    let mailbox = Mailbox::many(10, 100);
    let site = Site::new(&mailbox.start());
    assert_eq!(code(&site.fetch(&[])), 0);
    let output = site.fetch(&["--delete", "--keep-newest", "3"]);
    assert!(said(&output).contains("0 fetched, 7 deleted"), "{output:?}");
    assert_eq!(mailbox.messages().len(), 3);
    let output = site.fetch(&["--delete-after", "1d"]);
    assert_eq!((code(&output), mailbox.messages().len()), (0, 3));
    let output = site.fetch(&["--delete"]);
    assert_eq!((code(&output), mailbox.messages().len()), (0, 0));
    assert_eq!(site.delivered().len(), 10);
}

#[test]
fn one_bad_message_stops_nothing() {
    let mut mailbox = Mailbox::many(5, 100);
    mailbox.broken_message = Some(2);
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&["--delete"]);
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(
        said(&output).contains("message uid-2: RETR: the server refused: [SYS/TEMP]"),
        "{output:?}"
    );
    assert_eq!(site.delivered().len(), 4);
    let left = mailbox.messages();
    assert_eq!((left.len(), left[0].unique_id.as_str()), (1, "uid-2"));
}

#[test]
fn without_an_answer_to_quit_no_deletion_is_reported() {
    let mut mailbox = Mailbox::many(3, 100);
    mailbox.closes_at = Some("QUIT");
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&["--delete"]);
    assert_eq!(code(&output), 3, "{output:?}");
    let said = said(&output);
    assert!(
        said.contains("QUIT was not answered") && !said.contains("deleted,"),
        "{said}"
    );
    assert_eq!((site.delivered().len(), mailbox.messages().len()), (3, 3));
}

#[test]
fn a_message_that_breaks_the_connection_stops_nothing() {
    let mut mailbox = Mailbox::many(5, 100);
    mailbox.closes_at = Some("RETR 2");
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&["--delete"]);
    assert_eq!(code(&output), 1, "{output:?}");
    let said = said(&output);
    assert!(
        said.contains("message uid-2: the connection broke twice")
            && said.contains("5 messages, 5 new, 4 fetched, 1 failed, 4 deleted"),
        "{said}"
    );
    assert_eq!(site.delivered().len(), 4);
    let left = mailbox.messages();
    assert_eq!((left.len(), left[0].unique_id.as_str()), (1, "uid-2"));
}

#[test]
fn a_header_that_breaks_the_connection_stops_nothing() {
    let mut mailbox = Mailbox::many(4, 100);
    mailbox.closes_at = Some("TOP 1");
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&["--filter", "subject:*message*"]);
    assert_eq!(
        (code(&output), site.delivered().len()),
        (1, 3),
        "{output:?}"
    );
}

#[test]
fn a_server_that_only_breaks_connections_is_left_in_peace() {
    let mut mailbox = Mailbox::many(50, 100);
    mailbox.closes_at = Some("RETR");
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&[]);
    assert_eq!(
        (code(&output), site.delivered().len()),
        (3, 0),
        "{output:?}"
    );
    let heard = mailbox.heard();
    let logins = heard.iter().filter(|line| line.starts_with("AUTH"));
    assert_eq!(logins.count(), 8, "{heard:?}");
}

#[test]
fn a_connection_that_breaks_leaves_nothing_half_delivered() {
    let mut mailbox = Mailbox::many(5, 100);
    mailbox.closes_at = Some("RETR");
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&["--delete"]);
    assert_eq!(code(&output), 3, "{output:?}");
    let there = site.delivered().len();
    assert!(files(&site.path("Mail/tmp")).is_empty());
    assert_eq!(mailbox.messages().len(), 5);
    mailbox.closes_at = None;
    let whole = Site {
        url: format!("pop3://mrose@127.0.0.1:{}", mailbox.start().port()),
        ..site
    };
    assert_eq!(code(&whole.fetch(&[])), 0);
    // Another port is another server, so all is fetched again.
    assert_eq!(whole.delivered().len(), there + 5);
}

#[test]
fn messages_that_share_an_id_are_all_fetched() {
    let twin = |text: &str| Message {
        unique_id: "same".to_owned(),
        octets: text.as_bytes().to_vec(),
    };
    let mailbox = Mailbox::new(vec![twin("Subject: a\r\n\r\n"), twin("Subject: b\r\n\r\n")]);
    let site = Site::new(&mailbox.start());
    assert_eq!(code(&site.fetch(&["--delete"])), 0);
    assert_eq!(site.delivered(), [b"Subject: a\n\n", b"Subject: b\n\n"]);
    assert!(mailbox.messages().is_empty());
}

#[test]
fn an_mbox_gets_all_messages_quoted() {
    let message = |id: &str, octets: &[u8]| Message {
        unique_id: id.to_owned(),
        octets: octets.to_vec(),
    };
    let mailbox = Mailbox::new(vec![
        message("1", b"Subject: a\r\n\r\nFrom here\r\n>From there\r\n"),
        message("2", b"Subject: b\r\n\r\nno end"),
    ]);
    let site = Site::new(&mailbox.start());
    let mbox = site.path("mbox");
    let output = site.popget("fetch", &["--mbox", mbox.to_str().unwrap()]);
    assert_eq!(code(&output), 0, "{output:?}");
    let text = fs::read_to_string(&mbox).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("From popget-") && lines[6].starts_with("From popget-"),
        "{text}"
    );
    assert_eq!(
        lines[1..6],
        ["Subject: a", "", ">From here", ">>From there", ""]
    );
    assert_eq!(lines[7..], ["Subject: b", "", "no end", ""]);
    assert!(!site.path("mbox.lock").exists());
}

#[test]
fn a_command_gets_each_message_and_may_refuse_it() {
    let mailbox = Mailbox::many(3, 100);
    let site = Site::new(&mailbox.start());
    let script = "cat > \"$HOME/$POPGET_UNIQUE_ID\"; test \"$POPGET_UNIQUE_ID\" != uid-2";
    let output = site.popget("fetch", &["--mda", script, "--delete"]);
    assert_eq!(code(&output), 1, "{output:?}");
    assert_eq!(
        fs::read(site.path("uid-3")).unwrap(),
        with_lf(&Mailbox::many(3, 100).messages()[2].octets)
    );
    assert_eq!(mailbox.messages()[0].unique_id, "uid-2");
}

#[test]
fn lmtp_gets_each_message_and_may_refuse_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let agent = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        let mut say = |text: &str| stream.write_all(text.as_bytes()).unwrap();
        let mut messages: Vec<String> = Vec::new();
        say("220 ready\r\n");
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap() == 0 {
                return messages;
            }
            match line.split(' ').next().unwrap().trim_end() {
                "LHLO" => say("250-here\r\n250 PIPELINING\r\n"),
                "DATA" => {
                    say("354 go on\r\n");
                    let mut message = String::new();
                    while !message.ends_with("\r\n.\r\n") {
                        reader.read_line(&mut message).unwrap();
                    }
                    let is_wanted = !message.contains("message 2");
                    messages.push(message);
                    say(if is_wanted {
                        "250 kept\r\n"
                    } else {
                        "550 no\r\n"
                    });
                }
                _ => say("250 fine\r\n"),
            }
        }
    });
    let mailbox = Mailbox::many(3, 100);
    let site = Site::new(&mailbox.start());
    let output = site.popget("fetch", &["--lmtp", &address, "--delete"]);
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(said(&output).contains("550 no"), "{output:?}");
    let messages = agent.join().unwrap();
    assert_eq!(messages.len(), 3);
    let sent = String::from_utf8(Mailbox::many(3, 100).messages()[2].octets.clone()).unwrap();
    assert_eq!(messages[2], sent.replace("\r\n.", "\r\n..") + ".\r\n");
    assert_eq!(mailbox.messages()[0].unique_id, "uid-2");
}

#[test]
fn filters_look_at_size_and_header() {
    let mailbox = Mailbox::many(20, 100);
    mailbox.deliver(Message {
        unique_id: "big".to_owned(),
        octets: vec![b'x'; 5000],
    });
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&["--filter", "size<1k", "--filter", "subject:message 1*"]);
    assert!(
        said(&output).contains("21 new, 11 fetched, 10 not wanted"),
        "{output:?}"
    );
    // What was not wanted is still new.
    let output = site.fetch(&["--filter", "size>1k"]);
    assert!(said(&output).contains("10 new, 1 fetched"), "{output:?}");
}

#[test]
fn seen_now_fetches_nothing_and_a_dry_run_changes_nothing() {
    let mailbox = Mailbox::many(4, 100);
    let site = Site::new(&mailbox.start());
    let output = site.fetch(&["--dry-run", "--delete"]);
    assert!(
        said(&output).contains("fetch 1 (") && said(&output).contains("delete what is fetched (4"),
        "{output:?}"
    );
    assert_eq!(mailbox.messages().len(), 4);
    assert!(!site.path("Mail").exists());
    assert_eq!(code(&site.popget("fetch", &["--seen-now"])), 0);
    let output = site.fetch(&[]);
    assert!(
        said(&output).contains("4 messages, 0 new, 0 fetched"),
        "{output:?}"
    );
}

#[test]
fn new_ids_for_old_mail_are_noticed() {
    let mailbox = Mailbox::many(20, 100);
    let site = Site::new(&mailbox.start());
    assert_eq!(code(&site.fetch(&[])), 0);
    let renamed = mailbox.messages().into_iter().map(|m| Message {
        unique_id: format!("x{}", m.unique_id),
        ..m
    });
    let other = Mailbox::new(renamed.collect());
    // The record is moved to the other server's name: ports differ here.
    let port = other.start().port();
    let state = site.path(".local/state/popget");
    let old = fs::read_dir(&state)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.extension().is_none_or(|e| e != "lock"))
        .unwrap();
    fs::rename(old, state.join(format!("mrose@127.0.0.1%3A{port}"))).unwrap();
    let site = Site {
        url: format!("pop3://mrose@127.0.0.1:{port}"),
        ..site
    };
    let output = site.fetch(&[]);
    assert!(
        said(&output).contains("of 20 messages known, 20 are gone and 20 are new"),
        "{output:?}"
    );
}

#[test]
fn several_accounts_of_the_configuration_are_fetched_in_one_run() {
    let first = Mailbox::many(2, 100);
    let second = Mailbox::many(3, 100);
    let site = Site::new(&first.start());
    fs::create_dir_all(site.path(".config/popget")).unwrap();
    let text = format!(
        "[defaults]\nplain = true\npassword-command = \"echo tanstaaf\"\nmbox = \"~/mbox\"\n\
         [accounts.one]\nurl = \"pop3://mrose@127.0.0.1:{}\"\n[accounts.two]\nurl = \"pop3://mrose@127.0.0.1:{}\"\n\
         [accounts.wrong]\nurl = \"pop3://other@127.0.0.1:{}\"\n",
        first.start().port(),
        second.start().port(),
        second.start().port(),
    );
    fs::write(site.path(".config/popget/popget.toml"), text).unwrap();
    let output = site.command().args(["fetch", "--json"]).output().unwrap();
    assert_eq!(code(&output), 4, "{output:?}");
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert!(
        lines[0].contains("\"account\":\"one\"") && lines[0].contains("\"fetched\":2"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("\"account\":\"two\"") && lines[1].contains("\"fetched\":3"),
        "{lines:?}"
    );
    assert!(
        lines[2].contains("\"account\":\"wrong\"") && lines[2].contains("[AUTH]"),
        "{lines:?}"
    );
    let mbox = fs::read_to_string(site.path("mbox")).unwrap();
    assert_eq!(mbox.matches("From popget-").count(), 5);
}

#[test]
fn one_maildrop_can_be_looked_at() {
    let mailbox = Mailbox::sample();
    let site = Site::new(&mailbox.start());
    let stdout = |action: &str, arguments: &[&str]| {
        let output = site.popget(action, arguments);
        assert_eq!(code(&output), 0, "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(stdout("stat", &[]).starts_with("2 messages, "));
    assert_eq!(
        stdout("uidl", &[]),
        "1 whqtswO00WBw418f9t5JxYwZ\n2 QhdPYR:00WBw1Ph7x7\n"
    );
    assert!(
        stdout("list", &["--json"])
            .contains(r#"{"number":1,"octets":51,"uid":"whqtswO00WBw418f9t5JxYwZ"}"#)
    );
    assert_eq!(stdout("top", &["1"]), "Subject: one\r\n\r\n");
    assert_eq!(
        site.popget("retr", &["2"]).stdout,
        mailbox.messages()[1].octets
    );
    assert!(stdout("capa", &[]).contains("PIPELINING\n"));
    let output = site.popget("dele", &["2", "7"]);
    assert_eq!(
        (code(&output), said(&output).contains("2 deleted")),
        (1, true),
        "{output:?}"
    );
    assert_eq!(mailbox.messages().len(), 1);
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let mailbox = Mailbox::sample();
    let site = Site::new(&mailbox.start());
    let run = |arguments: &[&str]| code(&site.command().args(arguments).output().unwrap());
    assert_eq!(run(&["fetch", "nonsense", "--stdout"]), 2);
    assert_eq!(run(&["fetch"]), 2);
    assert_eq!(
        run(&[
            "stat",
            "pop3s://u@127.0.0.1:1",
            "--password-command",
            "echo x"
        ]),
        3
    );
    assert_eq!(
        run(&[
            "stat",
            &site.url,
            "--plain",
            "--password-command",
            "echo wrong"
        ]),
        4
    );
    // Neither STLS nor --plain: no password leaves this machine.
    assert_eq!(
        run(&["stat", &site.url, "--password-command", "echo tanstaaf"]),
        5
    );
    assert!(
        !mailbox
            .heard()
            .iter()
            .any(|line| line.contains("tanstaaf") && !line.contains("PLAIN"))
    );
}

#[test]
fn the_password_comes_from_where_it_is_said() {
    let mailbox = Mailbox::sample();
    let site = Site::new(&mailbox.start());
    let mut child = site
        .command()
        .args(["stat", &site.url, "--plain", "--password-stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"tanstaaf\n")
        .unwrap();
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(child.wait().unwrap().success() && text.starts_with("2 messages"));

    fs::write(site.path("mail"), "tanstaaf\n").unwrap();
    let output = site
        .command()
        .args(["stat", &site.url, "--plain", "--credential", "mail"])
        .env("CREDENTIALS_DIRECTORY", site.directory.path())
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{output:?}");

    let netrc = site.path(".netrc");
    fs::write(&netrc, "machine 127.0.0.1 login mrose password tanstaaf").unwrap();
    let stat = || {
        site.command()
            .args(["stat", &site.url, "--plain"])
            .output()
            .unwrap()
    };
    let permissions = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    fs::set_permissions(&netrc, permissions(0o644)).unwrap();
    assert_eq!(code(&stat()), 2);
    fs::set_permissions(&netrc, permissions(0o600)).unwrap();
    assert_eq!(code(&stat()), 0);
}

#[test]
fn no_password_is_shown_by_verbose() {
    let mut mailbox = Mailbox::sample();
    for capabilities in [vec!["SASL PLAIN"], vec![]] {
        mailbox.capabilities = capabilities;
        let site = Site::new(&mailbox.start());
        let output = site.popget("stat", &["--verbose"]);
        let said = said(&output);
        assert!(said.contains("C: STAT"), "{said}");
        assert!(
            !said.contains("tanstaaf") && !said.contains("AG1yb3Nl"),
            "{said}"
        );
    }
}

#[test]
fn manual_page_and_completions_are_made() {
    for what in ["man", "bash", "fish", "zsh"] {
        let output = Command::new(env!("CARGO_BIN_EXE_popget"))
            .args(["generate", what])
            .output()
            .unwrap();
        assert_eq!(code(&output), 0);
        let text = String::from_utf8(output.stdout).unwrap();
        for word in ["keep-newest", "oauth2-token-command", "seen-now"] {
            assert!(
                text.contains(word) || text.contains(&word.replace('-', "\\-")),
                "{what}: {word}"
            );
        }
    }
}

#[test]
fn manual_page_and_completions_are_installed_with_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/popget/install");
    let installed = Command::new(script)
        .arg("/opt")
        .env("DESTDIR", directory.path())
        .env("POPGET", env!("CARGO_BIN_EXE_popget"))
        .status()
        .unwrap();
    assert!(installed.success());
    let root = directory.path().join("opt");
    let page = fs::read_to_string(root.join("share/man/man1/popget.1")).unwrap();
    assert!(
        page.contains(".TH") && page.contains("Exit codes"),
        "{page}"
    );
    for (file, word) in [
        ("share/bash-completion/completions/popget", "complete -F"),
        (
            "share/fish/vendor_completions.d/popget.fish",
            "complete -c popget",
        ),
        ("share/zsh/site-functions/_popget", "#compdef popget"),
    ] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        assert!(text.contains(word), "{file}");
    }
    let version = Command::new(root.join("bin/popget"))
        .arg("--version")
        .output()
        .unwrap();
    assert_eq!(code(&version), 0);
}

#[test]
fn a_message_comes_in_json_too() {
    let mailbox = Mailbox::sample();
    let site = Site::new(&mailbox.start());
    let json = |action: &str, number: &str| -> serde_json::Value {
        let output = site.popget(action, &[number, "--json"]);
        assert_eq!(code(&output), 0, "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let one = json("retr", "1");
    let text = String::from_utf8(mailbox.messages()[0].octets.clone()).unwrap();
    assert_eq!(
        (&one["number"], &one["octets"]),
        (&1.into(), &text.len().into())
    );
    assert_eq!(one["text"], text);
    // Not UTF-8, so JSON cannot have it as it is.
    assert_eq!(
        json("retr", "2")["base64"],
        "U3ViamVjdDogdHdvDQoNCi4uDQrkIAANCg=="
    );
    assert_eq!(json("top", "2")["text"], "Subject: two\r\n\r\n");
}
