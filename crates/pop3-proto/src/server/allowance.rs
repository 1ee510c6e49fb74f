//! How many commands and errors a client may still send on its connection.

/// Counts down; when it is used up the connection is closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    commands: u32,
    errors: u32,
}

impl Allowance {
    pub(super) fn new(commands: u32, errors: u32) -> Allowance {
        Allowance { commands, errors }
    }

    /// Spends a command; `false` if none was left.
    pub(super) fn spend_command(&mut self) -> bool {
        spend(&mut self.commands)
    }

    /// Spends an error; `false` if none was left.
    pub(super) fn spend_error(&mut self) -> bool {
        spend(&mut self.errors)
    }
}

fn spend(left: &mut u32) -> bool {
    match left.checked_sub(1) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}
