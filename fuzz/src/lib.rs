//! What every harness does.

/// Runs the target of this name.
pub fn run(name: &str, data: &[u8]) {
    let target = fuzzing::target(name).expect("a target of this name");
    (target.run)(data);
}
