//! The commands that look at one maildrop, or take a message from it or away.

use std::io::{self, Write};

use base64ct::{Base64, Encoding};
use net_pop3::Transaction;
use net_pop3::blocking::{Message, Session};
use serde_json::json;

use crate::account::Account;
use crate::cli::{Action, Common, Single};
use crate::config::Configuration;
use crate::failure::{Exit, Failed};

/// Does what is asked, and writes it to standard output.
///
/// # Errors
/// [`Failed`].
pub fn run(action: &Action, common: &Common) -> Result<Exit, Failed> {
    let configuration = Configuration::read(common.config.as_deref())?;
    let account = |single: &Single| configuration.account(&single.account, &single.options);
    let mut out = Output {
        is_json: common.json,
        out: io::stdout().lock(),
    };
    match action {
        Action::Stat(single) => {
            let mut session = enter(&account(single)?, common)?;
            let stat = session.stat()?;
            out.line(
                &match stat.messages {
                    1 => format!("1 message, {} octets", stat.octets),
                    messages => format!("{messages} messages, {} octets", stat.octets),
                },
                &json!({ "messages": stat.messages, "octets": stat.octets }),
            )?;
            session.quit()?;
        }
        Action::List(single) => {
            let mut session = enter(&account(single)?, common)?;
            for message in session.listing()? {
                let number = message.number.value();
                let id = message.unique_id.as_ref().map(|id| id.as_str());
                out.line(
                    &format!("{number} {} {}", message.octets, id.unwrap_or("-")),
                    &json!({ "number": number, "octets": message.octets, "uid": id }),
                )?;
            }
            session.quit()?;
        }
        Action::Uidl(single) => {
            let mut session = enter(&account(single)?, common)?;
            for (number, id) in session.uidl_all()? {
                let number = number.value();
                out.line(
                    &format!("{number} {id}"),
                    &json!({ "number": number, "uid": id.as_str() }),
                )?;
            }
            session.quit()?;
        }
        Action::Top {
            single,
            message,
            lines,
        } => {
            let mut session = enter(&account(single)?, common)?;
            out.message(session.top(*message, *lines)?)?;
            session.quit()?;
        }
        Action::Retr { single, message } => {
            let mut session = enter(&account(single)?, common)?;
            out.message(session.retr(*message)?)?;
            session.quit()?;
        }
        Action::Dele { single, messages } => {
            return delete(enter(&account(single)?, common)?, messages, &mut out);
        }
        Action::Capa(single) => {
            let account = account(single)?;
            let mut session = builder(&account, common)?.connect()?;
            let capabilities = session.capa()?;
            if !capabilities.capa {
                eprintln!("popget: the server does not know CAPA");
            }
            for line in capabilities.lines() {
                out.line(&line, &json!({ "capability": line }))?;
            }
            session.quit()?;
        }
        Action::Fetch(_) | Action::Generate { .. } => (),
    }
    out.out.flush().map_err(Failed::local)?;
    Ok(Exit::Fine)
}

fn builder(account: &Account, common: &Common) -> Result<net_pop3::blocking::Builder, Failed> {
    let builder = account.builder()?;
    Ok(match common.verbose {
        true => builder.trace(|line| eprintln!("{line}")),
        false => builder,
    })
}

fn enter(account: &Account, common: &Common) -> Result<Session<Transaction>, Failed> {
    let builder = builder(account, common)?;
    let credentials = account.credentials()?;
    let session = builder.connect()?.login(&credentials);
    Ok(session.map_err(net_pop3::Error::from)?)
}

/// What was deleted is said when the server has confirmed it.
fn delete(
    mut session: Session<Transaction>,
    messages: &[u32],
    out: &mut Output<'_>,
) -> Result<Exit, Failed> {
    let outcomes = session.dele_all(messages)?;
    session.quit()?;
    let mut exit = Exit::Fine;
    for (number, outcome) in outcomes {
        let number = number.value();
        match outcome {
            Ok(()) => out.line(
                &format!("{number} deleted"),
                &json!({ "number": number, "deleted": true }),
            )?,
            Err(error) => {
                exit = Exit::Messages;
                eprintln!("popget: message {number}: {error}");
                if out.is_json {
                    out.line("", &json!({ "number": number, "deleted": false }))?;
                }
            }
        }
    }
    Ok(exit)
}

struct Output<'a> {
    is_json: bool,
    out: io::StdoutLock<'a>,
}

impl Output<'_> {
    /// As it comes, or in JSON; that cannot hold any octets, so what is not UTF-8 is in base64.
    fn message(&mut self, mut message: Message<'_>) -> Result<(), Failed> {
        if !self.is_json {
            return match message.copy_to(&mut self.out) {
                Ok(_) => Ok(()),
                Err(error) => Err(match error.downcast::<net_pop3::Error>() {
                    Ok(error) => error.into(),
                    Err(error) => Failed::local(error),
                }),
            };
        }
        let number = message.number().value();
        let octets = message.to_vec()?;
        let mut json = json!({ "number": number, "octets": octets.len() });
        match String::from_utf8(octets) {
            Ok(text) => json["text"] = text.into(),
            Err(error) => json["base64"] = Base64::encode_string(error.as_bytes()).into(),
        }
        self.line("", &json)
    }

    fn line(&mut self, text: &str, json: &serde_json::Value) -> Result<(), Failed> {
        let written = match self.is_json {
            true => writeln!(self.out, "{json}"),
            false => writeln!(self.out, "{text}"),
        };
        written.map_err(Failed::local)
    }
}
