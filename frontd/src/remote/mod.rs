//! `frontd status`, `sessions` and `stop`: what an administrator or a user asks a server that runs.
//! Whatever it answers is foreign: bounded, and shown so that no terminal obeys it.

mod call;
mod show;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proto::ids::TokenText;
use serde::Deserialize as _;
use serde_json::{Value, json};

use call::{Door, Method};
pub use show::plain;

/// The socket of an installed server.
const SOCKET: &str = "/run/synthesis/http.sock";
/// Bytes of a file with a token that are read.
const TOKEN_FILE: u64 = 4096;
/// Sessions that are listed; who has more asks page by page.
const SESSIONS: usize = 100_000;

/// Where the server is, and how the answer is written.
#[derive(Debug, Args)]
pub struct Options {
    /// The server's Unix socket; it knows by it who asks.
    #[arg(long, default_value = SOCKET)]
    socket: PathBuf,
    /// The server's TCP address instead, as ADDRESS:PORT.
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// A file that holds a token to show.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// For programs.
    #[arg(long)]
    json: bool,
}

/// What is asked.
#[derive(Debug)]
pub enum Question {
    Status,
    Sessions { all: bool },
    Stop { key: String },
}

/// Asks and writes the answer.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub fn run(options: &Options, question: Question) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (door, json) = (door(options)?, options.json);
    let text = runtime.block_on(async {
        match question {
            Question::Status => status(&door, json).await,
            Question::Sessions { all } => sessions(&door, all, json).await,
            Question::Stop { key } => stop(&door, &key, json).await,
        }
    })?;
    std::io::stdout().write_all(text.as_bytes()).context("stdout")
}

fn door(options: &Options) -> anyhow::Result<Door> {
    let token = options.token_file.as_deref().map(token).transpose()?;
    Ok(match &options.http {
        Some(address) => Door::Tcp { address: address.clone(), token },
        None => Door::Unix { socket: options.socket.clone(), token },
    })
}

fn token(file: &std::path::Path) -> anyhow::Result<TokenText> {
    use std::io::Read as _;
    let shown = file.display();
    let mut text = String::new();
    let opened = std::fs::File::open(file).with_context(|| format!("{shown}"))?;
    opened.take(TOKEN_FILE).read_to_string(&mut text).with_context(|| format!("{shown}"))?;
    TokenText::new(text.trim().to_owned()).with_context(|| format!("{shown}"))
}

async fn status(door: &Door, json: bool) -> anyhow::Result<String> {
    let answer = door.ask(Method::Get, "/v1/status").await?;
    Ok(if json { show::json(&answer) } else { show::status(&answer, now()) })
}

async fn sessions(door: &Door, all: bool, json: bool) -> anyhow::Result<String> {
    let mut found: Vec<Value> = Vec::new();
    let mut after = String::new();
    loop {
        let mut path = "/v1/sessions?limit=100".to_owned();
        if all {
            path.push_str("&all=true");
        }
        if !after.is_empty() {
            path.push_str(&format!("&after={}", encoded(&after)));
        }
        let mut page = door.ask(Method::Get, &path).await?;
        let more = page["more"] == json!(true);
        let page = Vec::<Value>::deserialize(page["data"].take()).context("a list was expected")?;
        let last = page.last().and_then(|session| session["key"].as_str()).map(str::to_owned);
        found.extend(page);
        match last {
            // In the order of keys, so it comes to an end.
            Some(last) if more && last > after => after = last,
            Some(_) if more => bail!("the server's pages have no order"),
            None if more => bail!("the server says there is more and gives nothing"),
            Some(_) | None => break,
        }
        ensure!(found.len() < SESSIONS, "more than {SESSIONS} sessions");
    }
    if json {
        return Ok(show::json(&json!({ "object": "list", "data": found })));
    }
    Ok(show::sessions(&found, now()))
}

async fn stop(door: &Door, key: &str, json: bool) -> anyhow::Result<String> {
    ensure!(!key.is_empty(), "which session? `frontd sessions` shows the keys");
    let answer = door.ask(Method::Post, &format!("/v1/sessions/{}/stop", encoded(key))).await?;
    Ok(if json { show::json(&answer) } else { format!("{} is ending\n", plain(key)) })
}

fn encoded(part: &str) -> String {
    utf8_percent_encode(part, NON_ALPHANUMERIC).to_string()
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
