//! From answers to a classic BPF program: a binary search over the call's number, then its argument conditions.
//!
//! Nothing here is given anything foreign: the tables are constants. For each call without conditions the kernel keeps the
//! answer in a bitmap (Linux 5.11), so what counts is the time to install: it runs the filter once for every call there is.

use std::collections::BTreeMap;

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W,
    sock_filter,
};

use super::{ArgRule, Deny};

/// `BPF_MAXINSNS` of the kernel.
const MAX_INSTRUCTIONS: usize = 4096;

/// `AUDIT_ARCH_*` of linux/audit.h: the calls of other architectures (32-bit ones on x86_64) have other numbers.
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
    /// Allow if all rules of one of the alternatives hold.
    AllowIf(&'a [&'static [ArgRule]]),
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
    let alternatives = match answer {
        Answer::Allow => return Some(vec![ret(libc::SECCOMP_RET_ALLOW)]),
        Answer::Errno(number) => return Some(vec![ret_errno(number)]),
        Answer::AllowIf(alternatives) => alternatives,
    };
    let mut program = Vec::new();
    for rules in alternatives {
        program.extend(all_hold(rules)?);
    }
    program.push(deny);
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
        test.push(jump(BPF_JEQ, rule.value, 0, to_end));
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
