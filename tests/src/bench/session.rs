//! One session of a server, and what its turns cost.

use std::time::Duration;

use anyhow::Context;

use super::http::Connection;
use super::machine;
use super::rows::channel_of;
use super::stats::Times;
use crate::harness::Server;

pub struct Session {
    connection: Connection,
    frontd: u32,
    channel: u32,
}

/// Of some turns.
pub struct Cost {
    pub times: Times,
    /// CPU for each turn, in microseconds.
    pub frontd: f64,
    pub channel: f64,
}

impl Session {
    /// A new one, after its first turn.
    ///
    /// # Errors
    /// When that fails, or there is no new claude after it.
    pub fn open(server: &Server, key: &str) -> anyhow::Result<Self> {
        let before = server.claudes();
        let mut connection = Connection::open(server.client.address, key)?;
        connection.turn("first")?;
        let claude = server.claudes().into_iter().find(|pid| !before.contains(pid));
        let channel = channel_of(claude.context("a new claude")?)?;
        Ok(Self { connection, frontd: server.pid(), channel })
    }

    /// # Errors
    /// The first turn that fails.
    pub fn turns(&mut self, count: usize) -> anyhow::Result<Cost> {
        let cpu = || anyhow::Ok((machine::cpu(self.frontd)?, machine::cpu(self.channel)?));
        let before = cpu()?;
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            times.push(self.connection.turn("hello")?.done);
        }
        let after = cpu()?;
        let count = f64::from(u32::try_from(count)?);
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / count;
        let (frontd, channel) = (each(after.0 - before.0), each(after.1 - before.1));
        Ok(Cost { times: Times::new(times), frontd, channel })
    }
}
