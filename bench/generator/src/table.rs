//! The table: for each row and server the median of all turns, the spread, and how much better ours is.

use crate::mail::Format;
use crate::servers::{CEILING, OTHER, OURS, Server, WITH_PAM};
use crate::work::{Better, Figure, Figures};
use std::fmt::Write;

/// All that has been measured.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    failures: Vec<String>,
}

struct Row {
    name: String,
    entries: Vec<Entry>,
}

struct Entry {
    server: &'static str,
    turns: Vec<Figures>,
}

impl Table {
    /// Adds what one turn has found.
    pub fn add(&mut self, server: &Server, format: Format, figures: Vec<Figures>) {
        for figures in figures {
            let name = format!("{}, {}", figures.row, format.name());
            let row = match self.rows.iter().position(|row| row.name == name) {
                Some(index) => &mut self.rows[index],
                None => {
                    self.rows.push(Row {
                        name,
                        entries: Vec::new(),
                    });
                    let last = self.rows.len() - 1;
                    &mut self.rows[last]
                }
            };
            match row
                .entries
                .iter_mut()
                .find(|entry| entry.server == server.name)
            {
                Some(entry) => entry.turns.push(figures),
                None => row.entries.push(Entry {
                    server: server.name,
                    turns: vec![figures],
                }),
            }
        }
    }

    /// Remembers that a server could not do its work.
    pub fn fail(&mut self, what: String) {
        self.failures.push(what);
    }

    /// The table as Markdown.
    fn markdown(&self) -> String {
        let mut text = String::from(
            "| work | server | median | spread | ours is better | cost | spread | ours is better | |\n\
             |---|---|--:|---|--:|--:|---|--:|---|\n",
        );
        text += &self.rows_behind(0);
        if !self.failures.is_empty() {
            text += "\nNot measured:\n\n";
            for failure in &self.failures {
                let _infallible = writeln!(text, "- {failure}");
            }
        }
        text
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The rows behind the first so many, as Markdown.
    pub fn rows_behind(&self, known: usize) -> String {
        let mut text = String::new();
        for row in self.rows.iter().skip(known) {
            for (index, entry) in row.entries.iter().enumerate() {
                let name = if index == 0 { row.name.as_str() } else { "" };
                let main = row.cells(entry, |turn| Some(turn.main));
                let cost = row.cells(entry, |turn| turn.cost);
                let note = entry.turns.last().map_or("", |turn| turn.note.as_str());
                let _infallible = writeln!(
                    text,
                    "| {name} | {} | {main} | {cost} | {note} |",
                    entry.server
                );
            }
        }
        text
    }

    /// The whole report.
    pub fn report(&self) -> String {
        format!("{}\n{}", self.markdown(), self.standing())
    }

    /// How ours stands against the best rival, row by row.
    fn standing(&self) -> String {
        let mut text = String::from(
            "| work | best rival | ours is better | its cost against the least | ours is better |\n\
             |---|---|--:|---|--:|\n",
        );
        for row in &self.rows {
            let main = row.against_best(|turn| Some(turn.main));
            let cost = row.against_best(|turn| turn.cost);
            if main.is_some() {
                let _infallible = writeln!(
                    text,
                    "| {} | {} | {} |",
                    row.name,
                    main.unwrap_or_else(|| " | ".into()),
                    cost.unwrap_or_else(|| " | ".into())
                );
            }
        }
        text
    }
}

impl Row {
    fn cells(&self, entry: &Entry, which: impl Fn(&Figures) -> Option<Figure>) -> String {
        let Some(found) = Summary::of(entry, &which) else {
            return " | | ".into();
        };
        let ratio = self
            .entry(OURS)
            .and_then(|ours| Summary::of(ours, &which))
            .map_or_else(String::new, |ours| times(ours.better_than(&found)));
        format!(
            "{} {} | {} – {} | {ratio}",
            rounded(found.median),
            found.unit,
            rounded(found.least),
            rounded(found.most)
        )
    }

    fn against_best(&self, which: impl Fn(&Figures) -> Option<Figure>) -> Option<String> {
        let ours = Summary::of(self.entry(OURS)?, &which)?;
        let rivals = self
            .entries
            .iter()
            .filter(|entry| ![OURS, WITH_PAM, OTHER, CEILING].contains(&entry.server));
        let (name, least) = rivals
            .filter_map(|entry| {
                Some((entry.server, ours.better_than(&Summary::of(entry, &which)?)))
            })
            .min_by(|(_, one), (_, other)| one.total_cmp(other))?;
        Some(format!("{name} | {}", times(least)))
    }

    fn entry(&self, server: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.server == server)
    }
}

/// The turns of one server at one kind of work.
struct Summary {
    median: f64,
    least: f64,
    most: f64,
    unit: &'static str,
    better: Better,
}

impl Summary {
    fn of(entry: &Entry, which: impl Fn(&Figures) -> Option<Figure>) -> Option<Summary> {
        let figures: Vec<_> = entry.turns.iter().filter_map(which).collect();
        let mut values: Vec<_> = figures.iter().map(|figure| figure.value).collect();
        values.sort_by(f64::total_cmp);
        let first = figures.first()?;
        Some(Summary {
            median: median(&values),
            least: *values.first()?,
            most: *values.last()?,
            unit: first.unit,
            better: first.better,
        })
    }

    fn better_than(&self, other: &Summary) -> f64 {
        match self.better {
            Better::More => self.median / other.median,
            Better::Less => other.median / self.median,
        }
    }
}

/// Of sorted values, at least one.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

fn times(ratio: f64) -> String {
    if ratio.is_finite() {
        format!("{} ×", rounded(ratio))
    } else {
        "–".into()
    }
}

/// Three digits that count.
pub fn rounded(value: f64) -> String {
    if !value.is_finite() {
        return "∞".into();
    }
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(main: Figure) -> Vec<Figures> {
        vec![Figures {
            row: "work",
            main,
            cost: None,
            note: String::new(),
        }]
    }

    #[test]
    fn ratios_say_how_much_better_ours_is_whatever_is_better() {
        for (figure, ours, rival) in [
            (Figure::more as fn(f64, &'static str) -> Figure, 30.0, 10.0),
            (Figure::less, 10.0, 30.0),
        ] {
            let mut table = Table::default();
            table.add(
                crate::servers::ALL[0],
                Format::Mbox,
                figures(figure(ours, "u")),
            );
            // The first that is no build of ours.
            table.add(
                crate::servers::ALL[3],
                Format::Mbox,
                figures(figure(rival, "u")),
            );
            assert!(table.markdown().contains("3.00 ×"), "{}", table.markdown());
            assert!(table.standing().contains("3.00 ×"), "{}", table.standing());
        }
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
    }
}
