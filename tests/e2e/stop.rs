//! frontd ends and spawnd stays: answers under way may end, new requests are for the next frontd.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use tests::harness::client::PATIENCE;
use tests::harness::{TwoDaemons, Wanted};
use tokio::net::TcpStream;

fn grace(seconds: u64) -> Wanted {
    let config = format!("[limits]\nstop_grace_seconds = {seconds}\n");
    Wanted { config, ..Wanted::default() }
}

/// A connection that stays open between requests.
struct Kept(hyper::client::conn::http1::SendRequest<Empty<Bytes>>);

impl Kept {
    async fn open(daemons: &TwoDaemons) -> Self {
        let stream = TcpStream::connect(daemons.client.address).await.unwrap();
        let io = TokioIo::new(stream);
        let (sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn get(&mut self, path: &str) -> hyper::Result<http::Response<String>> {
        let request = Request::get(path).header("host", "localhost").body(Empty::new()).unwrap();
        let (head, body) = self.0.send_request(request).await?.into_parts();
        let bytes = body.collect().await?.to_bytes();
        Ok(http::Response::from_parts(head, String::from_utf8_lossy(&bytes).into_owned()))
    }
}

async fn begins_to_stop(daemons: &TwoDaemons) {
    daemons.signal_frontd(Signal::SIGTERM);
    let wait = async {
        while !daemons.log().contains("stopping: answers under way may end") {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{}", daemons.log());
}

#[tokio::test]
async fn what_is_under_way_ends_by_itself_and_nothing_else_begins() {
    let mut daemons = TwoDaemons::start(grace(30)).await;
    let mut kept = Kept::open(&daemons).await;
    assert_eq!(kept.get("/health").await.unwrap().status(), 200);
    let mut stream = daemons.client.session("s").stream("CHUNKS 2 2000").await;
    while !stream.next().await.unwrap().expect("a chunk").contains("chunk") {}
    let waiting = tokio::spawn({
        let client = daemons.client.session("t");
        async move { client.chat("SLOW 1000").await }
    });
    // The second session's claude is there, so its request is.
    let both = async {
        while daemons.claudes().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, both).await.unwrap();
    let begin = Instant::now();
    begins_to_stop(&daemons).await;
    let refused = kept.get("/v1/models").await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.body().contains("\"stopping\""), "{refused:?}");
    let header = |name: &str| refused.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((header("retry-after").as_str(), header("connection").as_str()), ("1", "close"));
    assert!(kept.get("/v1/models").await.is_err(), "it was closed");
    assert!(TcpStream::connect(daemons.client.address).await.is_err(), "nobody listens");
    // Both come to their ends, and then it is over, long before the grace is.
    let deltas = stream.deltas().await.unwrap().concat();
    assert!(deltas.contains("chunk 2") || deltas.contains("chunk"), "{deltas}");
    assert_eq!(waiting.await.unwrap().status, 200);
    assert!(daemons.frontd_ends().await.success(), "{}", daemons.log());
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    assert_eq!(daemons.claudes().len(), 2);
    daemons.start_frontd().await;
    assert_eq!(daemons.client.session("s").chat("next").await.content(), "echo: next");
}

#[tokio::test]
async fn after_the_grace_a_stream_is_cut_and_its_run_goes_on() {
    let mut daemons = TwoDaemons::start(grace(1)).await;
    let mut stream = daemons.client.session("s").stream("CHUNKS 2 60000").await;
    while !stream.next().await.unwrap().expect("a chunk").contains("chunk") {}
    let begin = Instant::now();
    daemons.stop_frontd().await;
    let took = begin.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
    let rest = stream.all().await.unwrap();
    assert!(rest.last().is_some_and(|last| last.contains("\"stopping\"")), "{rest:?}");
    assert_eq!(daemons.claudes().len(), 1);
}

#[tokio::test]
async fn a_second_signal_ends_the_grace() {
    for second in [Signal::SIGTERM, Signal::SIGINT] {
        let mut daemons = TwoDaemons::start(grace(60)).await;
        let mut stream = daemons.client.session("s").stream("CHUNKS 2 60000").await;
        while !stream.next().await.unwrap().expect("a chunk").contains("chunk") {}
        begins_to_stop(&daemons).await;
        let begin = Instant::now();
        // Not an end, and no reason to begin anew.
        daemons.signal_frontd(Signal::SIGHUP);
        daemons.signal_frontd(second);
        assert!(daemons.frontd_ends().await.success(), "{}", daemons.log());
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        drop(stream);
    }
}

#[tokio::test]
async fn connections_that_wait_for_nothing_hold_nobody_up() {
    let mut daemons = TwoDaemons::start(grace(60)).await;
    let mut kept = Kept::open(&daemons).await;
    assert_eq!(kept.get("/health").await.unwrap().status(), 200);
    let begin = Instant::now();
    daemons.stop_frontd().await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}
