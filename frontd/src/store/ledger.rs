//! One change after the other, within a transaction that the writer owns.

use std::collections::HashMap;

use rusqlite::Connection;

use super::change::{Change, NewRun};
use super::runs::OpenRun;
use super::{StoreError, conversations, runs};
use crate::identity::SessionKey;
use crate::run::{Logged, RunId};

/// Session keys whose number is remembered; more are looked up.
const SESSIONS: usize = 4096;

/// What the database says, remembered. Thrown away whenever a transaction is rolled back.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    runs: HashMap<RunId, OpenRun>,
    sessions: HashMap<SessionKey, i64>,
    next_number: Option<i64>,
}

impl Ledger {
    /// `now` is in milliseconds since 1970.
    pub(super) fn apply(
        &mut self,
        connection: &Connection,
        change: &Change,
        now: u64,
    ) -> Result<(), StoreError> {
        let failed = |step| move |source| StoreError::Query { step, source };
        match change {
            Change::Begin(run) => self.begin(connection, run).map_err(failed("begin a run")),
            Change::Append { run, logged } => self.append(connection, *run, logged),
            Change::Progress { run, pushed, prompt } => {
                let known = self.open(connection, *run);
                known
                    .and_then(|known| match known {
                        Some(open) => {
                            runs::progress(connection, open.number, *pushed, prompt.as_deref())
                        }
                        None => Ok(()),
                    })
                    .map_err(failed("note a run's progress"))
            }
            Change::End { run, outcome, at } => {
                let known = self.open(connection, *run).map_err(failed("find a run"))?;
                self.runs.remove(run);
                match known {
                    Some(open) => {
                        runs::end(connection, open, outcome, *at).map_err(failed("end a run"))
                    }
                    None => Ok(()),
                }
            }
            Change::Usage { run, usage } => {
                runs::set_usage(connection, *run, usage).map_err(failed("note a run's tokens"))
            }
            Change::Conversation(conversation) => conversations::put(connection, conversation, now)
                .map_err(failed("keep a conversation")),
            Change::Seen { key, hashes } => self
                .session(connection, key)
                .and_then(|session| conversations::add_seen(connection, session, hashes))
                .map_err(failed("note what a conversation has seen")),
            Change::ForgetSession(key) => {
                // Its runs may be among those remembered.
                *self = Self::default();
                runs::forget_session(connection, key).map_err(failed("forget a session"))
            }
            Change::ProcessUp(process) => {
                conversations::process_up(connection, process).map_err(failed("keep a process"))
            }
            Change::ProcessSeq { process, seq } => {
                conversations::process_seq(connection, process, *seq)
                    .map_err(failed("note a process' place"))
            }
            Change::ProcessGone(process) => {
                conversations::process_gone(connection, process).map_err(failed("drop a process"))
            }
        }
    }

    fn begin(&mut self, connection: &Connection, run: &NewRun) -> rusqlite::Result<()> {
        let number = match self.next_number {
            Some(number) => number,
            None => runs::next_number(connection)?,
        };
        let session = self.session(connection, &run.key)?;
        runs::begin(connection, number, session, run)?;
        self.next_number = Some(number + 1);
        self.runs.insert(run.id, OpenRun { number, last_seq: 0, bytes: 0 });
        Ok(())
    }

    fn append(
        &mut self,
        connection: &Connection,
        run: RunId,
        logged: &Logged,
    ) -> Result<(), StoreError> {
        let step = "append an event";
        let failed = |source| StoreError::Query { step, source };
        let Some(open) = self.open(connection, run).map_err(failed)? else { return Ok(()) };
        let expected = open.last_seq + 1;
        if logged.seq != expected {
            return Err(StoreError::OutOfOrder { run, expected, found: logged.seq });
        }
        runs::append(connection, open.number, logged).map_err(failed)?;
        let bytes = open.bytes + logged.json.len() as u64;
        self.runs.insert(run, OpenRun { last_seq: logged.seq, bytes, ..open });
        Ok(())
    }

    fn open(&mut self, connection: &Connection, run: RunId) -> rusqlite::Result<Option<OpenRun>> {
        if let Some(open) = self.runs.get(&run) {
            return Ok(Some(*open));
        }
        let found = runs::find_open(connection, run)?;
        if let Some(open) = found {
            self.runs.insert(run, open);
        }
        Ok(found)
    }

    fn session(&mut self, connection: &Connection, key: &SessionKey) -> rusqlite::Result<i64> {
        if let Some(number) = self.sessions.get(key) {
            return Ok(*number);
        }
        let number = runs::session_number(connection, key)?;
        if self.sessions.len() >= SESSIONS {
            self.sessions.clear();
        }
        self.sessions.insert(key.clone(), number);
        Ok(number)
    }
}
