//! Grants: this daemon's own word, given to frontd, that somebody was proved. Nothing is kept for one:
//! it says itself who and until when, under a seal that only spawnd can make. Pure.
//!
//! ```text
//! peer.1000.3723.<HMAC-SHA-256 of what is before it, and of the boot>
//! token.k3x7q2mz.3723.…
//! ```
//!
//! The time is CLOCK_BOOTTIME's, which nobody can set and which goes on in suspend; the seal names
//! the boot that it is counted from. So a clock that jumps prolongs no grant, and a reboot ends all.

use hmac_sha256::HMAC;
use proto::ids::{Grant, Secret, TokenId};
use proto::limits;
use subtle::ConstantTimeEq as _;

use crate::token::hex;

/// Who was proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Peer(u32),
    Token(TokenId),
}

/// What seals are made with.
pub struct Seal {
    key: Secret,
    /// Of the kernel (random(4)).
    boot: String,
}

impl Seal {
    pub fn new(key: Secret, boot: String) -> Self {
        Self { key, boot }
    }

    /// `now` in seconds since the boot.
    pub fn grant(&self, subject: &Subject, now: u64) -> Grant {
        let until = now.saturating_add(limits::GRANT.as_secs());
        let said = match subject {
            Subject::Peer(uid) => format!("peer.{uid}.{until}"),
            Subject::Token(id) => format!("token.{id}.{until}"),
        };
        let sealed = format!("{said}.{}", self.seal(&said));
        Grant::new(sealed).expect("plain characters, and fewer than 128 of them")
    }

    /// Who was proved by a grant of ours.
    ///
    /// # Errors
    /// Why it is none, or none any more.
    pub fn check(&self, grant: &Grant, now: u64) -> Result<Subject, &'static str> {
        let forged = "the grant is none of spawnd's";
        let (said, seal) = grant.expose().rsplit_once('.').ok_or(forged)?;
        if !bool::from(self.seal(said).as_bytes().ct_eq(seal.as_bytes())) {
            return Err(forged);
        }
        // From here on these are our own words.
        let mut parts = said.split('.');
        let subject = match (parts.next(), parts.next()) {
            (Some("peer"), Some(uid)) => uid.parse().ok().map(Subject::Peer),
            (Some("token"), Some(id)) => TokenId::new(id).ok().map(Subject::Token),
            _ => None,
        };
        let until: Option<u64> = parts.next().and_then(|until| until.parse().ok());
        match (subject, until) {
            (Some(subject), Some(until)) if now < until => Ok(subject),
            (Some(_), Some(_)) => Err("the grant has expired"),
            (None, _) | (_, None) => Err(forged),
        }
    }

    fn seal(&self, said: &str) -> String {
        let mut seal = HMAC::new(self.key.expose());
        for part in ["synthesis grant 1\n", &self.boot, "\n", said] {
            seal.update(part);
        }
        hex(&seal.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 5000;
    const GOOD_FOR: u64 = limits::GRANT.as_secs();

    fn seal() -> Seal {
        Seal::new(Secret::new("ab".repeat(32)).unwrap(), "boot".to_owned())
    }

    fn subjects() -> [Subject; 2] {
        [Subject::Peer(1000), Subject::Token(TokenId::new("k3x7q2mz").unwrap())]
    }

    #[test]
    fn a_grant_is_good_for_its_time_and_no_longer() {
        for subject in subjects() {
            let grant = seal().grant(&subject, NOW);
            assert_eq!(seal().check(&grant, NOW + GOOD_FOR - 1), Ok(subject));
            assert_eq!(seal().check(&grant, NOW + GOOD_FOR), Err("the grant has expired"));
        }
    }

    #[test]
    fn no_other_key_and_no_other_boot_makes_one() {
        let other_key = Seal::new(Secret::new("ac".repeat(32)).unwrap(), "boot".to_owned());
        let other_boot = Seal::new(Secret::new("ab".repeat(32)).unwrap(), "boo".to_owned());
        for subject in subjects() {
            for foreign in [&other_key, &other_boot] {
                assert!(seal().check(&foreign.grant(&subject, NOW), NOW).is_err());
            }
        }
    }

    #[test]
    fn a_grant_with_any_character_changed_is_none() {
        for subject in subjects() {
            let text = seal().grant(&subject, NOW).expose().to_owned();
            for at in 0..text.len() {
                for other in ['0', '9', '.', 'a', 'z', '-'] {
                    let mut changed = text.clone();
                    changed.replace_range(at..=at, &other.to_string());
                    if changed != text {
                        let changed = Grant::new(changed).unwrap();
                        assert!(seal().check(&changed, NOW).is_err(), "{}", changed.expose());
                    }
                }
                for cut in [&text[at..], &text[..at]] {
                    let Ok(cut) = Grant::new(cut.to_owned()) else { continue };
                    assert!(cut.expose() == text || seal().check(&cut, NOW).is_err());
                }
            }
            let longer = Grant::new(format!("{text}0")).unwrap();
            assert!(seal().check(&longer, NOW).is_err());
        }
    }

    #[test]
    fn what_is_sealed_and_says_nothing_is_none() {
        for said in
            ["", "peer", "peer.1", "peer.-1.9999", "peer.x.9999", "token.A.9999", "root.0.9999"]
        {
            let grant = Grant::new(format!("{said}.{}", seal().seal(said))).unwrap();
            assert!(seal().check(&grant, NOW).is_err(), "{said}");
        }
    }
}
