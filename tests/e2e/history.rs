//! What claude is told of the past: all of it that it has not seen, and nothing twice.

use serde_json::{Value, json};
use tests::harness::{Options, Server, client};

use super::sessions::kill_seen;
use super::witness::{conversation, prompts, transcripts, until};

/// An answer that is long enough to be recognised.
const KNOWN: &str = "I have always said that the answer to this is forty-two.";

async fn post(client: &client::Client, messages: &[(&str, &str)]) -> String {
    client.post("/v1/chat/completions", &conversation(messages)).await.content()
}

#[tokio::test]
async fn a_foreign_transcript_is_told_once() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("imported");
    let mut said = vec![("u", "What is <it>?"), ("a", KNOWN), ("u", "SAY first")];
    assert_eq!(post(&session, &said).await, "first");
    said.extend([("a", "first"), ("u", "SAY second")]);
    assert_eq!(post(&session, &said).await, "second");
    // A client that tells nothing of the past goes on where it was.
    assert_eq!(session.chat("SAY third").await.content(), "third");

    let prompts = prompts(&server);
    let [first, second, third] = &prompts[..] else { panic!("{prompts:?}") };
    assert!(first.has_context() && first.text.contains(KNOWN), "{first:?}");
    assert!(first.text.contains("What is &lt;it&gt;?"), "nothing said is a tag: {first:?}");
    assert_eq!(first.text.matches("SAY first").count(), 1, "what is new is no past: {first:?}");
    for later in [second, third] {
        assert!(!later.has_context() && !later.text.contains(KNOWN), "{later:?}");
    }
    assert_eq!(transcripts(&server).len(), 1, "one conversation");
    assert_eq!(server.claudes().len(), 1);
}

#[tokio::test]
async fn edited_history_begins_a_new_conversation() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("edited");
    post(&session, &[("u", "one")]).await;
    post(&session, &[("u", "one"), ("a", "echo: one"), ("u", "two")]).await;
    let old = server.claudes();
    let mut said = vec![("u", "one, but otherwise"), ("a", KNOWN), ("u", "three")];
    let answer = post(&session, &said).await;
    assert!(answer.ends_with("\n\nthree"), "{answer}");
    let new = server.claudes();
    assert!(new.len() == 1 && new != old, "the old one was stopped: {old:?} {new:?}");

    let seen = prompts(&server);
    let (before, last) = (&seen[..2], &seen[2]);
    assert!(before.iter().all(|prompt| prompt.conversation == before[0].conversation));
    assert_ne!(last.conversation, before[0].conversation);
    assert!(last.has_context() && last.text.contains("one, but otherwise"), "{last:?}");
    assert!(!last.text.contains("\ntwo\n"), "what was taken back is gone: {last:?}");

    // From then on it is a conversation like any other.
    said.extend([("a", "echo: three"), ("u", "four")]);
    assert_eq!(post(&session, &said).await, "echo: four");
    assert_eq!(server.claudes(), new);
    let seen = prompts(&server);
    assert_eq!((seen.len(), &seen[3].conversation), (4, &last.conversation));
}

#[tokio::test]
async fn an_answer_that_is_asked_for_anew_is_given_in_a_new_conversation() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("regenerated");
    post(&session, &[("u", "one")]).await;
    let again = [("u", "one"), ("a", "echo: one"), ("u", "two")];
    post(&session, &again).await;
    let answer = post(&session, &again).await;
    assert!(answer.ends_with("\n\ntwo"), "{answer}");
    let seen = prompts(&server);
    assert_eq!(seen.len(), 3, "no repetition, but a second answer");
    assert_ne!(seen[2].conversation, seen[0].conversation);
    assert!(seen[2].has_context() && seen[2].text.contains("echo: one"), "{:?}", seen[2]);
}

#[tokio::test]
async fn what_was_said_elsewhere_meanwhile_is_told_once() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("elsewhere");
    post(&session, &[("u", "one")]).await;
    let before = server.claudes();
    let mut said = vec![("u", "one"), ("a", "echo: one"), ("u", "aside"), ("a", KNOWN)];
    said.push(("u", "SAY three"));
    assert_eq!(post(&session, &said).await, "three");
    said.extend([("a", "three"), ("u", "four")]);
    assert_eq!(post(&session, &said).await, "echo: four");
    assert_eq!(server.claudes(), before, "the same claude");
    let seen = prompts(&server);
    assert!(seen[1].has_context(), "{:?}", seen[1]);
    assert!(seen[1].text.contains("aside") && seen[1].text.contains(KNOWN), "{:?}", seen[1]);
    assert!(!seen[1].text.contains("echo: one"), "it knows that: {:?}", seen[1]);
    assert!(!seen[2].has_context(), "{:?}", seen[2]);
}

/// Takes the conversation's transcript away, as a clean-up of the CLI's folder does.
fn lose_transcripts(server: &Server) -> Vec<String> {
    let lost = transcripts(server);
    assert!(!lost.is_empty());
    for file in &lost {
        std::fs::remove_file(file).unwrap();
    }
    lost.iter().map(|file| file.display().to_string()).collect()
}

#[tokio::test]
async fn a_conversation_that_the_cli_lost_is_told_from_our_own_log() {
    let server = Server::start(Options::default()).await;
    let session = server.client.session("lost");
    session.chat("TEXT_ONLY I was told so.").await.content();
    session.chat("MUTE this one").await.content();
    let [claude] = server.claudes()[..] else { panic!("one claude") };
    kill_seen(&server, claude).await;
    lose_transcripts(&server);
    assert_eq!(session.chat("SAY three").await.content(), "three");
    assert_eq!(session.chat("four").await.content(), "echo: four");
    let seen = prompts(&server);
    let [third, fourth] = &seen[..] else { panic!("{seen:?}") };
    assert!(third.has_context(), "{third:?}");
    // In its order: what was said, what was answered, what was said next.
    let places = ["TEXT_ONLY I was", "<said by=\"you\">\nI was told so.", "MUTE this one"];
    let places: Vec<Option<usize>> = places.iter().map(|words| third.text.find(words)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{third:?}");
    assert!(!fourth.has_context(), "once: {fourth:?}");
}

#[tokio::test]
async fn an_idle_conversation_that_the_cli_lost_is_told_all_that_it_has_not_seen() {
    let config = "[limits]\nidle_seconds = 1\n".to_owned();
    let server = Server::start(Options { config, ..Options::default() }).await;
    let session = server.client.session("idle and lost");
    post(&session, &[("u", "one")]).await;
    until("the idle claude is stopped", || server.claudes().is_empty()).await;
    lose_transcripts(&server);
    // The client tells of something that no claude of ours has seen, beside what one had.
    let said = [("u", "one"), ("a", "echo: one"), ("u", "aside"), ("a", KNOWN), ("u", "SAY three")];
    assert_eq!(post(&session, &said).await, "three");
    let seen = prompts(&server);
    let [only] = &seen[..] else { panic!("{seen:?}") };
    for words in ["\none\n", "echo: one", "aside", KNOWN] {
        assert!(only.text.contains(words), "{words}: {only:?}");
    }
}

/// The message and all that is told with it go in one frame.
#[tokio::test]
async fn a_long_past_makes_room_for_a_long_message() {
    let server = Server::start(Options::default()).await;
    let quotes = |count: usize| "\"".repeat(count);
    let mut messages: Vec<Value> = Vec::new();
    for number in 0..30 {
        let text = format!("number {number} {}", quotes(16 * 1024));
        messages.push(json!({ "role": "user", "content": text }));
        messages.push(json!({ "role": "assistant", "content": format!("answer {number}") }));
    }
    // As JSON nearly all of a frame.
    for size in [500 * 1024, 300 * 1024, 1024] {
        let session = server.client.session(&format!("long {size}"));
        let mut body = json!({ "messages": messages });
        let new = format!("SAY taken\n{}", quotes(size));
        let all = body["messages"].as_array_mut().unwrap();
        all.push(json!({ "role": "user", "content": new }));
        let answer = session.post("/v1/chat/completions", &body).await;
        assert!(answer.content().starts_with("taken\n"), "{size}");
        let seen = prompts(&server);
        let last = &seen[seen.len() - 1];
        assert!(last.text.contains(&new), "{size}: the message is whole");
        assert!(last.has_context() && last.text.contains("are left out here.)"), "{size}");
        let told = (0..30).filter(|number| last.text.contains(&format!("answer {number}\n")));
        let told: Vec<i32> = told.collect();
        match size {
            1024 => assert!(told.len() > 10 && told.last() == Some(&29), "{told:?}"),
            307_200 => assert!(told.len() > 5 && told.last() == Some(&29), "{told:?}"),
            _ => {}
        }
    }
}
