//! Is it the same request? For `Idempotency-Key`.

use sha2::{Digest, Sha256};

/// Of the API's name and the whole body.
pub fn fingerprint(api: &str, body: &[u8]) -> [u8; 32] {
    of_parts([api.as_bytes(), body])
}

/// Each part is preceded by its length, so that no two different lists run together.
pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_requests_alone_have_equal_fingerprints() {
        let all = [("chat", "{}"), ("responses", "{}"), ("chat", "{ }"), ("chat{", "}"), ("", "")];
        for (i, (api, body)) in all.iter().enumerate() {
            for (j, (other_api, other_body)) in all.iter().enumerate() {
                let same = fingerprint(api, body.as_bytes())
                    == fingerprint(other_api, other_body.as_bytes());
                assert_eq!(same, i == j, "{api} {other_api}");
            }
        }
    }

    /// It stands in the store.
    #[test]
    fn it_is_the_same_in_every_release() {
        let hex: String = fingerprint("chat", b"{}").iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "e62811bce20a555c58e048b200bdee8c37711f580ab498ba444a34968d9eac5c");
    }
}
