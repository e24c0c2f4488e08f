//! The configuration read again by SIGHUP, while turns go on.

use nix::sys::signal::Signal;
use serde_json::json;
use tests::harness::client::PATIENCE;
use tests::harness::{TwoDaemons, Wanted};

const AGAIN: &str = "configuration read again";
const REFUSED: &str = "the configuration cannot be used";

/// Waits until frontd has said it as often.
async fn said(daemons: &TwoDaemons, what: &str, times: usize) {
    let wait = async {
        while daemons.log().matches(what).count() < times {
            tokio::task::yield_now().await;
        }
    };
    let came = tokio::time::timeout(PATIENCE, wait).await.is_ok();
    assert!(came, "not in time: {what}\n{}", daemons.log());
}

async fn models(daemons: &TwoDaemons) -> Vec<String> {
    let models = daemons.client.get("/v1/models").await.json();
    let ids = models["data"].as_array().unwrap().iter();
    ids.map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_can_change_changes_and_the_rest_is_named() {
    let config = "[[models]]\nid = \"synthesis\"\n[[models]]\nid = \"old\"\n".to_owned();
    let mut daemons = TwoDaemons::start(Wanted { config, ..Wanted::default() }).await;
    let address = daemons.client.address;
    assert_eq!(models(&daemons).await, ["synthesis", "old"]);
    let mut stream = daemons.client.session("s").stream("CHUNKS 2 1500").await;
    while !stream.next().await.unwrap().expect("a chunk").contains("chunk") {}
    daemons.reload(
        "listen = \"127.0.0.1:1\"\nauth.mode = \"required\"\n[[models]]\nid = \"synthesis\"\n\
         [limits]\nprocesses = 1\nslot_wait_seconds = 1\n",
    );
    said(&daemons, AGAIN, 1).await;
    assert_eq!(models(&daemons).await, ["synthesis"]);
    assert_eq!(daemons.client.address, address);
    assert!(daemons.log().contains("listen, auth.mode"), "{}", daemons.log());
    let full = daemons.client.session("t").chat("no room").await;
    // A busy session's place is nobody else's.
    assert_eq!((full.status, full.error_code().as_str()), (503, "no_slot"), "{}", full.text());
    stream.deltas().await.unwrap();
    assert_eq!(daemons.client.session("t").chat("room").await.content(), "echo: room");
    daemons.stop_frontd().await;
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_where_it_is_wrong() {
    let config = "[[models]]\nid = \"old\"\n".to_owned();
    let daemons = TwoDaemons::start(Wanted { config, ..Wanted::default() }).await;
    for (times, (bad, key)) in [
        ("[[models]]\nid = \"new\"\n[limits]\nprocesses = 0\n", "processes"),
        ("surplus = 1\n", "surplus"),
        ("[[models", "line 1"),
    ]
    .into_iter()
    .enumerate()
    {
        daemons.reload(bad);
        said(&daemons, REFUSED, times + 1).await;
        assert!(daemons.log().contains(key), "{}", daemons.log());
        assert_eq!(models(&daemons).await, ["old"]);
        let status = daemons.client.get("/v1/status").await.json();
        let error = status["configuration"]["error"].as_str().unwrap_or_default();
        assert!(error.contains(key), "{status}");
    }
    daemons.reload("[[models]]\nid = \"good\"\n");
    said(&daemons, AGAIN, 1).await;
    assert_eq!(models(&daemons).await, ["good"]);
    let status = daemons.client.get("/v1/status").await.json();
    assert_eq!(status["configuration"]["error"], json!(null));
}

#[tokio::test]
async fn a_hundred_of_them_in_a_row_end_nothing() {
    let daemons = TwoDaemons::start(Wanted::default()).await;
    for _ in 0..100 {
        daemons.signal_frontd(Signal::SIGHUP);
    }
    assert_eq!(daemons.client.session("s").chat("one").await.content(), "echo: one");
    said(&daemons, AGAIN, 1).await;
}
