//! The documents name files; a file that has moved takes its name in them along.

use std::fs;
use std::path::Path;

/// Documents of the repository's root that say where things are.
const DOCUMENTS: [&str; 5] = [
    "ARCHITECTURE.md",
    "SECURITY.md",
    "README.md",
    "DEPENDENCIES.md",
    "CHANGELOG.md",
];

/// Directories of this repository: what begins with one of them is a path in it.
const OURS: [&str; 6] = ["crates/", "tests/", "docs/", ".ci/", "fuzz/", "packaging/"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The paths in `text`: in backquotes or behind a link, perhaps with a line number or a fragment.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| character.is_whitespace() || "`()[]|\"'<>,;".contains(character))
        .map(|word| {
            word.split(['#', ':'])
                .next()
                .unwrap_or_default()
                .trim_end_matches('.')
        })
        .filter(|word| OURS.iter().any(|directory| word.starts_with(directory)))
        .filter(|word| !word.contains(['*', '{', '…']))
}

#[test]
fn every_path_that_a_document_names_exists() {
    let mut named = 0;
    for document in DOCUMENTS {
        let text = fs::read_to_string(root().join(document))
            .unwrap_or_else(|error| panic!("{document}: {error}"));
        for path in paths(&text) {
            assert!(
                root().join(path).exists(),
                "{document} names {path}, which does not exist"
            );
            named += 1;
        }
    }
    assert!(
        named > 20,
        "only {named} paths found: is this test reading the documents?"
    );
}

#[test]
fn the_architecture_fits_its_bound() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    assert!(
        text.lines().count() <= 200,
        "ARCHITECTURE.md has {} lines",
        text.lines().count()
    );
}
