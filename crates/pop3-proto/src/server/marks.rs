//! Which messages are marked: as deleted, or as retrieved.

use crate::MessageNumber;

/// One bit a message: 25 KB for the 200,000 messages that Debian's popa3d allows.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    words: Vec<u64>,
    marked: u32,
}

impl Marks {
    pub(super) fn new(messages: u32) -> Marks {
        Marks {
            words: vec![0; (messages as usize).div_ceil(64)],
            marked: 0,
        }
    }

    pub(super) fn is_marked(&self, number: MessageNumber) -> bool {
        let (word, bit) = place(number);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Marks a message that was not marked.
    pub(super) fn mark(&mut self, number: MessageNumber) {
        let (word, bit) = place(number);
        if let Some(word) = self.words.get_mut(word)
            && *word & bit == 0
        {
            *word |= bit;
            self.marked = self.marked.saturating_add(1);
        }
    }

    pub(super) fn clear(&mut self) {
        self.words.fill(0);
        self.marked = 0;
    }

    pub(super) fn marked(&self) -> u32 {
        self.marked
    }
}

fn place(number: MessageNumber) -> (usize, u64) {
    let index = number.index();
    (index / 64, 1u64.rotate_left((index % 64) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_counted_once_and_cleared() {
        let number = |number| MessageNumber::new(number).unwrap();
        let mut marks = Marks::new(65);
        for message in [1, 64, 65, 65] {
            marks.mark(number(message));
        }
        assert_eq!(marks.marked(), 3);
        let marked: Vec<u32> = (1..=66).filter(|n| marks.is_marked(number(*n))).collect();
        assert_eq!(marked, [1, 64, 65]);
        marks.clear();
        assert_eq!(marks.marked(), 0);
        assert!(!marks.is_marked(number(64)));
    }

    #[test]
    fn a_message_that_is_not_there_is_never_marked() {
        let mut marks = Marks::new(1);
        marks.mark(MessageNumber::new(65).unwrap());
        assert_eq!(marks.marked(), 0);
    }
}
