//! `make bench`: `bench [CLI]` prints the figures of docs/benchmarks.md; `bench --store` those of
//! the store alone.

use tests::bench::{machine, print, privileged, real, rows, store};

#[expect(clippy::print_stdout, reason = "the head of the table")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    println!("{}\n", machine::head());
    let argument = std::env::args_os().nth(1);
    let folder = tempfile::tempdir()?;
    let mut table = store::rows(folder.path()).await?;
    if argument.as_deref() == Some("--store".as_ref()) {
        print(&table);
        return Ok(());
    }
    table.extend(rows::without_hooks().await?);
    table.extend(rows::with_hooks().await?);
    table.extend(privileged::rows()?);
    if let Some(cli) = argument {
        table.extend(real::rows(cli.as_ref()).await?);
    }
    print(&table);
    Ok(())
}
