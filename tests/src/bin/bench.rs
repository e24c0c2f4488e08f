//! `make bench`: `bench [CLI]` prints the figures of docs/benchmarks.md. Some of them alone:
//! `--store`, `--stored`, `--subscribers 1000` or `10000`, `--long`; `--vs FOLDER` compares the hot
//! turn with that of the build in FOLDER.

use std::path::Path;

use anyhow::bail;
use tests::bench::{
    Row, long, machine, print, privileged, readers, real, rows, store, stored, subscribers, versus,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["--readers", address, path, count] = arguments[..] {
        // Started by this program itself.
        return readers::follow(address.parse()?, path, count.parse()?);
    }
    head();
    let folder = tempfile::tempdir()?;
    let table = match arguments[..] {
        ["--store"] => store::rows(folder.path()).await?,
        ["--subscribers", "1000"] => subscribers::thousand().await?,
        ["--subscribers", "10000"] => subscribers::ten_thousand().await?,
        ["--stored"] => stored::rows().await?,
        ["--long"] => long::rows().await?,
        ["--vs", other] => versus::rows(Path::new(other)).await?,
        [] => all(folder.path(), None).await?,
        [cli] if !cli.starts_with('-') => all(folder.path(), Some(Path::new(cli))).await?,
        _ => bail!("unknown arguments {arguments:?}"),
    };
    print(&table);
    Ok(())
}

/// With the real CLI at `cli`, if there is one.
async fn all(folder: &Path, cli: Option<&Path>) -> anyhow::Result<Vec<Row>> {
    let mut table = store::rows(folder).await?;
    table.extend(stored::rows().await?);
    table.extend(subscribers::thousand().await?);
    table.extend(subscribers::ten_thousand().await?);
    table.extend(long::rows().await?);
    table.extend(rows::without_hooks().await?);
    table.extend(rows::with_hooks().await?);
    table.extend(privileged::rows()?);
    if let Some(cli) = cli {
        table.extend(real::rows(cli).await?);
    }
    Ok(table)
}

#[expect(clippy::print_stdout, reason = "the head of the table")]
fn head() {
    println!("{}\n", machine::head());
}
