//! From answers to a classic BPF program: a binary search over the call's number, then its argument
//! conditions.
//!
//! Nothing here is given anything foreign: the tables are constants. For each call without
//! conditions the kernel keeps the answer in a bitmap (Linux 5.11), so what counts is the time to
//! install, and each session installs two programs: the kernel translates and compiles every
//! instruction, and runs the program once for every call there is. So the program is as short as it
//! can be: numbers with the same answer are one range, and answers are shared.

use std::collections::{BTreeMap, BTreeSet};

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W,
    sock_filter,
};

use super::{ArgRule, Deny};

/// `BPF_MAXINSNS` of the kernel.
const MAX_INSTRUCTIONS: usize = 4096;

/// `AUDIT_ARCH_*` of linux/audit.h: the calls of other architectures (32-bit ones on x86_64) have
/// other numbers.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the seccomp tables are written for x86_64 and aarch64");

/// Offsets in the kernel's `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What the filter answers to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// The usual denial.
    Deny,
    Allow,
    /// Allow if all rules of one of the alternatives hold; else this error number, or the usual denial.
    AllowIf(&'a [&'static [ArgRule]], Option<u16>),
    Errno(u16),
}

/// `None` if it would be longer than the kernel takes.
pub(super) fn compile(answers: &BTreeMap<u32, Answer<'_>>, deny: Deny) -> Option<Vec<sock_filter>> {
    let ranges = ranges(answers.keys().copied(), |number| answer_in(answers, number));
    compile_ranges(&ranges, deny)
}

/// What a filter has to say that comes to be in force beside another.
pub(super) struct Inside<'a> {
    pub(super) answers: &'a BTreeMap<u32, Answer<'a>>,
    pub(super) deny: Deny,
    pub(super) outer: &'a BTreeMap<u32, Answer<'a>>,
    pub(super) outer_deny: Deny,
}

impl<'a> Inside<'a> {
    /// `None` if it would be longer than the kernel takes.
    pub(super) fn compile(&self) -> Option<Vec<sock_filter>> {
        let listed = self.answers.keys().chain(self.outer.keys());
        let mut last = Answer::Deny;
        let ranges = ranges(listed.copied(), |number| {
            let own = answer_in(self.answers, number);
            let outer = answer_in(self.outer, number);
            // The same as to the numbers below makes one range with them.
            let shortest = [last, Answer::Allow]
                .into_iter()
                .find(|&answer| self.are_as_one(outer, answer, own));
            last = shortest.unwrap_or(own);
            last
        });
        compile_ranges(&ranges, self.deny)
    }

    /// Whether, beside `outer`, this filter may as well say `other` as `own`.
    fn are_as_one(&self, outer: Answer<'a>, other: Answer<'a>, own: Answer<'a>) -> bool {
        let together = self.together(outer, own);
        other == own || together.is_some() && self.together(outer, other) == together
    }

    /// What the kernel does when the outer filter and this one say this: the stricter, and of two error numbers that of the
    /// filter which came later (seccomp(2)). `None` where it takes more to say.
    fn together(&self, outer: Answer<'a>, own: Answer<'a>) -> Option<Answer<'a>> {
        let kills = |answer, deny| answer == Answer::Deny && deny == Deny::Kill;
        let outer = denied_as(outer, self.outer_deny);
        let own = denied_as(own, self.deny);
        match (outer, own) {
            _ if kills(outer, self.outer_deny) || kills(own, self.deny) => Some(Answer::Deny),
            (Answer::Allow, answer) | (answer, Answer::Allow) => Some(answer),
            (Answer::Errno(_), Answer::Errno(_)) => Some(own),
            (outer, own) if outer == own && self.outer_deny == self.deny => Some(own),
            _ => None,
        }
    }
}

/// A denial by an error number is that error number.
fn denied_as(answer: Answer<'_>, deny: Deny) -> Answer<'_> {
    match (answer, deny) {
        (Answer::Deny, Deny::Errno(number)) => Answer::Errno(number),
        _ => answer,
    }
}

fn answer_in<'a>(answers: &BTreeMap<u32, Answer<'a>>, number: u32) -> Answer<'a> {
    answers.get(&number).copied().unwrap_or(Answer::Deny)
}

fn compile_ranges(ranges: &[(u32, Answer<'_>)], deny: Deny) -> Option<Vec<sock_filter>> {
    let mut program = Backwards {
        instructions: Vec::new(),
        deny: match deny {
            Deny::Kill => libc::SECCOMP_RET_KILL_PROCESS,
            Deny::Errno(number) => errno(number),
        },
    };
    let search = program.search(ranges)?;
    program.go_on_at(search)?;
    let number = program.push(load(NUMBER));
    let foreign = program.ret(libc::SECCOMP_RET_KILL_PROCESS);
    program.branch(BPF_JEQ, ARCHITECTURE, number, foreign)?;
    program.push(load(ARCH));
    program.finish()
}

/// The answers to all numbers there are: each from its number on, up to the next one's. `answer` is asked about the listed
/// numbers and the first of each gap between them, in their order.
fn ranges<'a>(
    listed: impl Iterator<Item = u32>,
    mut answer: impl FnMut(u32) -> Answer<'a>,
) -> Vec<(u32, Answer<'a>)> {
    let firsts = listed.flat_map(|number| [Some(number), number.checked_add(1)]);
    let firsts: BTreeSet<u32> = firsts.flatten().chain([0]).collect();
    let mut ranges: Vec<_> = firsts
        .into_iter()
        .map(|first| (first, answer(first)))
        .collect();
    ranges.dedup_by_key(|(_, answer)| *answer);
    ranges
}

/// A program under construction, its last instruction first: jumps go forward only, so that whatever one leads to is there
/// already.
struct Backwards {
    instructions: Vec<sock_filter>,
    /// What is returned where nothing else is said.
    deny: u32,
}

/// An instruction, by its number from the end.
type Label = usize;

/// How far a conditional jump is let reach. The kernel's limit is 255; two jumps may have to be put in between.
const MAX_REACH: usize = 250;

impl Backwards {
    /// Finds the answer to the call whose number is in the accumulator. Each range goes up to the next one's first number.
    fn search(&mut self, ranges: &[(u32, Answer<'_>)]) -> Option<Label> {
        if let [(_, answer)] = ranges {
            return self.reply(*answer);
        }
        let (lower, upper) = ranges.split_at(ranges.len().div_euclid(2));
        let (first_of_upper, _) = upper.first()?;
        let upper = self.search(upper)?;
        let lower = self.search(lower)?;
        self.branch(BPF_JGE, *first_of_upper, upper, lower)
    }

    /// What follows once the call's number is known.
    fn reply(&mut self, answer: Answer<'_>) -> Option<Label> {
        let (alternatives, otherwise) = match answer {
            Answer::Deny => return Some(self.ret(self.deny)),
            Answer::Allow => return Some(self.ret(libc::SECCOMP_RET_ALLOW)),
            Answer::Errno(number) => return Some(self.ret(errno(number))),
            Answer::AllowIf(alternatives, otherwise) => (alternatives, otherwise),
        };
        let denied = self.ret(otherwise.map_or(self.deny, errno));
        let mut alternatives = alternatives.iter().rev();
        alternatives.try_fold(denied, |otherwise, rules| self.all_hold(rules, otherwise))
    }

    /// Allows if all rules hold, else goes on at `otherwise`.
    fn all_hold(&mut self, rules: &[ArgRule], otherwise: Label) -> Option<Label> {
        let allowed = self.ret(libc::SECCOMP_RET_ALLOW);
        rules.iter().rev().try_fold(allowed, |then, rule| {
            let (equal, different) = match rule.equal {
                true => (then, otherwise),
                false => (otherwise, then),
            };
            self.branch(BPF_JEQ, rule.value, equal, different)?;
            if rule.mask != u32::MAX {
                self.push(instruction(BPF_ALU | BPF_AND | BPF_K, rule.mask));
            }
            Some(self.push(load(argument(rule.index))))
        })
    }

    /// Returns an action: by an instruction that is in reach, or by one more.
    fn ret(&mut self, action: u32) -> Label {
        let ret = instruction(BPF_RET | BPF_K, action);
        let same = |other: &sock_filter| (other.code, other.k) == (ret.code, ret.k);
        let found = self.instructions.iter().rposition(same);
        let in_reach = |label: &Label| self.distance(*label).is_some_and(|far| far < MAX_REACH);
        found.filter(in_reach).unwrap_or_else(|| self.push(ret))
    }

    /// Compares the accumulator with `value`.
    fn branch(&mut self, kind: u32, value: u32, then: Label, otherwise: Label) -> Option<Label> {
        let then = self.within_reach(then)?;
        let otherwise = self.within_reach(otherwise)?;
        let (then, otherwise) = (self.distance(then)?, self.distance(otherwise)?);
        Some(self.push(sock_filter {
            jt: u8::try_from(then).ok()?,
            jf: u8::try_from(otherwise).ok()?,
            ..instruction(BPF_JMP | kind | BPF_K, value)
        }))
    }

    /// The same place, or an unconditional jump to it, which reaches everywhere.
    fn within_reach(&mut self, label: Label) -> Option<Label> {
        match self.distance(label)? {
            ..MAX_REACH => Some(label),
            _ => self.jump(label),
        }
    }

    /// Sees to it that what comes next in the making goes on at `label`.
    fn go_on_at(&mut self, label: Label) -> Option<Label> {
        match self.distance(label)? {
            0 => Some(label),
            _ => self.jump(label),
        }
    }

    fn jump(&mut self, label: Label) -> Option<Label> {
        let distance = u32::try_from(self.distance(label)?).ok()?;
        Some(self.push(instruction(BPF_JMP | BPF_JA, distance)))
    }

    /// How many instructions lie between the next one in the making and `label`.
    fn distance(&self, label: Label) -> Option<usize> {
        self.instructions.len().checked_sub(1)?.checked_sub(label)
    }

    fn push(&mut self, instruction: sock_filter) -> Label {
        self.instructions.push(instruction);
        self.instructions.len().saturating_sub(1)
    }

    fn finish(mut self) -> Option<Vec<sock_filter>> {
        self.instructions.reverse();
        (self.instructions.len() <= MAX_INSTRUCTIONS).then_some(self.instructions)
    }
}

/// Where the lower half of an argument lies; both architectures are little-endian.
fn argument(index: u8) -> u32 {
    ARGUMENTS.saturating_add(u32::from(index).saturating_mul(8))
}

fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, offset)
}

/// A call fails with this number.
fn errno(number: u16) -> u32 {
    libc::SECCOMP_RET_ERRNO | u32::from(number)
}

fn instruction(code: u32, value: u32) -> sock_filter {
    // All codes are below 256.
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k: value,
    }
}

#[cfg(test)]
mod tests {
    use libc::{SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS};
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::super::{
        Allow, BASE, CONFINE, FORK, IDENTITY, MESSAGES, PANIC, PROBES, Policy, REFUSED,
    };
    use super::*;

    /// What the kernel would answer: classic BPF as far as these programs use it, over `struct
    /// seccomp_data`.
    fn answer(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(arch.to_le_bytes());
        data.extend(0_u64.to_le_bytes());
        arguments
            .iter()
            .for_each(|argument| data.extend(argument.to_le_bytes()));
        let (mut accumulator, mut at) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let jump = |condition| usize::from(if condition { jt } else { jf });
            let code = u32::from(code);
            if code == BPF_LD | BPF_W | BPF_ABS {
                let octets = &data[k as usize..k as usize + 4];
                accumulator = u32::from_le_bytes(octets.try_into().unwrap());
            } else if code == BPF_ALU | BPF_AND | BPF_K {
                accumulator &= k;
            } else if code == BPF_JMP | BPF_JEQ | BPF_K {
                at += jump(accumulator == k);
            } else if code == BPF_JMP | BPF_JGE | BPF_K {
                at += jump(accumulator >= k);
            } else if code == BPF_JMP | BPF_JA | BPF_K {
                at += k as usize;
            } else {
                assert_eq!(code, BPF_RET | BPF_K);
                return k;
            }
        }
    }

    const NO_SYSTEM_CALL: u32 = 600;

    fn filter(tables: &[&[Allow]], deny: Deny) -> Vec<sock_filter> {
        Policy::new("test", tables)
            .otherwise(deny)
            .compile()
            .unwrap()
            .filter
    }

    #[test]
    fn every_call_is_answered_as_the_tables_say() {
        let all: &[&[Allow]] = &[BASE, PANIC, MESSAGES, FORK, IDENTITY, CONFINE];
        for split in 0..=all.len() {
            let tables = &all[..split];
            let program = filter(tables, Deny::Kill);
            let rows: Vec<&Allow> = tables.iter().copied().flatten().collect();
            for number in 0..NO_SYSTEM_CALL {
                let of_call = |row: &&Allow| row.syscall == libc::c_long::from(number);
                // With arguments that no condition of the tables allows.
                let unconditional = rows
                    .iter()
                    .any(|row| of_call(row) && row.arguments.is_empty());
                let probe = PROBES.iter().any(|row| of_call(&row));
                let refused = REFUSED.iter().any(|row| of_call(&row));
                let expected = match (unconditional, refused, probe) {
                    (true, _, _) => SECCOMP_RET_ALLOW,
                    (false, true, _) => SECCOMP_RET_ERRNO | libc::EPERM as u32,
                    (false, false, true) => SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
                    _ => SECCOMP_RET_KILL_PROCESS,
                };
                let excludes_zero = rows
                    .iter()
                    .filter(|row| of_call(row))
                    .any(|row| row.arguments.iter().any(|rule| !rule.equal));
                let arguments = [if excludes_zero { 0 } else { u64::MAX }; 6];
                let found = answer(&program, ARCHITECTURE, number, arguments);
                assert_eq!(found, expected, "call {number} with {split} tables");
            }
        }
    }

    #[test]
    fn other_architectures_and_number_spaces_are_killed() {
        let program = filter(&[BASE], Deny::Errno(1));
        for number in 0..NO_SYSTEM_CALL {
            // i386, arm, and x86_64 without the 64-bit flag.
            for arch in [0x4000_0003, 0x4000_0028, 0x0000_003E, 0] {
                assert_eq!(
                    answer(&program, arch, number, [0; 6]),
                    SECCOMP_RET_KILL_PROCESS
                );
            }
            // The x32 interface of x86_64.
            let found = answer(&program, ARCHITECTURE, number | 0x4000_0000, [0; 6]);
            assert_eq!(found, SECCOMP_RET_ERRNO | 1);
        }
    }

    #[test]
    fn conditions_must_all_hold_and_rows_are_alternatives() {
        const TABLE: &[Allow] = &[
            Allow::when(7, &[ArgRule::is(1, 5), ArgRule::without(2, 4)], "both"),
            Allow::when(7, &[ArgRule::bits(5, 0xF0, 0x30)], "or this"),
            Allow::when(8, &[ArgRule::is(0, -1)], "an int"),
        ];
        let program = filter(&[TABLE], Deny::Kill);
        let allowed = |number, arguments| {
            answer(&program, ARCHITECTURE, number, arguments) == SECCOMP_RET_ALLOW
        };
        assert!(allowed(7, [9, 5, 3, 9, 9, 9]));
        assert!(allowed(7, [9, 5, 0xFFFF_FFFB, 9, 9, 9]));
        assert!(!allowed(7, [9, 5, 4, 9, 9, 9]));
        assert!(!allowed(7, [9, 6, 3, 9, 9, 9]));
        assert!(allowed(7, [9, 6, 4, 9, 9, 0x3F]));
        assert!(!allowed(7, [9, 6, 4, 9, 9, 0x4F]));
        // The upper half of a register is no part of an int, whatever a caller left there.
        assert!(allowed(8, [u64::MAX, 0, 0, 0, 0, 0]));
        assert!(allowed(8, [0xFFFF_FFFF, 0, 0, 0, 0, 0]));
        assert!(!allowed(8, [1, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn a_listed_call_is_no_probe_any_more() {
        const TABLE: &[Allow] = &[Allow::any(libc::SYS_statx, "file times")];
        let number = u32::try_from(libc::SYS_statx).unwrap();
        let with = answer(&filter(&[TABLE], Deny::Kill), ARCHITECTURE, number, [0; 6]);
        let without = answer(&filter(&[], Deny::Kill), ARCHITECTURE, number, [0; 6]);
        assert_eq!(with, SECCOMP_RET_ALLOW);
        assert_eq!(without, SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
    }

    #[test]
    fn every_row_says_why() {
        for table in [BASE, PANIC, MESSAGES, FORK, IDENTITY, CONFINE, PROBES] {
            assert!(table.iter().all(|row| !row.reason.is_empty()));
        }
    }

    #[test]
    fn a_long_program_answers_like_a_short_one() {
        const RULES: &[&[ArgRule]] = &[&[ArgRule::is(0, 7)], &[ArgRule::is_not(1, 0)]];
        let answers: BTreeMap<u32, Answer<'_>> = (0..900)
            .map(|number| match number % 5 {
                0 => (number, Answer::Allow),
                1 => (number, Answer::Errno(38)),
                2 => (number, Answer::AllowIf(RULES, Some(1))),
                3 => (number, Answer::AllowIf(RULES, None)),
                _ => (number, Answer::Deny),
            })
            .collect();
        let program = compile(&answers, Deny::Kill).unwrap();
        assert!(program.len() > 4 * 255);
        for number in 0..1000 {
            let answer = |arguments| answer(&program, ARCHITECTURE, number, arguments);
            let (allowed, denied) = match (number, number % 5) {
                (900.., _) | (_, 4) => (SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_PROCESS),
                (_, 0) => (SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW),
                (_, 1) => (SECCOMP_RET_ERRNO | 38, SECCOMP_RET_ERRNO | 38),
                (_, 2) => (SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | 1),
                _ => (SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS),
            };
            assert_eq!(answer([7, 0, 0, 0, 0, 0]), allowed, "{number}");
            assert_eq!(answer([0, 3, 0, 0, 0, 0]), allowed, "{number}");
            assert_eq!(answer([0; 6]), denied, "{number}");
        }
    }

    /// What the kernel makes of an older filter's answer and a newer one's.
    fn stricter(older: u32, newer: u32) -> u32 {
        let rank = |answer| match answer & 0xFFFF_0000 {
            SECCOMP_RET_KILL_PROCESS => 0,
            SECCOMP_RET_ERRNO => 1,
            _ => 2,
        };
        if rank(older) < rank(newer) {
            older
        } else {
            newer
        }
    }

    proptest! {
        #[test]
        fn inside_another_filter_a_shorter_one_does_the_same(
            inner in proptest::collection::btree_map(0..24_u32, 0..5_usize, 0..24),
            outer in proptest::collection::btree_map(0..24_u32, 0..5_usize, 0..24),
            denials in proptest::collection::vec(0..3_usize, 2),
        ) {
            const THIS: &[&[ArgRule]] = &[&[ArgRule::is(0, 7)]];
            const THAT: &[&[ArgRule]] = &[&[ArgRule::is_not(1, 0)]];
            let kinds = [
                Answer::Allow,
                Answer::Errno(1),
                Answer::Errno(38),
                Answer::AllowIf(THIS, None),
                Answer::AllowIf(THAT, Some(1)),
            ];
            let denials: Vec<Deny> = denials
                .into_iter()
                .map(|kind| [Deny::Kill, Deny::Kill, Deny::Errno(1)][kind])
                .collect();
            let of = |map: BTreeMap<u32, usize>| -> BTreeMap<u32, Answer<'_>> {
                map.into_iter().map(|(number, kind)| (number, kinds[kind])).collect()
            };
            let (answers, outer) = (&of(inner), &of(outer));
            let (deny, outer_deny) = (denials[0], denials[1]);
            let around = compile(outer, outer_deny).unwrap();
            let alone = compile(answers, deny).unwrap();
            let inside = Inside { answers, deny, outer, outer_deny }.compile().unwrap();
            for number in 0..26 {
                for arguments in [[7, 0, 0, 0, 0, 0], [0, 3, 0, 0, 0, 0], [7, 3, 0, 0, 0, 0], [0; 6]] {
                    let says = |program: &[_]| answer(program, ARCHITECTURE, number, arguments);
                    prop_assert_eq!(
                        stricter(says(&around), says(&inside)),
                        stricter(says(&around), says(&alone)),
                        "call {} with {:?}", number, arguments
                    );
                }
            }
        }
    }

    #[test]
    fn too_long_a_table_is_refused() {
        let every_other = (0..3000).map(|number| 2 * number);
        let answers = every_other.map(|number| (number, Answer::Allow)).collect();
        assert!(compile(&answers, Deny::Kill).is_none());
    }
}
