//! Where a fault stands in the file, and what it is called there.

/// One fault of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {key}: {what}")]
pub struct Fault {
    pub line: usize,
    pub key: String,
    /// The parser's words, or ours.
    pub what: String,
}

/// Where a line gives this key, or the beginning.
pub(super) fn place_of(text: &str, key: &str) -> usize {
    let gives = |line: &str| line.trim_start_matches(['[', ' ']).starts_with(key);
    let lines = text.split_inclusive('\n');
    let before: usize = lines.take_while(|line| !gives(line)).map(str::len).sum();
    if before < text.len() { before } else { 0 }
}

pub(super) fn fault_at(text: &str, place: usize, key: Option<&str>, what: &str) -> Fault {
    let before = text.get(..place).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let above: Vec<&str> = text.lines().take(line).map(str::trim).collect();
    let mut tables = above.iter().rev().filter_map(|line| line.strip_prefix('['));
    let table = tables.next().and_then(|rest| rest.split(']').next());
    let table = table.map_or("", |table| table.trim_start_matches('['));
    let found = above.iter().rev().take_while(|line| !line.starts_with('[')).find_map(|line| {
        let key = line.split_once('=')?.0.trim();
        (!key.is_empty() && !key.starts_with('#')).then_some(key)
    });
    let key = key.or(found).unwrap_or_default();
    let key = if key.contains('.') { key.to_owned() } else { format!("{table}.{key}") };
    let key = key.trim_matches('.').to_owned();
    // One line, whatever the parser wrote.
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    Fault { line, key: if key.is_empty() { "file".to_owned() } else { key }, what }
}
