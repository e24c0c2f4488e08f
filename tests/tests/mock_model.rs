//! The mock model over HTTP, asked as the CLI asks it.
#![allow(clippy::unwrap_used, reason = "a test's own steps may fail it")]

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tests::mock_model::{Kind, MockModel};

const SOON: Duration = Duration::from_secs(10);

async fn send(mock: &MockModel, request: Request<Full<Bytes>>) -> Response<Incoming> {
    let stream = tokio::net::TcpStream::connect(mock.addr()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

async fn ask(mock: &MockModel, content: &str) -> Response<Incoming> {
    let message = format!(
        "<channel source=\"synthesis\" chat_id=\"c\" message_id=\"m1\">\n{content}\n</channel>"
    );
    let body = json!({"model": "m", "stream": true, "tools": [{"name": "mcp__synthesis__reply"}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": message}]}]});
    let request = Request::post("/v1/messages?beta=true").header("host", "mock");
    send(mock, request.body(Full::from(body.to_string())).unwrap()).await
}

async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_message_is_answered_by_a_streamed_call_of_the_reply_tool() {
    let mock = MockModel::start().await.unwrap();
    let events = text(ask(&mock, "hello").await).await;
    let input: String = events
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|event| event["delta"]["partial_json"].as_str().map(str::to_owned))
        .collect();
    let input: Value = serde_json::from_str(&input).unwrap();
    assert_eq!(input, json!({"text": "You said: hello", "final": true, "message_id": "m1"}));
    let [request] = &mock.log().turn_requests()[..] else { panic!("one request") };
    assert_eq!(request.json()["model"], "m");
    assert_eq!((mock.log().turns(), mock.log().total()), (1, 1));
}

#[tokio::test]
async fn errors_and_unknown_routes_are_json() {
    let mock = MockModel::start().await.unwrap();
    let refused = ask(&mock, "API_ERROR 529").await;
    assert_eq!(refused.status().as_u16(), 529);
    assert!(text(refused).await.contains("overloaded_error"));
    let request = Request::get("/nowhere").header("host", "mock").body(Full::default()).unwrap();
    let unknown = send(&mock, request).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert!(text(unknown).await.contains("not_found_error"));
    assert_eq!(mock.log().requests().last().unwrap().kind, Kind::Unknown);
    for route in ["/", "/api/hello"] {
        let request = Request::get(route).header("host", "mock").body(Full::default()).unwrap();
        assert_eq!(send(&mock, request).await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn a_hanging_answer_ends_with_its_client() {
    let mock = MockModel::start().await.unwrap();
    let mut response = ask(&mock, "HANG").await;
    response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(mock.log().hanging(), 1);
    drop(response);
    mock.log().wait_until(SOON, |log| log.hanging() == 0).await.unwrap();
}
