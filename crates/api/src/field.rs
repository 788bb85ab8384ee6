//! Fields of requests, checked on the way in: code past this door does not check again.

use std::str::FromStr;

use twinkeep_core::freshness::WhenStale;
use twinkeep_core::id::{KeyId, Revision};
use twinkeep_envelope::{Context, InvalidContext};
use twinkeep_proto::v1::{self, ContextPair};

use crate::error::{CallError, Invalid, OverLimit};
use crate::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, check};

/// Reads an id or a name that has to be given.
pub(crate) fn parse<T>(field: &'static str, text: &str) -> Result<T, Invalid>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    parse_with(field, text, T::from_str)
}

/// Reads a text by the checked way in of its type.
pub(crate) fn parse_with<T, E: std::fmt::Display>(
    field: &'static str,
    text: &str,
    way_in: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, Invalid> {
    way_in(text).map_err(|error| Invalid::Text { field, problem: error.to_string() })
}

/// Reads the id of a key.
pub(crate) fn key(field: &'static str, text: &str) -> Result<KeyId, Invalid> {
    parse(field, text)
}

/// Reads a revision; 0 names none.
pub(crate) fn revision(number: u64) -> Option<Revision> {
    Revision::new(number).ok()
}

/// Reads whether a key is used on a node whose state may be old; absent leaves it to the instance.
pub(crate) fn when_stale(wire: Option<&v1::WhenStale>) -> Result<Option<WhenStale>, Invalid> {
    let Some(wire) = wire else { return Ok(None) };
    match wire.choice {
        None => {
            let way_out = "choose fail_closed or grace_s, or leave it out";
            Err(Invalid::Missing { field: "when_stale", way_out })
        }
        Some(v1::when_stale::Choice::FailClosed(_)) => Ok(Some(WhenStale::FailClosed)),
        Some(v1::when_stale::Choice::GraceS(seconds @ 1..=WhenStale::GRACE_SECONDS_MAX)) => {
            Ok(Some(WhenStale::Grace { seconds }))
        }
        Some(v1::when_stale::Choice::GraceS(seconds)) => Err(Invalid::OutOfRange {
            field: "when_stale.grace_s",
            number: seconds.into(),
            range: "1 to 86400 seconds; choose fail_closed for none",
        }),
    }
}

/// The fields that say what a ciphertext is bound to.
#[derive(Clone, Copy)]
pub(crate) struct ContextFields {
    pairs: &'static str,
    aad: &'static str,
}

impl ContextFields {
    /// Those of most requests.
    pub(crate) const PLAIN: Self = Self { pairs: "encryption_context", aad: "aad" };
    /// Those of the ciphertext that is re-encrypted.
    pub(crate) const SOURCE: Self = Self { pairs: "source_encryption_context", aad: "source_aad" };
    /// Those of the ciphertext that comes of it.
    pub(crate) const DESTINATION: Self =
        Self { pairs: "destination_encryption_context", aad: "destination_aad" };
}

/// Reads what a ciphertext is bound to.
pub(crate) fn context<'a>(
    fields: ContextFields,
    pairs: &'a [ContextPair],
    aad: &'a [u8],
) -> Result<Context<'a>, CallError> {
    if pairs.is_empty() {
        return Context::from_raw(aad).map_err(|error| invalid_context(fields.aad, error));
    }
    if !aad.is_empty() {
        let way_out = "give pairs or raw bytes";
        return Err(Invalid::Both { one: fields.pairs, other: fields.aad, way_out }.into());
    }
    if pairs.iter().any(|pair| pair.key.is_empty()) {
        let problem = "a pair has an empty key".to_owned();
        return Err(Invalid::Text { field: fields.pairs, problem }.into());
    }
    let pairs = pairs.iter().map(|pair| (pair.key.as_bytes(), pair.value.as_bytes()));
    Context::from_pairs(pairs).map_err(|error| invalid_context(fields.pairs, error))
}

fn invalid_context(field: &'static str, error: InvalidContext) -> CallError {
    match error {
        InvalidContext::TooLong { len, max } => {
            let way_out = "bind to a digest of it instead";
            OverLimit { field, len, max, way_out }.into()
        }
        InvalidContext::DuplicateKey | InvalidContext::NotUtf8 => {
            Invalid::Text { field, problem: error.to_string() }.into()
        }
    }
}

/// Reads how many entries a page shall have.
pub(crate) fn page_size(number: u32) -> Result<usize, CallError> {
    let size = usize::try_from(number).unwrap_or(usize::MAX);
    check("page_size", size, PAGE_SIZE_MAX, "ask for several pages")?;
    Ok(if size == 0 { PAGE_SIZE_DEFAULT } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: ContextFields = ContextFields::PLAIN;

    fn pair(key: &str, value: &str) -> ContextPair {
        ContextPair { key: key.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn context_is_pairs_or_raw_bytes_and_not_both() {
        let pairs = [pair("a", "1")];
        assert!(context(PLAIN, &pairs, b"").is_ok());
        assert!(context(PLAIN, &[], b"raw").is_ok());
        assert_eq!(context(PLAIN, &[], b"").unwrap(), Context::NONE);
        let both = context(PLAIN, &pairs, b"raw").unwrap_err();
        assert!(matches!(both, CallError::Invalid(Invalid::Both { .. })));
    }

    #[test]
    fn context_with_a_repeated_or_empty_key_or_too_long_is_refused() {
        let twice = [pair("a", "1"), pair("a", "2")];
        let error = context(PLAIN, &twice, b"").unwrap_err().to_string();
        assert_eq!(error, "encryption_context: a key occurs twice in the encryption context");
        assert!(context(PLAIN, &[pair("", "1")], b"").is_err());
        let long = "x".repeat(Context::ENCODED_BYTES_MAX);
        let error = context(PLAIN, &[pair("a", &long)], b"").unwrap_err();
        assert!(matches!(error, CallError::OverLimit(OverLimit { max: 8192, .. })));
        assert!(matches!(context(PLAIN, &[], long.as_bytes()), Err(CallError::OverLimit(_))));
    }

    #[test]
    fn wrong_id_is_answered_with_the_field_and_how_it_is_written() {
        let error = key("source_key_id", "kst-00").unwrap_err().to_string();
        let expected = "source_key_id: a key id is written `key-` and 32 lower-case hex digits";
        assert_eq!(error, expected);
    }

    #[test]
    fn page_size_of_zero_takes_the_default() {
        assert_eq!(page_size(0).unwrap(), PAGE_SIZE_DEFAULT);
        assert_eq!(page_size(7).unwrap(), 7);
        assert!(matches!(page_size(1001), Err(CallError::OverLimit(_))));
    }
}
