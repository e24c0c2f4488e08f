//! The bounded part of fuzz/: golden packets and the shipped file, mutated. SYNTHESIS_FUZZ_INPUTS says
//! how many inputs there are.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "../../fuzz/inputs.rs"]
mod inputs;
#[path = "../../fuzz/mutated.rs"]
mod mutated;

use std::path::Path;

use mutated::{Numbers, count, mutated};

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

#[test]
fn nobody_makes_a_grant_of_others_and_no_table_makes_its_reader_panic() {
    const WORDS: [&str; 8] = [".", "peer.", "token.", "9999999999", "-", "0", "a", "\u{e9}"];
    let (seeds, mut numbers) = (inputs::grants(), Numbers(0x6a17));
    assert!(seeds.iter().all(|seed| inputs::grant(seed)));
    for _ in 0..count(50_000) {
        inputs::grant(&mutated(&mut numbers, &seeds, &WORDS));
    }
    const PARTS: [&str; 8] =
        ["{", "\n", "\"id\":\"a\"", "null", "[]", "\u{1b}", "18446744073709551616", "\"chat\""];
    let line = |id: &str, sha256: &str| {
        format!(
            "{{\"id\":\"{id}\",\"user\":\"al\",\"principal\":\"team\",\"scopes\":[\"chat\",\"admin\"],\
             \"sha256\":\"{}\",\"created\":1795219200,\"expires\":1801353600}}\n",
            sha256.repeat(32)
        )
    };
    let seeds = [line("a", "0f"), line("b", "f0") + &line("c", "00"), String::new()];
    let seeds = seeds.map(String::into_bytes);
    assert!(seeds.iter().all(|seed| inputs::tokens(seed)));
    let read = (0..count(50_000)).map(|_| mutated(&mut numbers, &seeds, &PARTS));
    let read = read.filter(|bytes| inputs::tokens(bytes)).count();
    assert!(read > 1000, "{read}");
}
