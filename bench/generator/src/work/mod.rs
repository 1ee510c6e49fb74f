//! The pieces of work, each done by one server in one turn. A turn returns figures for one or more rows of the table.

mod fetch;
mod flood;
mod idle;
mod large;
mod poll;

pub use poll::in_parallel;

use crate::Outcome;
use crate::mail::Format;
use crate::servers::Server;
use crate::setup::{Instance, SetUp};

/// A piece of work.
pub struct Work {
    /// Selects it on the command line.
    pub name: &'static str,
    /// What has to be there, at full and at quick scale.
    pub set_up: fn(quick: bool) -> SetUp,
    /// Formats it is done with.
    pub formats: &'static [Format],
    /// Servers that cannot do it, or of which nothing new would be learned.
    pub leaves_out: &'static [&'static str],
    /// Turns of each server, at full scale.
    pub rounds: usize,
    /// Does it once.
    pub turn: fn(&Instance, quick: bool) -> Outcome<Vec<Figures>>,
}

impl Work {
    /// Whether a server can be asked to do it.
    pub fn is_for(&self, server: &Server, format: Format) -> bool {
        !self.leaves_out.contains(&server.name)
            && self.formats.contains(&format)
            && server.formats.contains(&format)
    }
}

/// What one turn adds to one row.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The row, which has the format's name added.
    pub row: &'static str,
    /// What the work is about.
    pub main: Figure,
    /// What it cost, if the main figure does not say.
    pub cost: Option<Figure>,
    /// What else has to be known.
    pub note: String,
}

/// A number with a unit.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// Which is better.
    pub better: Better,
}

/// Which of two numbers is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The larger.
    More,
    /// The smaller.
    Less,
}

impl Figure {
    /// A rate.
    pub fn more(value: f64, unit: &'static str) -> Figure {
        let better = Better::More;
        Figure {
            value,
            unit,
            better,
        }
    }

    /// A cost.
    pub fn less(value: f64, unit: &'static str) -> Figure {
        let better = Better::Less;
        Figure {
            value,
            unit,
            better,
        }
    }
}

/// Servers without TLS.
const WITHOUT_TLS: &[&str] = &["popa3d", "popa3d-debian"];

/// All work, in the order of the table.
pub static ALL: &[Work] = &[
    poll::POLL,
    fetch::FETCH_ALL,
    fetch::RETR_50K,
    fetch::PIPELINED_50K,
    fetch::PIPELINED_5M,
    idle::MEMORY,
    poll::POLL_TLS,
    fetch::PIPELINED_50K_TLS,
    fetch::PIPELINED_5M_TLS,
    idle::MEMORY_TLS,
    large::MBOX,
    large::MAILDIR,
    idle::CROWD,
    idle::SILENT,
    flood::FLOOD,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_left_out_exists() {
        for name in ALL.iter().flat_map(|work| work.leaves_out) {
            assert!(
                crate::servers::ALL
                    .iter()
                    .any(|server| server.name == *name),
                "{name}"
            );
        }
    }
}
