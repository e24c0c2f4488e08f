//! Measures the release build from outside, as a client and through /proc, and prints a table.

pub mod http;
pub mod long;
pub mod machine;
pub mod privileged;
pub mod readers;
pub mod real;
pub mod rows;
pub mod session;
pub mod stats;
pub mod store;
pub mod stored;
pub mod subscribers;
pub mod versus;

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    pub value: String,
    /// The figure that was aimed at.
    pub target: &'static str,
    pub met: Option<bool>,
}

/// Prints the table in Markdown.
#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
pub fn print(rows: &[Row]) {
    println!("| what | measured | target | met |");
    println!("|---|---|---|---|");
    for Row { name, value, target, met } in rows {
        let met = match met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        println!("| {name} | {value} | {target} | {met} |");
    }
}
