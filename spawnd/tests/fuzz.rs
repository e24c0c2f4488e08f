//! The bounded part of fuzz/: golden packets and the shipped file, mutated. The numbers are
//! pseudo-random and the same each time; SYNTHESIS_FUZZ_INPUTS says how many inputs there are.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "../../fuzz/inputs.rs"]
mod inputs;

use std::path::Path;

/// Of each kind; a run for a release takes 1,000,000.
fn count(default: usize) -> usize {
    std::env::var("SYNTHESIS_FUZZ_INPUTS").map_or(default, |text| text.parse().unwrap())
}

/// xorshift64*
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound.max(1)
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

fn mutated(numbers: &mut Numbers, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut bytes = seeds[numbers.below(seeds.len())].clone();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len() + 1);
        let until = (at + numbers.below(16)).min(bytes.len());
        let letter = bytes.get(at).is_some_and(u8::is_ascii_alphanumeric);
        match numbers.below(12) {
            // Mostly what leaves the grammar whole, so that the judgement is reached.
            6.. if letter => bytes[at] = *numbers.of(&[b"a", b"Z", b"0", b"9"]).first().unwrap(),
            0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            0 | 1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..until, [])),
            3 => drop(bytes.splice(at..until, numbers.of(words).bytes())),
            4 => {
                let part = bytes[at..until].repeat(1 + numbers.below(64));
                drop(bytes.splice(at..at, part));
            }
            _ => {
                let other = &seeds[numbers.below(seeds.len())];
                let from = numbers.below(other.len());
                let len = numbers.below(other.len() - from);
                drop(bytes.splice(at..until, other[from..from + len].iter().copied()));
            }
        }
    }
    bytes
}

fn golden(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn no_packet_of_frontds_makes_the_judgement_panic() {
    const WORDS: [&str; 14] = [
        "{",
        "[",
        "\"",
        "\\u0000",
        "\\ud800",
        "null",
        "-1",
        "1e999",
        "18446744073709551616",
        "..",
        "/",
        "\"spawn\":",
        "\"root\"",
        "\u{1f600}",
    ];
    let mut seeds = golden("proto/tests/golden/spawn/from_frontd");
    let (policy, mut numbers) = (inputs::policy(), Numbers(0x5eed));
    let mut spawns = seeds.clone();
    spawns.retain(|seed| inputs::spawn_packet(&policy, seed));
    // Most of the other calls are short and soon explored.
    seeds.extend(spawns.iter().cycle().take(64 * spawns.len()).cloned());
    let inputs = (0..count(150_000)).map(|_| mutated(&mut numbers, &seeds, &WORDS));
    let judged = inputs.filter(|bytes| inputs::spawn_packet(&policy, bytes)).count();
    // Else the judgement was not reached at all.
    assert!(judged > 1000, "{judged}");
}

#[test]
fn no_file_makes_its_reader_panic() {
    const WORDS: [&str; 16] = [
        "[[users.allow]]\n",
        "[users.defaults]\n",
        "\n",
        "=",
        "\"",
        "'''",
        "{",
        "[",
        "\u{0}",
        "{home}",
        "99999999999G",
        "-1",
        "groups = [\"docker\"]\n",
        "name = \"a\"\n",
        "# ",
        "0x",
    ];
    let shipped = include_str!("../../systemd/spawnd.toml").to_owned();
    let shown = shipped.replace("\n#", "\n");
    let small =
        "frontd = 1\n[claude]\npath = \"/c\"\n[[users.allow]]\nname = \"a\"\nmemory = \"4G\"\n";
    let seeds =
        [shipped, shown, small.to_owned(), format!("{small}account = {{ uid = 1, gid = 1 }}")];
    let seeds = seeds.map(String::into_bytes);
    let mut numbers = Numbers(0x70_3100);
    for _ in 0..count(50_000) {
        inputs::config(&mutated(&mut numbers, &seeds, &WORDS));
    }
}
