//! Logs: the master receives every role's records and makes one line of each.
//!
//! Nothing in a record is trusted. Which role speaks is known from the channel, which process from the kernel; control
//! octets are escaped, so that a record is one line whatever a client sent; each role may write so many lines a second
//! and no more, and what was dropped is counted.

mod budget;
mod line;
mod target;

use messages::log::Record;
use messages::role::Role;

use crate::configuration::file::Log as LogConfiguration;
use budget::Budget;
pub use target::Target;

/// Who speaks.
#[derive(Clone, Copy, Debug)]
pub struct Speaker {
    /// The role whose channel the record came on; `None` for the master itself.
    pub role: Option<Role>,
    /// The process, as the kernel says.
    pub pid: u32,
}

/// Where lines go and how they look.
#[derive(Debug)]
pub struct Log {
    configuration: LogConfiguration,
    target: Target,
    budgets: [Budget; Role::ALL.len()],
}

impl Log {
    /// Opens the target that the configuration names or, where it names none, the one that suits where the server runs.
    pub fn open(configuration: &LogConfiguration, surroundings: target::Surroundings) -> Self {
        Self {
            configuration: configuration.clone(),
            target: Target::open(configuration, surroundings),
            budgets: Default::default(),
        }
    }

    /// Takes over a newer configuration.
    pub fn reconfigure(
        &mut self,
        configuration: &LogConfiguration,
        surroundings: target::Surroundings,
    ) {
        if self.configuration != *configuration {
            *self = Self::open(configuration, surroundings);
        }
    }

    /// Writes what the master itself has to say.
    pub fn own(&mut self, record: &Record) {
        self.write(
            Speaker {
                role: None,
                pid: std::process::id(),
            },
            record,
        );
    }

    /// Writes a role's record, unless the role has used up its lines.
    pub fn role(&mut self, role: Role, pid: u32, record: &Record) {
        let speaker = Speaker {
            role: Some(role),
            pid,
        };
        let budget = &mut self.budgets[role as usize];
        if !budget.take() {
            return;
        }
        if let Some(dropped) = budget.take_dropped() {
            let notice = Record::warning("log lines dropped").with("lines", dropped);
            self.write(speaker, &notice);
        }
        self.write(speaker, record);
    }

    fn write(&mut self, speaker: Speaker, record: &Record) {
        let text = line::format(self.configuration.format, speaker, record);
        self.target
            .write(&self.configuration, record.level, speaker.pid, &text);
    }
}

pub use target::Surroundings;
