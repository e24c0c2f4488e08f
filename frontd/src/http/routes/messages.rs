//! `GET /v1/sessions/{key}/messages`: what was said, page by page, the newest first; within a page
//! the oldest comes first. A page is made of whole turns.

use super::sessions::{self, Known};
use crate::app::App;
use crate::client::Client;
use crate::http::error::ApiError;
use crate::http::find::Found;
use crate::http::query::Query;
use crate::http::{Response, json_bytes};
use crate::render::messages::{Page, RunMessages};
use crate::run::ReadError;

/// Turns of one page.
const PAGE: usize = 50;
const BIGGEST_PAGE: usize = 100;

/// The newest `?limit` turns, or those before the place that an earlier page gave (`?before`).
///
/// # Errors
/// 400 for a query that cannot be used, 404.
pub async fn list(
    app: &App,
    client: &Client,
    query: Query<'_>,
    key: &str,
) -> Result<Response, ApiError> {
    let limit = query.number("limit", &(1..=BIGGEST_PAGE))?.unwrap_or(PAGE);
    let before = query.number("before", &(1..=u64::MAX))?;
    let Known { key, .. } = sessions::known(app, client, key).await?;
    let mut page = Page::default();
    // One more, to know whether there are more.
    let rows = app.store.runs_of(key.clone(), before, limit + 1).await?;
    if before.is_none() {
        // Those that the store could not take are in memory alone, and newer.
        let open = app.runs.of(&key).into_iter().rev();
        for run in open.filter(|run| !run.is_stored()) {
            if let Some(messages) = read(app, &Found::Live(run)).await? {
                page.push(messages);
            }
        }
    }
    let mut reached = rows.first().map(|row| row.number.saturating_add(1));
    let mut is_all = rows.len() <= limit;
    for row in rows.into_iter().take(limit) {
        let number = row.number;
        let live = app.runs.find(row.id).map(Found::Live);
        let found = live.unwrap_or_else(|| Found::Stored(Box::new(row)));
        let Some(messages) = read(app, &found).await? else { continue };
        if !page.push(messages) {
            is_all = false;
            break;
        }
        reached = Some(number);
    }
    Ok(json_bytes(page.render(reached.filter(|_| !is_all))))
}

/// Everything of the run so far. `None` when nobody may see it yet, or it is gone.
async fn read(app: &App, found: &Found) -> Result<Option<RunMessages>, ApiError> {
    let (first, last) = match found {
        Found::Live(run) => (1, run.visible()),
        Found::Stored(row) => (row.first_seq, row.last_seq),
    };
    if last == 0 {
        return Ok(None);
    }
    let mut messages = RunMessages::new(found.id(), found.created());
    let mut reader = found.reader(app, first.saturating_sub(1))?;
    loop {
        match reader.next().await {
            Ok(Some(logged)) => {
                messages.event(&logged);
                if logged.seq >= last {
                    return Ok(Some(messages));
                }
            }
            Ok(None) => return Ok(Some(messages)),
            // Retention was quicker, or somebody forgot the session meanwhile.
            Err(ReadError::Gone { .. }) => return Ok(None),
            Err(error @ ReadError::Store(_)) => return Err(error.into()),
        }
    }
}
