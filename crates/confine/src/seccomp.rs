//! seccomp allow lists, written as tables and compiled to one small filter.
//!
//! A role's tables stand in its own crate, on top of [`BASE`] and what else of [`tables`] it needs;
//! every row says why. The program is compiled once, by whoever forks, and installed by
//! [`Sandbox`](crate::sandbox::Sandbox) in the child. What is not listed kills the process, except
//! probes, which are answered as by an older kernel, and what is asked in order to be refused.
//!
//! The filter is compiled here and not by a crate: it needs three answers (allow, kill, `ENOSYS`)
//! where seccompiler has two, and a tree where that has a chain. What a filter answers to every
//! call is tested against an interpreter.

use std::collections::BTreeMap;
use std::io;

use crate::error::ConfineError;
use crate::sys;

mod bpf;
pub mod tables;

pub use tables::{
    BASE, CONFINE, FORK, IDENTITY, MESSAGES, NAME_SERVICES, NAME_SPACES, PANIC, PROBES, REFUSED,
};

/// A system call that a role may make, and why.
#[derive(Clone, Copy, Debug)]
pub struct Allow {
    /// One of libc's `SYS_*`.
    pub syscall: libc::c_long,
    /// All of these must hold. Several rows for one call are alternatives.
    pub arguments: &'static [ArgRule],
    /// What the role needs it for.
    pub reason: &'static str,
}

impl Allow {
    /// The call with any arguments.
    pub const fn any(syscall: libc::c_long, reason: &'static str) -> Self {
        Self::when(syscall, &[], reason)
    }

    /// The call where all of `arguments` hold.
    pub const fn when(
        syscall: libc::c_long,
        arguments: &'static [ArgRule],
        reason: &'static str,
    ) -> Self {
        Self {
            syscall,
            arguments,
            reason,
        }
    }
}

/// A condition on one argument: on its lower 32 bits, which are all of a C `int`. Not for pointers,
/// whose target a filter cannot see anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArgRule {
    index: u8,
    mask: u32,
    value: u32,
    /// The masked argument is the value, or is not.
    equal: bool,
}

impl ArgRule {
    /// Argument `index` (0 to 5) is `value`.
    pub const fn is(index: u8, value: libc::c_int) -> Self {
        Self::bits(index, u32::MAX, value as u32)
    }

    /// Argument `index` (0 to 5) is anything but `value`.
    pub const fn is_not(index: u8, value: libc::c_int) -> Self {
        Self {
            equal: false,
            ..Self::is(index, value)
        }
    }

    /// None of `bits` is set in argument `index` (0 to 5).
    pub const fn without(index: u8, bits: libc::c_int) -> Self {
        Self::bits(index, bits as u32, 0)
    }

    /// Of argument `index` (0 to 5), the bits of `mask` are those of `value`.
    pub const fn bits(index: u8, mask: u32, value: u32) -> Self {
        assert!(index <= 5 && value & !mask == 0);
        Self {
            index,
            mask,
            value,
            equal: true,
        }
    }
}

/// What happens on a call that is not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deny {
    /// The process dies by SIGSYS.
    Kill,
    /// The call fails with this number: where foreign code runs that tries what it can do without, such as PAM's modules.
    Errno(u16),
}

/// What one role may do.
#[derive(Clone, Debug)]
pub struct Policy {
    name: &'static str,
    rules: BTreeMap<u32, Vec<&'static [ArgRule]>>,
    deny: Deny,
}

impl Policy {
    /// The union of some tables. `name` is the role's, for error messages.
    pub fn new(name: &'static str, tables: &[&[Allow]]) -> Self {
        let mut rules: BTreeMap<u32, Vec<&'static [ArgRule]>> = BTreeMap::new();
        for row in tables.iter().copied().flatten() {
            // No kernel has negative numbers; libc has one for a call that an architecture lacks
            // nowhere.
            if let Ok(number) = u32::try_from(row.syscall) {
                rules.entry(number).or_default().push(row.arguments);
            }
        }
        Self {
            name,
            rules,
            deny: Deny::Kill,
        }
    }

    /// The same with another answer to what is not listed.
    pub fn otherwise(self, deny: Deny) -> Self {
        Self { deny, ..self }
    }

    /// The filter. A millisecond at most, and no system call.
    ///
    /// # Errors
    /// The tables are too long for the kernel (4,096 instructions; the longest role has a tenth of
    /// that).
    pub fn compile(&self) -> Result<Program, ConfineError> {
        self.program(bpf::compile(&self.answers(), self.deny))
    }

    /// The filter for a process in which that of `outer` is in force already, as in a child of one that is confined by it.
    /// Of two filters the stricter answer counts, so this one need not say what that one says: it is much shorter, and a
    /// kernel takes time to install it for each instruction. [`Sandbox`](crate::sandbox::Sandbox) does not take it for enough
    /// where there is no such filter.
    ///
    /// # Errors
    /// Those of [`compile`](Self::compile).
    pub fn compile_inside(&self, outer: &Policy) -> Result<Program, ConfineError> {
        let outer_answers = outer.answers();
        let inner = bpf::Inside {
            answers: &self.answers(),
            deny: self.deny,
            outer: &outer_answers,
            outer_deny: outer.deny,
        };
        self.program(inner.compile())
    }

    fn program(&self, filter: Option<Vec<libc::sock_filter>>) -> Result<Program, ConfineError> {
        Ok(Program {
            name: self.name,
            filter: filter.ok_or(ConfineError::NotInForce("seccomp: the table is too long"))?,
        })
    }

    /// The answer to each call that is not denied as usual.
    fn answers(&self) -> BTreeMap<u32, bpf::Answer<'_>> {
        let mut answers: BTreeMap<u32, bpf::Answer<'_>> = PROBES
            .iter()
            .filter_map(|probe| u32::try_from(probe.syscall).ok())
            .map(|number| (number, bpf::Answer::Errno(libc::ENOSYS as u16)))
            .collect();
        answers.extend(
            REFUSED
                .iter()
                .filter_map(|refused| u32::try_from(refused.syscall).ok())
                .map(|number| (number, bpf::Answer::Errno(libc::EPERM as u16))),
        );
        for (&number, alternatives) in &self.rules {
            let unconditional = alternatives.iter().any(|arguments| arguments.is_empty());
            let answer = if unconditional {
                bpf::Answer::Allow
            } else {
                let otherwise = match answers.get(&number) {
                    Some(bpf::Answer::Errno(number)) => Some(*number),
                    _ => None,
                };
                bpf::Answer::AllowIf(alternatives, otherwise)
            };
            answers.insert(number, answer);
        }
        answers
    }
}

/// A compiled filter.
#[derive(Clone)]
pub struct Program {
    name: &'static str,
    filter: Vec<libc::sock_filter>,
}

impl Program {
    /// Whose it is.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How many instructions it has.
    pub fn instructions(&self) -> usize {
        self.filter.len()
    }

    /// Puts it in force for this thread and all that come of it, beside the filters already there.
    /// Needs `no_new_privs`, and verifies nothing: [`Sandbox`](crate::sandbox::Sandbox), which does
    /// this last, and [`narrow`](crate::sandbox::narrow) do.
    ///
    /// # Errors
    /// `ENOSYS` or `EINVAL` where the kernel has no seccomp filters, `EACCES` without
    /// `no_new_privs`.
    pub fn install(&self) -> io::Result<()> {
        sys::install_filter(&self.filter)
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Program({}, {} instructions)",
            self.name,
            self.filter.len()
        )
    }
}
