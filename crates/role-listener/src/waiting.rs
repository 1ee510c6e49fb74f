//! Connections in line for the session spawner, the sources by turns: a flood from one address stands behind itself, and
//! a client from elsewhere waits for one connection of each other source at most.

use std::collections::{HashMap, VecDeque};

use crate::slots::Key;
use crate::source::Source;

/// Whose turn it is: a source, or all that have no address.
type Line = Option<Source>;

/// The lines of all sources. Entries may outlive their connections; see [`Waiting::retain`].
#[derive(Debug, Default)]
pub struct Waiting {
    /// None of them empty.
    lines: HashMap<Line, VecDeque<Key>>,
    /// Every line once, the next one first.
    turns: VecDeque<Line>,
    len: usize,
}

impl Waiting {
    /// Entries, those that mean nothing any more among them.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a connection at the end of its source's line.
    pub fn push(&mut self, source: Line, key: Key) {
        let line = self.lines.entry(source).or_default();
        if line.is_empty() {
            self.turns.push_back(source);
        }
        line.push_back(key);
        self.len = self.len.saturating_add(1);
    }

    /// The next connection, and its source; the turn goes to the next source.
    pub fn pop(&mut self) -> Option<(Line, Key)> {
        let source = self.turns.pop_front()?;
        let line = self.lines.get_mut(&source)?;
        let key = line.pop_front()?;
        self.len = self.len.saturating_sub(1);
        if line.is_empty() {
            self.lines.remove(&source);
        } else {
            self.turns.push_back(source);
        }
        Some((source, key))
    }

    /// Gives back what [`Waiting::pop`] gave last: its turn has not been.
    pub fn push_front(&mut self, source: Line, key: Key) {
        let line = self.lines.entry(source).or_default();
        if !line.is_empty() {
            // Its next turn is the last one.
            self.turns.pop_back();
        }
        line.push_front(key);
        self.turns.push_front(source);
        self.len = self.len.saturating_add(1);
    }

    /// Forgets the connections that `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(Key) -> bool) {
        self.lines.retain(|_, line| {
            line.retain(|&key| keep(key));
            !line.is_empty()
        });
        let lines = &self.lines;
        self.turns.retain(|source| lines.contains_key(source));
        self.len = lines.values().map(VecDeque::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOD: Line = Some(Source::V4(1));
    const POLITE: Line = Some(Source::V4(2));

    fn key(number: u64) -> Key {
        Key::from_bits(number)
    }

    fn all(waiting: &mut Waiting) -> Vec<u64> {
        std::iter::from_fn(|| waiting.pop())
            .map(|(_, key)| key.to_bits())
            .collect()
    }

    #[test]
    fn a_source_with_many_stands_behind_itself() {
        let mut waiting = Waiting::default();
        for number in 0..4 {
            waiting.push(FLOOD, key(number));
        }
        waiting.push(POLITE, key(10));
        waiting.push(POLITE, key(11));
        waiting.push(None, key(20));
        assert_eq!(waiting.len(), 7);
        assert_eq!(all(&mut waiting), [0, 10, 20, 1, 11, 2, 3]);
        assert!(waiting.is_empty() && waiting.lines.is_empty());
    }

    #[test]
    fn what_is_given_back_is_next() {
        let mut waiting = Waiting::default();
        for (source, number) in [(FLOOD, 0), (FLOOD, 1), (POLITE, 10)] {
            waiting.push(source, key(number));
        }
        for _ in 0..2 {
            let (source, next) = waiting.pop().unwrap();
            waiting.push_front(source, next);
        }
        assert_eq!((waiting.len(), waiting.turns.len()), (3, 2));
        assert_eq!(all(&mut waiting), [0, 10, 1]);
        // The last one of its line, too.
        waiting.push(POLITE, key(10));
        let (source, next) = waiting.pop().unwrap();
        waiting.push_front(source, next);
        waiting.push(FLOOD, key(0));
        assert_eq!(all(&mut waiting), [10, 0]);
    }

    #[test]
    fn connections_that_have_ended_are_forgotten() {
        let mut waiting = Waiting::default();
        for (source, number) in [(FLOOD, 0), (FLOOD, 1), (POLITE, 10)] {
            waiting.push(source, key(number));
        }
        waiting.retain(|key| key.to_bits() == 1);
        assert_eq!(waiting.len(), 1);
        assert_eq!(all(&mut waiting), [1]);
    }
}
