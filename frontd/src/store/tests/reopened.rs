//! Any sequence of changes, in groups of any size, reads the same before and after a restart.

use proto::bridge::TokenUsage;
use proto::ids::Seq;

use super::super::fixture::{
    append, begin, begin_with_key, conversation_of, end, key, open, process, pushed,
};
use super::super::{Batch, Change, StoreHandle};
use super::temporary;
use crate::run::RunId;

const USERS: [&str; 3] = ["a", "b", "c"];

/// xorshift64: the same sequence for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Runs and processes so far, whether or not they still live.
#[derive(Default)]
struct Made {
    runs: Vec<(RunId, u64)>,
    processes: Vec<super::super::ProcessRow>,
}

fn change(random: &mut Random, made: &mut Made) -> Change {
    let user = USERS[usize::try_from(random.below(3)).unwrap()];
    let any = usize::try_from(random.below(made.runs.len().max(1) as u64)).unwrap();
    match (random.below(14), made.runs.get_mut(any)) {
        (0 | 1, _) | (_, None) => {
            made.runs.push((RunId::random(), 0));
            let id = made.runs.last().unwrap().0;
            // Some keys are used again, which is refused.
            let idempotency = format!("k{}", random.below(8));
            if random.below(3) == 0 {
                begin_with_key(id, user, &idempotency)
            } else {
                begin(id, user)
            }
        }
        (2..=6, Some((run, seq))) => {
            // Now and then out of order, which is refused.
            *seq += if random.below(12) == 0 { 2 } else { 1 };
            append(*run, *seq, &"x".repeat(usize::try_from(random.below(3000)).unwrap()))
        }
        (7, Some((run, _))) => pushed(*run),
        (8, Some((run, _))) => end(*run, 10 + random.below(1000)),
        (9, Some((run, _))) => {
            let output_tokens = random.below(1000);
            Change::Usage {
                run: *run,
                usage: TokenUsage { output_tokens, ..TokenUsage::default() },
            }
        }
        (10, _) => Change::Conversation(conversation_of(user)),
        (11, _) => Change::Seen { key: key(user), hashes: vec![random.below(u64::MAX)] },
        (12, _) if random.below(6) == 0 => Change::ForgetSession(key(user)),
        (_, _) => match (made.processes.pop(), random.below(3)) {
            (Some(process), 0) => Change::ProcessGone(process.id),
            (Some(process), 1) => {
                let seq =
                    Change::ProcessSeq { process: process.id.clone(), seq: Seq(random.below(50)) };
                made.processes.push(process);
                seq
            }
            (known, _) => {
                made.processes.extend(known);
                made.processes.push(process(user, random.below(1000)));
                Change::ProcessUp(made.processes.last().unwrap().clone())
            }
        },
    }
}

/// Everything that can be read.
async fn everything(store: &StoreHandle, made: &Made) -> String {
    let mut text = String::new();
    for user in USERS {
        let conversation = store.conversation(key(user)).await.unwrap();
        let runs = store.runs_of(key(user), None, 1000).await.unwrap();
        text.push_str(&format!("{conversation:?}\n{runs:?}\n"));
    }
    for (run, _) in &made.runs {
        let row = store.run(*run).await.unwrap();
        let file = store.file(*run, 0).await.unwrap();
        let page = store.events(*run, 0).await.unwrap();
        let seqs: Vec<u64> = page.events.iter().map(|event| event.seq).collect();
        if let Some(row) = &row {
            assert_eq!(seqs, (1..=row.last_seq).collect::<Vec<_>>(), "no holes");
            let bytes: usize = page.events.iter().map(|event| event.json.len()).sum();
            assert_eq!(bytes as u64, row.bytes);
            assert_eq!(file.is_some(), row.finished.is_none());
        }
        text.push_str(&format!("{row:?} {file:?} {page:?}\n"));
    }
    for number in 0..8 {
        let keyed = store.keyed("local".to_owned(), format!("k{number}")).await.unwrap();
        text.push_str(&format!("{keyed:?}\n"));
    }
    let processes = store.processes().await.unwrap();
    let sessions = store.sessions(Some("local".to_owned()), None, 1000).await.unwrap();
    text.push_str(&format!("{processes:?}\n{sessions:?}\n{:?}", store.unfinished().await.unwrap()));
    text
}

#[tokio::test]
async fn any_changes_read_the_same_after_a_restart() {
    for seed in 1..=20 {
        let (_folder, path) = temporary();
        let mut random = Random(seed);
        let mut made = Made::default();
        for _ in 0..3 {
            let store = open(&path);
            for _ in 0..40 {
                let changes = (0..random.below(5)).map(|_| change(&mut random, &mut made));
                store.write(Batch { changes: changes.collect(), done: None });
            }
            // The second comes after the runs that broke were told so.
            for _ in 0..2 {
                store.committed(Vec::new()).await.unwrap();
            }
            let before = everything(&store, &made).await;
            drop(store);
            let store = open(&path);
            assert_eq!(before, everything(&store, &made).await, "seed {seed}");
            // As whoever comes back does: it goes on where the log ends.
            for (run, seq) in &mut made.runs {
                *seq = store.run(*run).await.unwrap().map_or(0, |row| row.last_seq);
            }
        }
    }
}
