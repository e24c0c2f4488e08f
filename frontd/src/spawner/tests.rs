//! Against a spawnd that the test plays.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use proto::ids::{ConversationId, Secret, Seq, UnixUser};
use proto::limits;
use proto::spawn::{
    Event, ExitCause, FromFrontd, FromSpawnd, Listed, ListedState, Usage, decode, encode,
};
use tokio_seqpacket::ancillary::{AncillaryMessageWriter, OwnedAncillaryMessage};

use super::*;
use crate::identity::{SessionKey, of_first_version};
use crate::session::directory::{Door, Taken};
use crate::session::machine::{FromProcess, Input};
use crate::session::message::Message;
use crate::store::ProcessRow;

/// Longer than anything here takes; a hang fails.
const PATIENCE: Duration = Duration::from_secs(30);

fn conversation() -> ConversationId {
    serde_json::from_value(serde_json::json!("6f2b0f8e-58a5-4f4e-9c42-0b8a3a1f8a11")).unwrap()
}

fn key() -> SessionKey {
    of_first_version("local", "a").unwrap()
}

fn door(inbox: &mpsc::Sender<Message>) -> Arc<Door> {
    let (id, secret) = (SessionId::random(), Secret::random());
    let fresh = Door::new(id, key(), conversation(), 7, &secret, inbox.clone());
    let row = ProcessRow { last_seq: Seq(41), ..fresh.row() };
    let restored = Door::again(&row, inbox.clone());
    assert!(restored.opens_to(&secret) && restored.held_seq() == Seq(41));
    assert_eq!(restored.take(Seq(41)), Taken::Before);
    assert_eq!(restored.take(Seq(50)), Taken::New, "what was held is left out, once");
    assert_eq!(restored.take(Seq(52)), Taken::Gap);
    Arc::new(restored)
}

/// A frontd with one session of an earlier one's, and the end of spawnd.
struct Stage {
    spawnd: UnixSeqpacket,
    spawner: Spawner,
    door: Arc<Door>,
    inbox: mpsc::Receiver<Message>,
}

impl Stage {
    /// Of a spawnd that lists these.
    async fn new(listed: impl FnOnce(&SessionId) -> Vec<Listed>) -> Self {
        Self::with(|_, _| {}, listed).await
    }

    /// `more` adds what else frontd knows.
    async fn with(
        more: impl FnOnce(&Directory, &mpsc::Sender<Message>),
        listed: impl FnOnce(&SessionId) -> Vec<Listed>,
    ) -> Self {
        let (sender, inbox) = mpsc::channel(16);
        let door = door(&sender);
        let directory = Arc::new(Directory::default());
        directory.add_door(Arc::clone(&door));
        more(&directory, &sender);
        let (spawner, connection) = new(directory);
        let (own, spawnd) = UnixSeqpacket::pair().unwrap();
        tokio::spawn(connection.serve(Address::Connected(own)));
        let mut stage = Self { spawnd, spawner, door, inbox };
        stage.greet(listed).await;
        stage
    }

    async fn greet(&mut self, listed: impl FnOnce(&SessionId) -> Vec<Listed>) {
        assert!(read(&self.spawnd).await == FromFrontd::Hello { version: VERSION });
        self.say(&FromSpawnd::Hello { version: VERSION }).await;
        let (id, call) = self.asked().await;
        assert!(call == Call::List { after: None });
        let sessions = listed(&self.door.process);
        self.answer(id, Answer::Sessions { sessions, more: false }).await;
    }

    async fn asked(&self) -> (u64, Call) {
        match read(&self.spawnd).await {
            FromFrontd::Request { id, call } => (id, call),
            FromFrontd::Hello { .. } => panic!("a second hello"),
        }
    }

    async fn say(&self, packet: &FromSpawnd) {
        self.spawnd.send(&encode(packet)).await.unwrap();
    }

    async fn answer(&self, id: u64, answer: Answer) {
        self.say(&FromSpawnd::Answer { id, answer }).await;
    }

    async fn answer_with(&self, id: u64, answer: Answer, leader: BorrowedFd<'_>) {
        let packet = encode(&FromSpawnd::Answer { id, answer });
        let mut space = [0; 64];
        let mut ancillary = AncillaryMessageWriter::new(&mut space);
        let leaders = [leader];
        ancillary.add_fds(&leaders).unwrap();
        let parts = [std::io::IoSlice::new(&packet)];
        self.spawnd.send_vectored_with_ancillary(&parts, &mut ancillary).await.unwrap();
    }

    async fn heard(&mut self) -> Message {
        let heard = tokio::time::timeout(PATIENCE, self.inbox.recv()).await;
        heard.expect("a message in time").expect("an inbox")
    }

    fn refused() -> Answer {
        Answer::Refused { code: RefusalCode::NoSession, message: String::new() }
    }
}

async fn read(spawnd: &UnixSeqpacket) -> FromFrontd {
    let mut buffer = vec![0; limits::SPAWN_PACKET];
    let received = tokio::time::timeout(PATIENCE, spawnd.recv(&mut buffer)).await;
    let received = received.expect("a packet in time").unwrap();
    decode(&buffer[..received.bytes_read()]).unwrap()
}

fn entry(session: &SessionId, state: ListedState) -> Listed {
    let user = UnixUser::new("al").unwrap();
    Listed { session: session.clone(), conversation: conversation(), user, state }
}

fn running(ready: Option<u32>) -> ListedState {
    ListedState::Running { pid: 1, resumed: false, ready }
}

fn is_ready(message: &Message, pid: u32) -> bool {
    matches!(message, Message::Input(Input::Of(_, FromProcess::ReadyPid(said))) if *said == pid)
}

#[tokio::test]
async fn a_known_session_is_told_again_and_its_leader_handed_over() {
    let mut stage = Stage::new(|own| vec![entry(own, running(Some(9)))]).await;
    let (id, call) = stage.asked().await;
    let session = stage.door.process.clone();
    assert!(call == Call::Adopt { session: session.clone() });
    let pty = nix::pty::openpty(None, None).unwrap();
    stage.answer_with(id, Answer::Adopted { session }, pty.master.as_fd()).await;
    assert!(is_ready(&stage.heard().await, 9));
    let Message::Adopted { process, .. } = stage.heard().await else { panic!("no leader") };
    assert_eq!(process, stage.door.process);
    assert!(!stage.door.needs_leader());
    tokio::time::timeout(PATIENCE, stage.spawner.connected()).await.unwrap();
}

#[tokio::test]
async fn a_session_that_nobody_knows_is_asked_to_end_and_its_exit_forgotten() {
    let stranger = SessionId::random();
    let mut stage = Stage::new(|_| vec![entry(&stranger, running(None))]).await;
    let session = stranger.clone();
    let (id, call) = stage.asked().await;
    assert!(call == Call::Signal { session: session.clone(), signal: Signal::Term });
    stage.answer(id, Answer::Done {}).await;
    let (cause, usage) = (ExitCause::Code { code: 143 }, Usage::default());
    stage.say(&FromSpawnd::Event(Event::Exited { session, cause, usage })).await;
    assert!(stage.asked().await.1 == Call::Forget { session: stranger });
    // spawnd does not know ours any more.
    let Message::Exited { process, cause } = stage.heard().await else { panic!("no exit") };
    assert_eq!((process, cause), (stage.door.process.clone(), ExitCause::Unknown {}));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_still_starts_is_taken_over_once_it_runs() {
    let stranger = SessionId::random();
    let listed = |own: &SessionId| {
        vec![entry(own, ListedState::Starting {}), entry(&stranger, ListedState::Starting {})]
    };
    let mut stage = Stage::new(listed).await;
    let session = stage.door.process.clone();
    let (adopt, end) = (
        Call::Adopt { session: session.clone() },
        Call::Signal { session: stranger.clone(), signal: Signal::Term },
    );
    for _ in 0..2 {
        for _ in 0..2 {
            let (id, call) = stage.asked().await;
            assert!(call == adopt || call == end);
            stage.answer(id, Stage::refused()).await;
        }
    }
    let pty = nix::pty::openpty(None, None).unwrap();
    for _ in 0..2 {
        let (id, call) = stage.asked().await;
        if call == adopt {
            let answer = Answer::Adopted { session: session.clone() };
            stage.answer_with(id, answer, pty.master.as_fd()).await;
        } else {
            stage.answer(id, Answer::Done {}).await;
        }
    }
    assert!(matches!(stage.heard().await, Message::Adopted { .. }));
    // Settled: what is asked next is what somebody asks.
    stage.spawner.forget(stranger.clone());
    assert!(stage.asked().await.1 == Call::Forget { session: stranger });
}

#[tokio::test(start_paused = true)]
async fn a_session_that_never_gets_to_run_is_told_as_ended() {
    let mut stage = Stage::new(|own| vec![entry(own, ListedState::Starting {})]).await;
    loop {
        tokio::select! {
            packet = read(&stage.spawnd) => {
                let FromFrontd::Request { id, .. } = packet else { panic!("a second hello") };
                stage.answer(id, Stage::refused()).await;
            }
            message = stage.inbox.recv() => {
                let Some(Message::Exited { process, .. }) = message else { panic!("no exit") };
                assert_eq!(process, stage.door.process);
                return;
            }
        }
    }
}

#[tokio::test]
async fn a_spawn_whose_answer_was_lost_is_ended_and_one_that_is_served_is_left_alone() {
    let (lost, served) = (SessionId::random(), SessionId::random());
    let doors = |directory: &Directory, inbox: &mpsc::Sender<Message>| {
        for id in [&lost, &served] {
            let secret = Secret::random();
            let door = Door::new(id.clone(), key(), conversation(), 7, &secret, inbox.clone());
            directory.add_door(Arc::new(door));
        }
        directory.door(&served).unwrap().set_started();
    };
    let listed = |own: &SessionId| {
        let exited = ListedState::Exited { cause: ExitCause::Oom {}, usage: Usage::default() };
        vec![entry(&served, running(Some(5))), entry(&lost, running(None)), entry(own, exited)]
    };
    let mut stage = Stage::with(doors, listed).await;
    assert!(is_ready(&stage.heard().await, 5));
    let (id, call) = stage.asked().await;
    assert!(call == Call::Signal { session: lost.clone(), signal: Signal::Term });
    stage.answer(id, Answer::Done {}).await;
    let Message::Exited { cause, .. } = stage.heard().await else { panic!("no exit") };
    assert_eq!(cause, ExitCause::Oom {});
}

/// The next packet, and the descriptors that came with it.
async fn read_all(spawnd: &UnixSeqpacket) -> (FromFrontd, Vec<OwnedFd>) {
    let (mut buffer, mut space) = (vec![0; limits::SPAWN_PACKET], [0; 64]);
    let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
    let received = spawnd.recv_vectored_with_ancillary(&mut parts, &mut space);
    let (info, ancillary) = tokio::time::timeout(PATIENCE, received).await.unwrap().unwrap();
    let fds = ancillary.into_messages().flat_map(|message| match message {
        OwnedAncillaryMessage::FileDescriptors(fds) => fds.collect(),
        _ => Vec::new(),
    });
    let (length, fds) = (info.bytes_read(), fds.collect());
    (decode(&buffer[..length]).unwrap(), fds)
}

#[tokio::test]
async fn a_peer_is_verified_by_its_own_socket_and_a_token_by_its_text() {
    let stage = Stage::new(|_| Vec::new()).await;
    let (client, accepted) = std::os::unix::net::UnixStream::pair().unwrap();
    let accepted = Arc::new(crate::foreign::Socket::new(accepted).unwrap());
    let token = proto::ids::TokenText::new("syn-x".to_owned()).unwrap();
    for (credential, socket) in
        [(Credential::Peer {}, Some(accepted)), (Credential::Token { token }, None)]
    {
        let spawner = stage.spawner.clone();
        let (asked, came) = (credential.clone(), usize::from(socket.is_some()));
        let asking = tokio::spawn(async move { spawner.verify(asked, socket).await });
        let (packet, mut fds) = read_all(&stage.spawnd).await;
        let FromFrontd::Request { id, call } = packet else { panic!("a second hello") };
        assert!(call == Call::Verify { credential });
        assert_eq!(fds.len(), came);
        if let Some(fd) = fds.pop() {
            std::io::Write::write_all(&mut &client, b"x").unwrap();
            let mut byte = [0];
            let mut copy = std::os::unix::net::UnixStream::from(fd);
            std::io::Read::read_exact(&mut copy, &mut byte).unwrap();
            assert_eq!(&byte, b"x");
        }
        let (who, grant) = (Who::Peer { uid: 7 }, Grant::new("g".to_owned()).unwrap());
        let verified = Answer::Verified { who: who.clone(), grant: grant.clone() };
        stage.answer(id, verified).await;
        assert_eq!(asking.await.unwrap(), Ok((who, grant)));
    }
    // Neither leaves this process.
    assert!(stage.spawner.verify(Credential::Peer {}, None).await.is_err());
}
