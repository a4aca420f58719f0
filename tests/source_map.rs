//! `fixtures/source_map/` says where each of the 310 things that the source documents name about Ethereum and Tendermint is shown. It
//! is checked here, so that it cannot rot: no line missing, every file and test it names there, every difference with its reason.

use std::{fs, path::Path};

/// Each map, the letter of its lines, and how many there are: E001 to E098, and so on.
const MAPS: [(&str, char, usize); 3] = [("ethereum", 'E', 98), ("tendermint", 'T', 133), ("adr062", 'A', 79)];

/// One line of the map.
#[derive(Debug)]
struct Row {
    id: String,
    state: String,
    /// File and test; of what was only said, file and words in it.
    shown_by: Vec<(String, String)>,
    remark: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What is between backticks and has a `::` after a file name.
fn references(cell: &str) -> Vec<(String, String)> {
    let quoted = cell.split('`').skip(1).step_by(2);
    quoted
        .map(|reference| {
            let (file, test) = reference.split_once("::").unwrap_or_else(|| panic!("{reference} names no test"));
            (file.to_owned(), test.to_owned())
        })
        .collect()
}

fn rows(map: &str, letter: char) -> Vec<Row> {
    map.lines()
        .filter(|line| line.starts_with(&format!("| {letter}")))
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [id, _, state, shown_by, remark] = cells[..] else { panic!("not five cells: {line}") };
            Row { id: id.into(), state: state.into(), shown_by: references(shown_by), remark: remark.into() }
        })
        .collect()
}

/// Whether the file has a test of this name: the function, with a test attribute right before it.
fn has_test(source: &str, name: &str) -> bool {
    let is_it = |line: &str| line.trim_start().trim_start_matches("async ").starts_with(&format!("fn {name}("));
    let lines: Vec<_> = source.lines().collect();
    lines.iter().enumerate().filter(|(_, line)| is_it(line)).any(|(at, _)| {
        let before = lines[..at].iter().rev().take_while(|line| line.trim_start().starts_with("#["));
        before.into_iter().any(|line| line.contains("test]") || line.contains("test("))
    })
}

/// What is wrong with a row, if anything.
fn fault(row: &Row) -> Option<String> {
    let (needs_test, needs_remark) = match row.state.as_str() {
        "same" | "said" => (true, false),
        "differs" | "partly" => (true, true),
        "not there" => (false, true),
        other => return Some(format!("no state: {other}")),
    };
    if needs_test && row.shown_by.is_empty() {
        return Some("names no test".to_owned());
    }
    if needs_remark && row.remark.is_empty() {
        return Some("gives no reason".to_owned());
    }
    row.shown_by.iter().find_map(|(file, test)| match fs::read_to_string(root().join(file)) {
        Err(error) => Some(format!("{file}: {error}")),
        Ok(text) if row.state == "said" => (!text.contains(test)).then(|| format!("{file} does not say {test}")),
        Ok(source) if !has_test(&source, test) => Some(format!("{file} has no test {test}")),
        Ok(_) => None,
    })
}

#[test]
fn every_line_of_the_sources_is_mapped_to_what_exists() {
    for (name, letter, lines) in MAPS {
        let map = fs::read_to_string(root().join(format!("fixtures/source_map/{name}.md"))).unwrap();
        let rows = rows(&map, letter);
        let faults: Vec<_> = rows.iter().filter_map(|row| Some(format!("{}: {}", row.id, fault(row)?))).collect();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        let expected: Vec<_> = (1..=lines).map(|n| format!("{letter}{n:03}")).collect();
        assert_eq!(rows.into_iter().map(|row| row.id).collect::<Vec<_>>(), expected, "each once, in order");
    }
}

#[test]
fn what_is_wrong_is_found() {
    let row = |state: &str, shown_by: &str, remark: &str| {
        rows(&format!("| E001 | x | {state} | {shown_by} | {remark} |"), 'E').remove(0)
    };
    let this = "`tests/source_map.rs::what_is_wrong_is_found`";
    assert_eq!(fault(&row("same", this, "")), None);
    assert_eq!(fault(&row("said", "`README.md::kadwire`", "")), None);
    for (state, shown_by, remark) in [
        ("same", "", ""),
        ("differs", this, ""),
        ("not there", "", ""),
        ("perhaps", this, ""),
        ("said", "", "somewhere"),
        ("said", "`README.md::what nobody has written`", ""),
        ("same", "`tests/source_map.rs::what_is_right`", ""),
        ("same", "`tests/source_map.rs::rows`", ""), // a function, but no test
        ("same", "`tests/nowhere.rs::what_is_wrong_is_found`", ""),
    ] {
        assert!(fault(&row(state, shown_by, remark)).is_some(), "{state} {shown_by}");
    }
}
