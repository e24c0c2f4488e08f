//! The wire between `channel hook` and its channel, on a local stream socket: a header of
//! [`HEADER`] bytes, the event's name, the body; then one byte back when the channel has it.
//! std only: both the hook process and the server use it.

/// flags, length of the name, length of the body (little endian).
pub(crate) const HEADER: usize = 6;
/// The byte that says: the hook has its place in the order of events.
pub(crate) const TAKEN: u8 = 1;
/// Flag: the body is not whole.
const CUT: u8 = 1;
/// Bytes of an event's name.
const NAME: usize = 64;

/// Header and name of a hook whose body follows.
pub(crate) fn opening(event: &str, cut: bool, body: usize) -> Option<Vec<u8>> {
    let name = u8::try_from(event.len()).ok().filter(|name| usize::from(*name) <= NAME)?;
    let mut bytes = vec![if cut { CUT } else { 0 }, name];
    bytes.extend_from_slice(&u32::try_from(body).ok()?.to_le_bytes());
    bytes.extend_from_slice(event.as_bytes());
    Some(bytes)
}

pub(crate) struct Opening {
    pub(crate) cut: bool,
    pub(crate) name: usize,
    pub(crate) body: usize,
}

/// `None` when the lengths are beyond `limit` or [`NAME`].
pub(crate) fn read_opening(header: [u8; HEADER], limit: usize) -> Option<Opening> {
    let [flags, name, a, b, c, d] = header;
    let body = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
    let name = usize::from(name);
    (flags <= CUT && name <= NAME && body <= limit).then_some(Opening {
        cut: flags & CUT != 0,
        name,
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_over_the_limits_are_refused() {
        assert!(opening(&"x".repeat(65), false, 0).is_none());
        let header: [u8; HEADER] = opening("Stop", true, 300).unwrap()[..6].try_into().unwrap();
        let read = read_opening(header, 300).unwrap();
        assert!((read.cut, read.name, read.body) == (true, 4, 300));
        assert!(read_opening(header, 299).is_none());
        assert!(read_opening([0, 65, 0, 0, 0, 0], 10).is_none());
        assert!(read_opening([2, 4, 0, 0, 0, 0], 10).is_none());
        assert!(read_opening([255; 6], 10).is_none());
    }
}
