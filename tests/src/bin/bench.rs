//! `make bench`: `bench [CLI]` prints the figures of docs/benchmarks.md.

use tests::bench::{machine, print, privileged, real, rows};

#[expect(clippy::print_stdout, reason = "the head of the table")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    println!("{}\n", machine::head());
    let mut table = rows::without_hooks().await?;
    table.extend(rows::with_hooks().await?);
    table.extend(privileged::rows()?);
    if let Some(cli) = std::env::args_os().nth(1) {
        table.extend(real::rows(cli.as_ref()).await?);
    }
    print(&table);
    Ok(())
}
