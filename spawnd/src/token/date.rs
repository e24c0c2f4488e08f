//! Times as people write them, in UTC: `2027-01-31`, or `90d` from now. Pure.

const DAY: u64 = 24 * 60 * 60;
/// Enough for everybody, and far from any overflow.
const FURTHEST: u64 = 100 * 366 * DAY;

/// When something expires that shall at `text`: a date (at its beginning, as with chage(1)), or a number
/// of minutes, hours, days or weeks from now (`30m`, `12h`, `90d`, `8w`).
///
/// # Errors
/// Why it cannot.
pub fn expiry(text: &str, now: u64) -> Result<u64, &'static str> {
    const FORM: &str = "is no date like 2027-01-31 and no time like 30m, 12h, 90d or 8w";
    let at = match text.char_indices().next_back() {
        Some((at, unit @ ('m' | 'h' | 'd' | 'w'))) => {
            let number = digits(text.get(..at).unwrap_or_default()).ok_or(FORM)?;
            let unit = match unit {
                'm' => 60,
                'h' => 60 * 60,
                'd' => DAY,
                _ => 7 * DAY,
            };
            number.checked_mul(unit).and_then(|span| now.checked_add(span))
        }
        Some(_) | None => Some(seconds_of(text).ok_or(FORM)?),
    };
    match at {
        Some(at) if at <= now => Err("is not in the future"),
        Some(at) if at - now <= FURTHEST => Ok(at),
        Some(_) | None => Err("is more than a hundred years away"),
    }
}

fn digits(text: &str) -> Option<u64> {
    // The parser would take a sign.
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// The beginning of a day as `YYYY-MM-DD`.
fn seconds_of(date: &str) -> Option<u64> {
    let mut parts = date.split('-');
    let mut part = |length| parts.next().filter(|p| p.len() == length).and_then(digits);
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    if parts.next().is_some() || year < 1970 {
        return None;
    }
    // Written back it must be the same: there is no 30 February.
    let seconds = days_before(year, month, day)? * DAY;
    (self::date(seconds) == date).then_some(seconds)
}

/// Days from 1970-01-01, counting years from March, so that a leap day comes last.
fn days_before(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    // Of 1970-01-01, counted so.
    days.checked_sub(719_469)
}

/// The day of a time, as `YYYY-MM-DD`.
pub fn date(seconds: u64) -> String {
    let days = seconds / DAY + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (carry, month) = if month < 10 { (0, month + 3) } else { (1, month - 9) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + carry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("1970-03-01", 59 * DAY),
            ("2000-02-29", 951_782_400),
            ("2026-11-21", 1_795_219_200),
            ("2100-03-01", 4_107_542_400),
        ] {
            assert_eq!(seconds_of(text), Some(seconds), "{text}");
            assert_eq!(date(seconds + DAY - 1), text);
        }
        for day in 0..60_000 {
            assert_eq!(seconds_of(&date(day * DAY)), Some(day * DAY), "{day}");
        }
    }

    #[test]
    fn what_is_no_time_in_the_future_is_refused() {
        let now = 1_795_219_200;
        assert_eq!(expiry("90d", now), Ok(now + 90 * DAY));
        assert_eq!(expiry("30m", now), Ok(now + 1800));
        assert_eq!(expiry("12h", now), Ok(now + DAY / 2));
        assert_eq!(expiry("8w", now), Ok(now + 56 * DAY));
        assert_eq!(expiry("2027-01-31", now), Ok(1_801_353_600));
        for bad in [
            "",
            "d",
            "-1d",
            "+1d",
            "1.5d",
            "1y",
            "90",
            "2027-1-31",
            "2027-02-29",
            "2027-13-01",
            "2027-00-10",
            "2027-01-00",
            "2027-01-31-01",
            "20270131",
            "1969-12-31",
            "0d",
            "0000-01-01",
            "2026-11-21",
            "2226-01-01",
            "99999999999999999999w",
            "9999999999999999999w",
            "１d",
        ] {
            assert!(expiry(bad, now).is_err(), "{bad}");
        }
    }
}
