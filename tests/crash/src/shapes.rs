//! The mailboxes that UPDATE is interrupted in, and what is deleted in each.

use system_tests::random::Random;

/// A mailbox and what is done to it.
#[derive(Clone, Debug)]
pub struct Shape {
    /// For reports.
    pub name: &'static str,
    /// The messages, each with its `From ` line.
    pub messages: Vec<Vec<u8>>,
    /// Indexes of those that are deleted, ascending.
    pub deleted: Vec<usize>,
    /// What is delivered between the opening of the mailbox and UPDATE.
    pub early: Vec<u8>,
}

impl Shape {
    /// The mailbox before.
    pub fn before(&self) -> Vec<u8> {
        [self.messages.concat(), self.early.clone()].concat()
    }

    /// The mailbox when the deleted messages are gone.
    pub fn after(&self) -> Vec<u8> {
        let kept = |(index, message): (usize, &Vec<u8>)| {
            let kept = !self.deleted.contains(&index);
            kept.then(|| message.clone())
        };
        let kept: Vec<Vec<u8>> = self.messages.iter().enumerate().filter_map(kept).collect();
        [kept.concat(), self.early.clone()].concat()
    }
}

/// A message with about this many octets.
pub fn message(name: &str, octets: usize) -> Vec<u8> {
    let mut random = Random::new(octets as u64);
    let mut text = format!(
        "From {name}@example.org Mon Jan  1 00:00:00 2024\nMessage-ID: <{name}@example.org>\nSubject: {name}\n\n"
    );
    let mut line = 0_u32;
    while text.len() + 2 < octets {
        text += &format!("{name} {line:06} {:016x}\n", random.bits());
        line += 1;
    }
    text.push('\n');
    text.into_bytes()
}

/// All thirteen.
pub fn all() -> Vec<Shape> {
    let mut random = Random::new(1);
    let mut mixed = |count: usize, most: usize| -> Vec<Vec<u8>> {
        (0..count)
            .map(|number| {
                let octets = match random.below(4) {
                    0 => 300,
                    1 => 1_200,
                    2 => most / 4,
                    _ => 300 + random.below(most),
                };
                message(&format!("m{number}"), octets)
            })
            .collect()
    };
    let shape = |name, messages: Vec<Vec<u8>>, deleted: &[usize]| Shape {
        name,
        messages,
        deleted: deleted.to_vec(),
        early: Vec::new(),
    };
    let every = |step: usize, count: usize| (0..count).step_by(step).collect::<Vec<_>>();
    let small = mixed(20, 8_000);
    let octets_of_all_kinds = {
        let mut octets: Vec<u8> = (0..=255).collect();
        octets.retain(|&octet| octet != b'\n');
        let text = [
            &b"From x\n\n\0\0\0\0"[..],
            &octets,
            b"\n\0\n>From x\n.\n\n\n",
        ]
        .concat();
        vec![text.clone(), b"From y\n\n".to_vec(), text.repeat(3), text]
    };
    let mut late = shape("mail that comes before QUIT", small.clone(), &[0, 5, 6]);
    late.early = [message("early", 2_000), message("other", 90)].concat();
    vec![
        shape("every other one of 20", small.clone(), &every(2, 20)),
        shape("the first", small.clone(), &[0]),
        shape("the last", small.clone(), &[19]),
        shape("all", small.clone(), &every(1, 20)),
        shape(
            "some of 40",
            mixed(40, 16_000),
            &[3, 4, 5, 11, 17, 18, 30, 39],
        ),
        shape(
            "a small one before a large one",
            vec![message("small", 150), message("large", 300_000)],
            &[0],
        ),
        shape(
            "a large one before small ones",
            [vec![message("large", 300_000)], mixed(10, 2_000)].concat(),
            &[0],
        ),
        shape(
            "every other one of 300 tiny ones",
            (0..300)
                .map(|number| message(&format!("{number}"), 0))
                .collect(),
            &every(2, 300),
        ),
        shape(
            "one of 8 octets, among all octets there are",
            octets_of_all_kinds,
            &[1],
        ),
        shape(
            "the last without a line's end",
            vec![
                message("a", 700),
                message("b", 6_000),
                b"From c\nX: y\n\nno end".to_vec(),
            ],
            &[0],
        ),
        shape(
            "the same message many times",
            vec![message("same", 4_096); 12],
            &[1, 2, 5, 8],
        ),
        // The new end is where the one that is moved comes from.
        shape(
            "one before another of its length",
            vec![message("a", 600), message("b", 600)],
            &[0],
        ),
        late,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_thirteen_and_each_loses_what_is_deleted() {
        let shapes = all();
        assert_eq!(shapes.len(), 13);
        for shape in shapes {
            let deleted: usize = shape
                .deleted
                .iter()
                .map(|&at| shape.messages[at].len())
                .sum();
            assert!(deleted > 0);
            assert_eq!(
                shape.after().len() + deleted,
                shape.before().len(),
                "{}",
                shape.name
            );
        }
    }
}
