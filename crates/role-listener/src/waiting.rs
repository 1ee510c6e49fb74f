//! Connections in line for the session spawner, the sources by turns: a flood from one address stands behind itself. Every other turn
//! is that of the source that has had fewest connections lately, so that a client from elsewhere need not wait until each of a
//! hundred addresses has had one served either; the turns between are in the order in which they came, so that nobody waits for
//! ever.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::slots::Key;
use crate::source::Source;

/// Whose turn it is: a source, or all that have no address.
type Line = Option<Source>;

/// One line; never empty.
#[derive(Debug)]
struct Queue {
    keys: VecDeque<Key>,
    /// Connections that the source had lately when the last one came.
    weight: u32,
    /// The number of its turn.
    turn: u64,
}

/// The lines of all sources. Entries may outlive their connections; see [`Waiting::retain`].
#[derive(Debug, Default)]
pub struct Waiting {
    lines: HashMap<Line, Queue>,
    /// Every line once, by its turn.
    turns: BTreeSet<(u64, Line)>,
    /// Every line once, by its weight, then by its turn.
    weights: BTreeSet<(u32, u64, Line)>,
    next_turn: u64,
    /// The next turn is the lightest line's.
    is_lightest: bool,
    /// Given back, and next whatever the turns are.
    returned: Option<(Line, Key)>,
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

    /// Puts a connection at the end of its source's line; the source has had so many connections lately.
    pub fn push(&mut self, source: Line, key: Key, weight: u32) {
        let (mut keys, mut turn) = (VecDeque::new(), None);
        if let Some(queue) = self.take(source) {
            (keys, turn) = (queue.keys, Some(queue.turn));
        }
        keys.push_back(key);
        let turn = turn.unwrap_or_else(|| self.last_turn());
        self.put(source, Queue { keys, weight, turn });
        self.len = self.len.saturating_add(1);
    }

    /// The next connection, and its source; the turn goes to another source.
    pub fn pop(&mut self) -> Option<(Line, Key)> {
        let next = match self.returned.take() {
            Some(returned) => returned,
            None => self.pop_in_turn()?,
        };
        self.len = self.len.saturating_sub(1);
        Some(next)
    }

    fn pop_in_turn(&mut self) -> Option<(Line, Key)> {
        self.is_lightest = !self.is_lightest;
        let source = if self.is_lightest {
            self.weights.first().map(|&(_, _, source)| source)
        } else {
            self.turns.first().map(|&(_, source)| source)
        }?;
        let mut queue = self.take(source)?;
        let key = queue.keys.pop_front()?;
        if !queue.keys.is_empty() {
            queue.turn = self.last_turn();
            self.put(source, queue);
        }
        Some((source, key))
    }

    /// Gives back what [`Waiting::pop`] gave last: its turn has not been.
    pub fn push_front(&mut self, source: Line, key: Key) {
        if let Some((source, key)) = self.returned.replace((source, key)) {
            // Nobody gives back two.
            self.len = self.len.saturating_sub(1);
            self.push(source, key, 0);
        }
        self.len = self.len.saturating_add(1);
    }

    /// Forgets the connections that `keep` does not want.
    pub fn retain(&mut self, mut keep: impl FnMut(Key) -> bool) {
        self.returned = self.returned.filter(|&(_, key)| keep(key));
        self.lines.retain(|_, queue| {
            queue.keys.retain(|&key| keep(key));
            !queue.keys.is_empty()
        });
        let lines = &self.lines;
        self.turns.retain(|(_, source)| lines.contains_key(source));
        self.weights
            .retain(|(_, _, source)| lines.contains_key(source));
        let in_lines: usize = lines.values().map(|queue| queue.keys.len()).sum();
        self.len = in_lines.saturating_add(self.returned.iter().count());
    }

    fn last_turn(&mut self) -> u64 {
        self.next_turn = self.next_turn.wrapping_add(1);
        self.next_turn
    }

    fn take(&mut self, source: Line) -> Option<Queue> {
        let queue = self.lines.remove(&source)?;
        self.turns.remove(&(queue.turn, source));
        self.weights.remove(&(queue.weight, queue.turn, source));
        Some(queue)
    }

    fn put(&mut self, source: Line, queue: Queue) {
        self.turns.insert((queue.turn, source));
        self.weights.insert((queue.weight, queue.turn, source));
        self.lines.insert(source, queue);
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

    fn assert_nothing_left(waiting: &Waiting) {
        assert!(waiting.is_empty() && waiting.lines.is_empty());
        assert!(waiting.turns.is_empty() && waiting.weights.is_empty());
    }

    #[test]
    fn a_source_with_many_stands_behind_itself() {
        let mut waiting = Waiting::default();
        for number in 0..4 {
            waiting.push(FLOOD, key(number), 1);
        }
        waiting.push(POLITE, key(10), 1);
        waiting.push(POLITE, key(11), 1);
        waiting.push(None, key(20), 1);
        assert_eq!(waiting.len(), 7);
        assert_eq!(all(&mut waiting), [0, 10, 20, 1, 11, 2, 3]);
        assert_nothing_left(&waiting);
    }

    #[test]
    fn who_has_had_few_connections_waits_for_one_other_at_most() {
        let mut waiting = Waiting::default();
        for number in 0..300 {
            let attacker = Some(Source::V4(1000 + number as u32 % 100));
            waiting.push(attacker, key(number), 3);
        }
        for turn in 0..10 {
            let _flood = waiting.pop().unwrap();
            // It comes at any time.
            let polite = Some(Source::V4(turn));
            waiting.push(polite, key(1000), 1);
            let next = [waiting.pop(), waiting.pop()].map(|next| next.unwrap().0);
            assert!(next.contains(&polite), "{next:?}");
        }
    }

    #[test]
    fn who_has_had_many_connections_does_not_wait_for_ever() {
        let mut waiting = Waiting::default();
        waiting.push(FLOOD, key(1), 50);
        let mut newcomers = 100..;
        let waited = (0..10).find(|_| {
            for number in newcomers.by_ref().take(2) {
                waiting.push(Some(Source::V4(number)), key(number.into()), 1);
            }
            waiting.pop().unwrap().0 == FLOOD
        });
        assert!(waited.is_some(), "ten turns");
    }

    #[test]
    fn what_is_given_back_is_next() {
        let mut waiting = Waiting::default();
        for (source, number) in [(FLOOD, 0), (FLOOD, 1), (POLITE, 10)] {
            waiting.push(source, key(number), 1);
        }
        for _ in 0..2 {
            let (source, next) = waiting.pop().unwrap();
            waiting.push_front(source, next);
        }
        assert_eq!(waiting.len(), 3);
        assert_eq!(all(&mut waiting), [0, 10, 1]);
        // The last one of its line, too.
        waiting.push(POLITE, key(10), 1);
        let (source, next) = waiting.pop().unwrap();
        waiting.push_front(source, next);
        waiting.push(FLOOD, key(0), 0);
        assert_eq!(all(&mut waiting), [10, 0]);
        assert_nothing_left(&waiting);
    }

    #[test]
    fn connections_that_have_ended_are_forgotten() {
        let mut waiting = Waiting::default();
        for (source, number) in [(FLOOD, 0), (FLOOD, 1), (POLITE, 10)] {
            waiting.push(source, key(number), 1);
        }
        let (source, next) = waiting.pop().unwrap();
        waiting.push_front(source, next);
        waiting.retain(|key| key.to_bits() == 1);
        assert_eq!(waiting.len(), 1);
        assert_eq!(all(&mut waiting), [1]);
        assert_nothing_left(&waiting);
    }
}
