//! Every public item of the library is shown in use.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(sources(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Whether a line is the head of a public item that has documentation of its own.
fn is_public(line: &str) -> bool {
    let line = line.trim_start();
    let line = line.replacen("pub $($async)? fn", "pub fn", 1);
    ["fn", "struct", "enum", "type"]
        .iter()
        .any(|kind| line.starts_with(&format!("pub {kind} ")))
}

#[test]
fn every_public_item_has_an_example() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let mut items = 0;
    for path in sources {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let mut above = String::new();
        for line in code.lines() {
            let trimmed = line.trim_start();
            if is_public(line) && !above.contains("#[doc(hidden)]") {
                items += 1;
                assert!(above.contains("/// ```"), "{}: {line}", path.display());
            }
            match trimmed.starts_with("///") || trimmed.starts_with("#[") {
                true => above.push_str(&format!("{trimmed}\n")),
                false => above.clear(),
            }
        }
    }
    assert!(items > 90, "{items}");
}
