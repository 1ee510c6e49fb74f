//! From answers to a classic BPF program: a binary search over the call's number, then its argument
//! conditions.
//!
//! Nothing here is given anything foreign: the tables are constants. For each call without
//! conditions the kernel keeps the answer in a bitmap (Linux 5.11), so what counts is the time to
//! install: it runs the filter once for every call there is.

use std::collections::BTreeMap;

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
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer<'a> {
    Allow,
    /// Allow if all rules of one of the alternatives hold; else this error number, or the usual denial.
    AllowIf(&'a [&'static [ArgRule]], Option<u16>),
    Errno(u16),
}

/// `None` if it would be longer than the kernel takes.
pub(super) fn compile(answers: &BTreeMap<u32, Answer<'_>>, deny: Deny) -> Option<Vec<sock_filter>> {
    let deny = match deny {
        Deny::Kill => ret(libc::SECCOMP_RET_KILL_PROCESS),
        Deny::Errno(number) => ret_errno(number),
    };
    let answers: Vec<(u32, Answer<'_>)> = answers
        .iter()
        .map(|(&number, &answer)| (number, answer))
        .collect();
    let mut program = vec![
        load(ARCH),
        jump(BPF_JEQ, ARCHITECTURE, 1, 0),
        ret(libc::SECCOMP_RET_KILL_PROCESS),
        load(NUMBER),
    ];
    program.extend(search(&answers, deny)?);
    (program.len() <= MAX_INSTRUCTIONS).then_some(program)
}

/// Finds the call's number among these and answers.
fn search(answers: &[(u32, Answer<'_>)], deny: sock_filter) -> Option<Vec<sock_filter>> {
    if answers.is_empty() {
        return Some(vec![deny]);
    }
    if let [(number, answer)] = answers {
        let then = reply(*answer, deny)?;
        let mut program = vec![jump(BPF_JEQ, *number, 0, u8::try_from(then.len()).ok()?)];
        program.extend(then);
        program.push(deny);
        return Some(program);
    }
    let (lower, upper) = answers.split_at(answers.len().div_euclid(2));
    let (first_of_upper, _) = upper.first()?;
    let lower = search(lower, deny)?;
    let upper = search(upper, deny)?;
    // Conditional jumps reach 255 instructions only, so they jump over an unconditional one.
    let mut program = vec![
        jump(BPF_JGE, *first_of_upper, 0, 1),
        jump(BPF_JA, u32::try_from(lower.len()).ok()?, 0, 0),
    ];
    program.extend(lower);
    program.extend(upper);
    Some(program)
}

/// What follows once the call's number is known.
fn reply(answer: Answer<'_>, deny: sock_filter) -> Option<Vec<sock_filter>> {
    let (alternatives, otherwise) = match answer {
        Answer::Allow => return Some(vec![ret(libc::SECCOMP_RET_ALLOW)]),
        Answer::Errno(number) => return Some(vec![ret_errno(number)]),
        Answer::AllowIf(alternatives, otherwise) => (alternatives, otherwise),
    };
    let mut program = Vec::new();
    for rules in alternatives {
        program.extend(all_hold(rules)?);
    }
    program.push(otherwise.map_or(deny, ret_errno));
    Some(program)
}

/// Allows if all rules hold, else goes on behind.
fn all_hold(rules: &[ArgRule]) -> Option<Vec<sock_filter>> {
    let mut program = vec![ret(libc::SECCOMP_RET_ALLOW)];
    // From the last to the first, as each must know how far it is to the end.
    for rule in rules.iter().rev() {
        let to_end = u8::try_from(program.len()).ok()?;
        let mut test = vec![load(argument(rule.index))];
        if rule.mask != u32::MAX {
            test.push(instruction(BPF_ALU | BPF_AND | BPF_K, rule.mask, 0, 0));
        }
        let (then, otherwise) = if rule.equal { (0, to_end) } else { (to_end, 0) };
        test.push(jump(BPF_JEQ, rule.value, then, otherwise));
        test.append(&mut program);
        program = test;
    }
    Some(program)
}

/// Where the lower half of an argument lies; both architectures are little-endian.
fn argument(index: u8) -> u32 {
    ARGUMENTS.saturating_add(u32::from(index).saturating_mul(8))
}

fn load(offset: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0)
}

fn jump(kind: u32, value: u32, then: u8, otherwise: u8) -> sock_filter {
    instruction(BPF_JMP | kind | BPF_K, value, then, otherwise)
}

fn ret(action: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, action, 0, 0)
}

fn ret_errno(number: u16) -> sock_filter {
    ret(libc::SECCOMP_RET_ERRNO | u32::from(number))
}

fn instruction(code: u32, value: u32, then: u8, otherwise: u8) -> sock_filter {
    // All codes are below 256.
    sock_filter {
        code: code as u16,
        jt: then,
        jf: otherwise,
        k: value,
    }
}

#[cfg(test)]
mod tests {
    use libc::{SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS};

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
    fn too_long_a_table_is_refused() {
        let answers = (0..3000).map(|number| (number, Answer::Allow)).collect();
        assert!(compile(&answers, Deny::Kill).is_none());
    }
}
