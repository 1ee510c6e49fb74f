//! Unique-ids carried over from another server, so that no client downloads everything again.
//!
//! | file | |
//! |---|---|
//! | `users.rs` | whose, and how they log in there |
//! | `remote.rs` | a maildrop there, listed by nobody |
//! | `local.rs` | the maildrop here, listed by its owner |
//! | `head.rs`, `matching.rs` | which message there is which here |
//! | `plan.rs` | the list that comes of it, and the report |

pub mod head;
pub mod local;
mod matching;
mod plan;
pub mod remote;
mod users;

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;

use clap::{Args, Subcommand};
use maildrop::{IdMap, UniqueId};
use messages::spawner::SpawnerConfig;
use role_maildrop::session_lock::SessionLock;
use role_master::installation::Installation;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::accounts::{Accounts, Owner};
use crate::helper::{self, Input, Task};
use crate::mailbox::Mailbox;
use crate::state::State;
use local::{LeftBy, Listing};
use plan::{Report, Wanted, What};
use remote::{Encryption, Login, Order, Server};
use users::{Common, User};

/// Troubles of one user that are written out as text; `--json` has all.
const MAX_TROUBLES_SHOWN: usize = 20;

/// Users at a time, unless the command line says otherwise: what an old server takes without noticing.
const DEFAULT_JOBS: usize = 4;

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Carries the unique-ids of another server over. Messages keep them for as long as they are there.
    Import {
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        from: From,
        /// A list that `export` has written, for one user.
        #[arg(long, conflicts_with_all = ["from", "users_file"])]
        file: Option<PathBuf>,
        /// Say what would be done, and do nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Proves that every client would find the unique-ids that it knows from another server. Changes nothing.
    Verify {
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        from: From,
    },
    /// Writes the unique-ids of a maildrop: a line for each message, our own id and the one it is shown by.
    Export {
        /// The user.
        user: String,
        /// The server's configuration file.
        #[arg(short, long)]
        configuration: Option<PathBuf>,
    },
}

/// Whose unique-ids.
#[derive(Debug, Args)]
pub struct Who {
    /// Users.
    #[arg(required_unless_present = "users_file")]
    names: Vec<String>,
    /// A file with a line `user password` each; `-` is standard input. See docs/migration.md.
    #[arg(long = "users", value_name = "FILE", conflicts_with = "names")]
    users_file: Option<PathBuf>,
    /// Users at a time.
    #[arg(long, default_value_t = DEFAULT_JOBS)]
    jobs: usize,
    /// A JSON object a line for each user.
    #[arg(long)]
    json: bool,
    /// The server's configuration file.
    #[arg(short, long)]
    configuration: Option<PathBuf>,
}

/// Where the ids come from.
#[derive(Debug, Args)]
pub struct From {
    /// The old server while it runs, `pop3s://host[:port]` or `pop3://host[:port]`; or what it has left in the maildrops:
    /// `dovecot`, `courier`, `qmail`, `x-uidl`.
    #[arg(long)]
    from: Option<String>,
    /// Dovecot's `pop3_uidl_format`.
    #[arg(long, default_value = "%08Xu%08Xv")]
    uidl_format: String,
    /// Certificate authorities to trust besides the system's, in PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The SHA-256 of the old server's certificate.
    #[arg(long)]
    fingerprint: Option<String>,
    /// Passwords may go in the clear: `pop3://` without STLS.
    #[arg(long)]
    plain: bool,
    /// The name that is sent there: `%u` user, `%n` before `@`, `%d` behind it. `%u*master` for a master user.
    #[arg(long, default_value = "%u")]
    login: String,
    /// Says the password of those who have none in the file, in place of the terminal or standard input.
    #[arg(long, value_name = "COMMAND")]
    password_command: Option<String>,
}

/// Does it.
///
/// # Errors
/// One sentence for the administrator; what concerns one user has been told already.
pub fn run(command: Command) -> Result<(), String> {
    match command {
        Command::Import {
            who,
            from,
            file,
            dry_run,
        } => {
            let act = match dry_run {
                true => Act::Try,
                false => Act::Import,
            };
            let list = file.map(|path| {
                let text = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
                let mut file = File::open(&path).map_err(|error| text(&error))?;
                IdMap::read(&mut file).map_err(|error| text(&error))
            });
            all(act, who, from, list.transpose()?)
        }
        Command::Verify { who, from } => all(Act::Verify, who, from, None),
        Command::Export {
            user,
            configuration,
        } => {
            let server = Here::find(configuration.as_deref())?;
            let fail = |error: String| format!("{user}: {error}");
            let opened = server.open(&user, false, None).map_err(fail)?;
            let map = server.state.map(&opened.owner.path()).map_err(fail)?;
            let pairs = opened.own.iter().map(|&own| (own, map.shown_for(own)));
            let list = IdMap::from_pairs(pairs).map_err(|error| fail(error.to_string()))?;
            io::stdout()
                .write_all(&list.to_text())
                .map_err(|error| error.to_string())
        }
    }
}

/// What is done for each user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Import,
    /// The same, and nothing is written.
    Try,
    Verify,
}

/// This server.
struct Here {
    installation: Installation,
    accounts: Accounts,
    state: State,
    configuration: SpawnerConfig,
}

/// A maildrop here, with sessions kept off.
struct Opened {
    owner: Owner,
    messages: Vec<local::Message>,
    own: Vec<UniqueId>,
    lock: SessionLock,
}

impl Here {
    fn find(path: Option<&std::path::Path>) -> Result<Self, String> {
        let installation = Installation::find(path)?;
        Ok(Here {
            accounts: Accounts::of(&installation.configuration),
            state: State::of(&installation),
            configuration: installation.configuration.spawner(),
            installation,
        })
    }

    fn open(&self, user: &str, heads: bool, left_by: Option<LeftBy>) -> Result<Opened, String> {
        let owner = self.accounts.owner(user)?;
        let path = owner.path();
        let lock = self.state.lock(&path)?;
        crate::accounts::check_finished(&self.installation, &self.state, &owner)?;
        let copies = match owner.location.is_mbox() {
            true => Input::File(self.state.copies(&path)?),
            false => Input::None,
        };
        let task = Task::List(Listing {
            mailbox: Mailbox::new(&owner, &self.configuration),
            heads,
            left_by,
        });
        let identity = crate::accounts::identity(&self.installation, &owner.account);
        let messages: Vec<local::Message> = helper::run(identity.as_ref(), &task, copies)?;
        let own: Result<Vec<UniqueId>, String> =
            messages.iter().map(local::Message::own_id).collect();
        Ok(Opened {
            own: own?,
            owner,
            messages,
            lock,
        })
    }
}

/// Where ids come from.
enum Origin {
    Server(Server, Common),
    Left(LeftBy),
    List(IdMap),
}

impl Origin {
    fn new(from: From, list: Option<IdMap>, common_password: bool) -> Result<Self, String> {
        if let Some(list) = list {
            return Ok(Origin::List(list));
        }
        let name = from.from.ok_or("--from says where the ids come from")?;
        let (host, encryption) = match (name.strip_prefix("pop3s://"), name.strip_prefix("pop3://"))
        {
            (Some(host), _) => (host, Encryption::Tls),
            (_, Some(host)) if from.plain => (host, Encryption::Plain),
            (_, Some(host)) => (host, Encryption::Starttls),
            _ => {
                return match name.as_str() {
                    "dovecot" => Ok(Origin::Left(LeftBy::Dovecot(from.uidl_format))),
                    "courier" => Ok(Origin::Left(LeftBy::Courier)),
                    "qmail" => Ok(Origin::Left(LeftBy::Qmail)),
                    "x-uidl" => Ok(Origin::Left(LeftBy::XUidl)),
                    _ => Err(format!(
                        "--from {name}: is none of pop3s://…, pop3://…, dovecot, courier, qmail, x-uidl"
                    )),
                };
            }
        };
        let authorities = from.ca.map(|path| {
            std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
        });
        let server = Server {
            host: host.trim_end_matches('/').to_owned(),
            encryption,
            authorities: authorities.transpose()?,
            fingerprint: from.fingerprint,
        };
        let password = common_password
            .then(|| users::common_password(from.password_command.as_deref()))
            .transpose()?;
        Ok(Origin::Server(
            server,
            Common {
                template: from.login,
                password,
            },
        ))
    }
}

fn all(act: Act, who: Who, from: From, list: Option<IdMap>) -> Result<(), String> {
    let here = Here::find(who.configuration.as_deref())?;
    let users = match &who.users_file {
        Some(path) => users::read(path)?,
        None => who.names.into_iter().map(User::named).collect(),
    };
    if list.is_some() && users.len() != 1 {
        return Err("--file is about one user".to_owned());
    }
    let needs_common = users.iter().any(User::needs_common);
    let origin = Origin::new(from, list, needs_common)?;
    let (next, failed) = (Mutex::new(users.iter()), Mutex::new(0_usize));
    std::thread::scope(|scope| {
        for _ in 0..who.jobs.clamp(1, users.len().max(1)) {
            scope.spawn(|| {
                while let Some(user) = next.lock().ok().and_then(|mut users| users.next()) {
                    let result = here.one(act, user, &origin);
                    let is_good = matches!(&result, Ok(report) if report.troubles.is_empty());
                    let text = match who.json {
                        true => as_json(&user.name, &result),
                        false => as_text(act, &user.name, &result),
                    };
                    // Whoever does not read it sees by the exit code.
                    drop(io::stdout().lock().write_all(text.as_bytes()));
                    if let (false, Ok(mut failed)) = (is_good, failed.lock()) {
                        *failed = failed.saturating_add(1);
                    }
                }
            });
        }
    });
    match failed.into_inner().unwrap_or(users.len()) {
        0 => Ok(()),
        failed => Err(format!(
            "{failed} of {} users: not all is well",
            users.len()
        )),
    }
}

impl Here {
    fn one(&self, act: Act, user: &User, origin: &Origin) -> Result<Report, String> {
        let left_by = match origin {
            Origin::Left(left_by) => Some(left_by.clone()),
            _ => None,
        };
        let heads = matches!(origin, Origin::Server(..));
        let Opened {
            owner,
            messages,
            own,
            lock,
        } = self.open(&user.name, heads, left_by)?;
        // Users are not kept from their mail while nothing is going to be changed.
        let lock = (act == Act::Import).then_some(lock);
        let wanted = self.wanted(user, origin, &messages)?;
        let path = owner.path();
        let before = self.state.map(&path)?;
        let report = match act {
            Act::Verify => plan::verify(&wanted, &own, &before),
            Act::Import | Act::Try => {
                let (map, report) = plan::import(&wanted, &own, &before)?;
                if act == Act::Import && map != before {
                    self.state.set_map(&path, &map)?;
                }
                report
            }
        };
        drop(lock);
        Ok(report)
    }

    fn wanted(
        &self,
        user: &User,
        origin: &Origin,
        messages: &[local::Message],
    ) -> Result<Vec<Wanted>, String> {
        match origin {
            Origin::Left(_) => Ok(plan::wanted_of_left(messages)),
            Origin::List(list) => Ok(plan::wanted_of_list(list, messages)),
            Origin::Server(server, common) => {
                let order = Order {
                    server: server.clone(),
                    login: Login {
                        name: user.login(common),
                        password: user.password(common)?.to_string(),
                    },
                    heads: true,
                };
                let order = serde_json::to_vec(&order).map_err(|error| error.to_string())?;
                let network = self.installation.network();
                let there: Vec<remote::Message> =
                    helper::run(network, &Task::Remote, Input::Secret(Zeroizing::new(order)))
                        .map_err(|error| format!("old server: {error}"))?;
                plan::wanted_of_server(&there, messages)
            }
        }
    }
}

/// What `--json` writes of a user.
#[derive(Serialize)]
struct Line<'a> {
    user: &'a str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(flatten)]
    report: Option<&'a Report>,
}

fn as_json(user: &str, result: &Result<Report, String>) -> String {
    let line = Line {
        user,
        ok: result
            .as_ref()
            .is_ok_and(|report| report.troubles.is_empty()),
        error: result.as_ref().err().map(String::as_str),
        report: result.as_ref().ok(),
    };
    // Strings and numbers can always be written.
    serde_json::to_string(&line).unwrap_or_default() + "\n"
}

fn as_text(act: Act, user: &str, result: &Result<Report, String>) -> String {
    let report = match result {
        Ok(report) => report,
        Err(error) => return format!("{user}: {error}\n"),
    };
    let Report {
        there,
        here,
        same,
        repeated,
        troubles,
    } = report;
    let done = match act {
        Act::Import => "carried over",
        Act::Try => "would be carried over",
        Act::Verify => "are the same",
    };
    let mut text = format!("{user}: {there} unique-ids there, {here} messages here, {same} {done}");
    if *repeated > 0 {
        text += &format!(", {repeated} given more than once there");
    }
    if !troubles.is_empty() {
        text += &format!(", {} not", troubles.len());
    }
    text.push('\n');
    for trouble in troubles.iter().take(MAX_TROUBLES_SHOWN) {
        let what = match trouble.what {
            What::Missing => "its message is not here",
            What::Ambiguous => "several messages here could be its",
            What::Unusable => "POP3 does not allow it",
            What::Otherwise => "its message is shown by another here",
        };
        text += &format!("{user}: {}: {what}\n", trouble.id.escape_debug());
    }
    if troubles.len() > MAX_TROUBLES_SHOWN {
        text += &format!("{user}: …\n");
    }
    text
}
