//! SIGKILL of frontd, of the channel and of claude at each point of a turn: exactly one final answer
//! or one clear error for a client that reads on and asks again with its key, no message pushed
//! twice, and a session that goes on.

use nix::sys::signal::Signal;
use tests::harness::TwoDaemons;

use super::held::{self, MESSAGE, Read};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Frontd,
    /// By SIGTERM, for comparison.
    StoppedFrontd,
    Channel,
    Claude,
}

/// Points of a turn, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// spawnd was asked for a claude and has not answered.
    Asked,
    /// claude runs; its channel does not.
    Booting,
    /// The channel runs; the CLI does not listen yet.
    Unregistered,
    /// The CLI listens; spawnd has not said that it is ready, so nothing is pushed.
    Unready,
    /// The message was pushed; claude has not taken it up.
    Pushed,
    /// claude has written it down; its hook has not run.
    Prompted,
    Received,
    /// In a tool call.
    Tool,
    /// After a reply that is not the last.
    Progress,
    /// The final reply was sent; frontd has not read it.
    Unacknowledged,
    /// The run is over; claude's turn is not.
    Replied,
    /// The `Stop` hook ran; claude does not say that it is idle.
    Stopped,
    Idle,
}

const POINTS: [Point; 13] = [
    Point::Asked,
    Point::Booting,
    Point::Unregistered,
    Point::Unready,
    Point::Pushed,
    Point::Prompted,
    Point::Received,
    Point::Tool,
    Point::Progress,
    Point::Unacknowledged,
    Point::Replied,
    Point::Stopped,
    Point::Idle,
];

impl Point {
    /// Where the fake claude waits on the way there, in order.
    fn holds(self) -> &'static [&'static str] {
        match self {
            Self::Asked | Self::Idle => &[],
            Self::Booting => &["boot"],
            Self::Unregistered | Self::Unready => &["unregistered"],
            Self::Pushed => &["pushed"],
            Self::Prompted => &["prompted"],
            Self::Received => &["received"],
            Self::Tool => &["tool"],
            Self::Progress => &["progress"],
            Self::Unacknowledged => &["progress", "replied"],
            Self::Replied => &["replied"],
            Self::Stopped => &["stopped"],
        }
    }

    fn has(self, victim: Victim) -> bool {
        match victim {
            Victim::Frontd | Victim::StoppedFrontd => true,
            Victim::Claude => self != Self::Asked,
            Victim::Channel => !matches!(self, Self::Asked | Self::Booting),
        }
    }
}

/// A daemon that is stopped for a while.
struct Stopped(u32);

impl Stopped {
    fn now(pid: u32) -> Self {
        held::signal(pid, Signal::SIGSTOP);
        Self(pid)
    }
}

impl Drop for Stopped {
    /// It may have been killed meanwhile.
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0).unwrap());
        let _ = nix::sys::signal::kill(pid, Signal::SIGCONT);
    }
}

/// Kills the victim at the point; what became of the run.
async fn killed(victim: Victim, point: Point) -> String {
    let mut daemons = held::start(&[point.holds(), &["never"]].concat(), "").await;
    let spawnd = daemons.spawnd_pid().unwrap();
    let client = daemons.client.session("s");
    let mut stopped = (point == Point::Asked).then(|| Stopped::now(spawnd));
    let (run, new) = held::begin(&client, "key", MESSAGE).await;
    assert!(new);
    let mut read = Read::default();
    stopped = reach(point, &daemons, &mut read, &run).await.or(stopped);
    let claude = (point != Point::Asked).then(|| held::the_claude(&daemons));
    match victim {
        Victim::Frontd | Victim::StoppedFrontd => {
            // Its reader is connected, and reads all that was told.
            // One that is stopped takes nobody in.
            let stream = if point == Point::Unacknowledged {
                None
            } else {
                Some(read.open(&client, &run).await)
            };
            if victim == Victim::Frontd {
                daemons.kill_frontd().await;
            } else {
                stopped.take_if(|_| point == Point::Unacknowledged);
                daemons.stop_frontd().await;
            }
            drop(stopped);
            if let Some(stream) = stream {
                read.from(stream, |_| false).await;
            }
            daemons.start_frontd().await;
        }
        Victim::Channel => {
            held::signal(held::channel_of(claude.unwrap()).unwrap(), Signal::SIGKILL);
            drop(stopped);
        }
        Victim::Claude => {
            held::signal(claude.unwrap(), Signal::SIGKILL);
            drop(stopped);
        }
    }
    for hold in point.holds() {
        held::release(&daemons, hold);
    }
    read.until_over(&client, &run).await;
    let outcome = read.outcome(&client, &run).await;
    let mut pushed = held::pushes(&daemons, &run);
    let (again, new) = held::begin(&client, "key", MESSAGE).await;
    assert_eq!(new, again != run);
    if new {
        // Only a message that claude never had may be sent again.
        assert_eq!((pushed, outcome == "answer"), (0, false), "{victim:?} {point:?}: {outcome}");
        let mut read = Read::default();
        read.until_over(&client, &again).await;
        assert_eq!(read.outcome(&client, &again).await, "answer");
        pushed = held::pushes(&daemons, &again);
    }
    if victim == Victim::Claude && !new {
        // A message that is given to a dying claude fails with it.
        while client.get("/health").await.json()["processes"] != 0 {}
    }
    let next = client.chat("SAY next").await;
    assert_eq!(next.status, 200, "{victim:?} {point:?}: {} {}", next.text(), daemons.log());
    assert_eq!(next.content(), "next");
    if matches!(victim, Victim::Frontd | Victim::StoppedFrontd) {
        assert_eq!(outcome, "answer", "{point:?}: {}", daemons.log());
        assert_eq!(pushed, 1, "{point:?}: {}", daemons.log());
        if let Some(claude) = claude {
            assert_eq!(daemons.claudes(), [claude], "{point:?}: {}", daemons.log());
        }
    }
    let retry = if new { ", and the answer when asked again" } else { "" };
    format!("{outcome}{retry}")
}

/// Returns when the run has come to the point.
async fn reach(point: Point, daemons: &TwoDaemons, read: &mut Read, run: &str) -> Option<Stopped> {
    let client = &daemons.client;
    let spawnd = daemons.spawnd_pid().unwrap();
    let frontd = daemons.frontd_pid().unwrap();
    match point {
        Point::Asked => {
            read.on(client, run, |event| event["status"] == "preparing").await;
            None
        }
        Point::Unready => {
            held::at(daemons, "unregistered").await;
            let stopped = Stopped::now(spawnd);
            held::release(daemons, "unregistered");
            let registered = "Channel notifications registered";
            held::until("registered", daemons, || {
                let log = daemons.session_file("debug.log").unwrap_or_default();
                String::from_utf8_lossy(&log).contains(registered)
            })
            .await;
            Some(stopped)
        }
        Point::Unacknowledged => {
            held::at(daemons, "progress").await;
            read.on(client, run, |event| event["type"] == "text-delta").await;
            let stopped = Stopped::now(frontd);
            held::release(daemons, "progress");
            // claude's reply has its verdict: "queued".
            held::at(daemons, "replied").await;
            Some(stopped)
        }
        Point::Idle => {
            read.until_over(client, run).await;
            held::idle(daemons).await;
            None
        }
        Point::Replied | Point::Stopped => {
            held::at(daemons, point.holds()[0]).await;
            read.until_over(client, run).await;
            None
        }
        Point::Booting
        | Point::Unregistered
        | Point::Pushed
        | Point::Prompted
        | Point::Received
        | Point::Tool
        | Point::Progress => {
            held::at(daemons, point.holds()[0]).await;
            None
        }
    }
}

#[expect(clippy::print_stdout, reason = "the table is the test's output")]
async fn column(victim: Victim) {
    let mut table = String::new();
    for point in POINTS.into_iter().filter(|point| point.has(victim)) {
        let outcome = killed(victim, point).await;
        eprintln!("{victim:?} killed at {point:?}: {outcome}");
        table.push_str(&format!("| {point:?} | {victim:?} | {outcome} |\n"));
    }
    println!("{table}");
}

#[tokio::test]
async fn frontd_killed_at_any_point_costs_no_answer() {
    column(Victim::Frontd).await;
}

#[tokio::test]
async fn frontd_stopped_at_any_point_costs_no_answer() {
    column(Victim::StoppedFrontd).await;
}

#[tokio::test]
async fn the_channel_killed_at_any_point_is_one_answer_or_one_error() {
    column(Victim::Channel).await;
}

#[tokio::test]
async fn claude_killed_at_any_point_is_one_answer_or_one_error() {
    column(Victim::Claude).await;
}
