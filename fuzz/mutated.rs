//! Inputs made of good ones: shared by the bounded property tests (spawnd/tests/fuzz.rs,
//! frontd/tests/fuzz.rs). The numbers are pseudo-random and the same each time.

/// Inputs of each kind, unless SYNTHESIS_FUZZ_INPUTS says how many; a run for a release takes
/// 1,000,000.
pub(crate) fn count(default: usize) -> usize {
    std::env::var("SYNTHESIS_FUZZ_INPUTS").map_or(default, |text| text.parse().unwrap())
}

/// xorshift64*
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound.max(1)
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// One of the seeds with one to five changes.
pub(crate) fn mutated(numbers: &mut Numbers, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
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
