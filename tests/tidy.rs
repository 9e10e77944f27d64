//! The house rules: layers, file length, no stubs; clippy sees to the length of functions. Standard library only.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each part's layer, lowest first. A file may use parts of lower layers and its own part, nothing else.
const LAYERS: &[(&str, u32)] = &[
    ("core", 0),
    ("config", 1),
    ("journal", 1),
    ("problem", 1),
    ("telemetry", 1),
    ("upload", 1),
    ("egress", 2),
    ("engine", 2),
    ("admin", 3),
    ("dashboard", 3),
    ("deliver", 3),
    ("ingest", 3),
    ("listener", 3),
    ("gateway", 4),
    ("cli", 5),
];
/// What a part may use beyond its layers, each with its reason.
const EXCEPTIONS: &[(&str, &str)] = &[];
const FILE_LINES_MAX: usize = 600;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    files(&root.join(folder), &mut found);
    assert!(!found.is_empty());
    let name = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The part of the library that a file belongs to: `src/engine/mod.rs` and `src/engine.rs` are `engine`.
fn part(file: &str) -> &str {
    let rest = file.strip_prefix("src/").unwrap();
    rest.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The parts that a file names by `crate::…`, with the line of each. Comments do not count.
fn used(text: &str) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for rest in code.split("crate::").skip(1) {
            let name: String = rest.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
            used.push((number + 1, name));
        }
    }
    used
}

#[test]
fn files_import_only_lower_layers() {
    let layers: BTreeMap<&str, u32> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (file, text) in sources("src") {
        let own = part(&file);
        if own == "lib" || own == "main" {
            continue;
        }
        let layer = layers.get(own).unwrap_or_else(|| panic!("{file}: give `{own}` a layer in tests/tidy.rs"));
        for (line, name) in used(&text) {
            let Some(other) = layers.get(name.as_str()) else { continue };
            let allowed = name == own || other < layer || EXCEPTIONS.contains(&(own, name.as_str()));
            if !allowed {
                wrong.push(format!("{file}:{line}: {own} (layer {layer}) uses {name} (layer {other})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_check_sees_what_it_should() {
    assert_eq!(used("use crate::engine::Engine; // crate::cli::x"), [(1, "engine".to_owned())]);
    assert_eq!(part("src/journal/sled/mod.rs"), "journal");
    assert_eq!(part("src/gateway.rs"), "gateway");
}

#[test]
fn no_file_is_longer_than_it_should_be() {
    for folder in ["src", "tests", "benches"] {
        for (file, text) in sources(folder) {
            let lines = text.lines().count();
            assert!(lines <= FILE_LINES_MAX, "{file} has {lines} lines, {FILE_LINES_MAX} are allowed");
        }
    }
}

#[test]
fn the_program_is_a_few_lines() {
    let (_, main) = sources("src").into_iter().find(|(file, _)| file == "src/main.rs").unwrap();
    assert!(main.lines().count() < 40);
}

#[test]
fn nothing_is_left_to_do_and_every_file_says_what_it_is() {
    let stubs = [concat!("to", "do!("), concat!("unimple", "mented!("), concat!("FIX", "ME"), concat!("XX", "X")];
    for (file, text) in sources("src") {
        assert!(text.starts_with("//!"), "{file} does not begin with its manual page");
        for stub in stubs {
            assert!(!text.contains(stub), "{file} holds {stub}");
        }
    }
}
