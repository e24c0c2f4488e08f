//! A path's query: a few named values, each at most once. Other names are ignored, as clients and
//! proxies add their own.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::error::ApiError;

/// What stands behind the question mark.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub fn of(uri: &'a http::Uri) -> Self {
        Self(uri.query().unwrap_or_default())
    }

    /// The value of `name`, percent-decoded.
    ///
    /// # Errors
    /// 400 when it stands twice or is not UTF-8.
    pub fn text(self, name: &str) -> Result<Option<Cow<'a, str>>, ApiError> {
        let pairs = self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(refuse(name, "stands twice"));
        }
        let text = percent_encoding::percent_decode_str(value).decode_utf8();
        text.map(Some).map_err(|_| refuse(name, "is not UTF-8"))
    }

    /// The value of `name` as `true` or `false`.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn flag(self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.text(name)?.as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(refuse(name, "must be `true` or `false`")),
        }
    }

    /// The value of `name` as a number within `bounds`.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn number<N: FromStr + PartialOrd + std::fmt::Display>(
        self,
        name: &str,
        bounds: &RangeInclusive<N>,
    ) -> Result<Option<N>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match number(&text).filter(|number| bounds.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let rule = format!("must be a number from {} to {}", bounds.start(), bounds.end());
                Err(refuse(name, &rule))
            }
        }
    }
}

/// Digits alone: no sign, no blank.
pub fn number<N: FromStr>(text: &str) -> Option<N> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn refuse(name: &str, rule: &str) -> ApiError {
    ApiError::bad_request("invalid_query", format!("the query's `{name}` {rule}")).with_param(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number_of(query: &str) -> Result<Option<u64>, ApiError> {
        Query(query).number("after", &(0..=100))
    }

    #[test]
    fn a_value_is_read_once_and_other_names_are_ignored() {
        assert_eq!(number_of("").unwrap(), None);
        assert_eq!(number_of("x=1&&=&after=7&z").unwrap(), Some(7));
        assert_eq!(Query("after=a%2Fb%20c").text("after").unwrap().unwrap(), "a/b c");
        assert_eq!(Query("after").text("after").unwrap().unwrap(), "");
    }

    #[test]
    fn a_flag_is_one_of_two_words() {
        let of = |query| Query(query).flag("all");
        assert_eq!((of("").unwrap(), of("all=true").unwrap()), (None, Some(true)));
        assert_eq!(of("all=false").unwrap(), Some(false));
        for bad in ["all", "all=1", "all=TRUE", "all=true&all=true"] {
            assert_eq!(of(bad).unwrap_err().param.as_deref(), Some("all"), "{bad}");
        }
    }

    #[test]
    fn what_is_no_number_within_bounds_is_refused_by_name() {
        for bad in [
            "after=",
            "after",
            "after=-1",
            "after=+1",
            "after=%201",
            "after=1.0",
            "after=101",
            "after=99999999999999999999999",
            "after=1&after=1",
            "after=%ff",
            "after=\u{661}",
        ] {
            assert_eq!(number_of(bad).unwrap_err().param.as_deref(), Some("after"), "{bad}");
        }
    }
}
