//! What a caller binds a ciphertext to: nothing, a map of text pairs, or raw bytes.
//!
//! Only its hash enters the ciphertext; the caller brings the context again to decrypt. Encoded
//! (big-endian), at most [`Context::ENCODED_BYTES_MAX`]:
//!
//! | first byte | then                                                                         |
//! |-----------:|------------------------------------------------------------------------------|
//! | 0x00       | nothing: no context                                                          |
//! | 0x01       | u16 count, then per pair u16 length, key, u16 length, value; sorted by key   |
//! | 0x02       | u32 length, raw bytes                                                        |
//!
//! (0x03 is a stored record's, see [`crate::record`].)

use ring::digest;

use crate::frame::BindingHash;

/// Why a context is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidContext {
    /// Two pairs have the same key.
    #[error("a key occurs twice in the encryption context")]
    DuplicateKey,
    /// A key or a value is not UTF-8.
    #[error("the encryption context is not UTF-8")]
    NotUtf8,
    /// The encoded form is over the limit.
    #[error("the encryption context takes {len} bytes of {max}")]
    TooLong {
        /// Bytes of the encoded form.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
}

/// A checked context, borrowing from the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context<'a>(Form<'a>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form<'a> {
    Absent,
    Map(Vec<(&'a [u8], &'a [u8])>),
    Raw(&'a [u8]),
}

impl<'a> Context<'a> {
    /// Limit of the encoded form, in bytes.
    pub const ENCODED_BYTES_MAX: usize = 8192;

    /// No context.
    pub const NONE: Self = Self(Form::Absent);

    /// A map without pairs, `01 0000`, which is not the same as no context. Surfaces never make it, since
    /// not every one can tell the two apart; it exists because the format has it.
    pub const EMPTY_MAP: Self = Self(Form::Map(Vec::new()));

    /// Takes the pairs in any order. No pairs at all are no context.
    pub fn from_pairs<I>(pairs: I) -> Result<Self, InvalidContext>
    where
        I: IntoIterator<Item = (&'a [u8], &'a [u8])>,
    {
        let mut len = 3;
        let mut sorted = Vec::new();
        for (key, value) in pairs {
            len += 4 + key.len() + value.len();
            within_limit(len)?;
            if std::str::from_utf8(key).is_err() || std::str::from_utf8(value).is_err() {
                return Err(InvalidContext::NotUtf8);
            }
            sorted.push((key, value));
        }
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(InvalidContext::DuplicateKey);
        }
        Ok(if sorted.is_empty() { Self::NONE } else { Self(Form::Map(sorted)) })
    }

    /// Takes raw associated data. No bytes are no context.
    pub fn from_raw(bytes: &'a [u8]) -> Result<Self, InvalidContext> {
        within_limit(5 + bytes.len())?;
        Ok(if bytes.is_empty() { Self::NONE } else { Self(Form::Raw(bytes)) })
    }

    /// Raw data as it is, even where it is empty: for the published vectors.
    #[cfg(test)]
    pub(crate) fn raw_unchecked(bytes: &'a [u8]) -> Self {
        Self(Form::Raw(bytes))
    }

    pub(crate) fn hash(&self) -> BindingHash {
        let mut digest = digest::Context::new(&digest::SHA256);
        self.encode(|bytes| digest.update(bytes));
        digest.finish().as_ref().try_into().expect("SHA-256 gives 32 bytes")
    }

    /// Hands the encoded form to `write`, piece by piece.
    pub(crate) fn encode(&self, mut write: impl FnMut(&[u8])) {
        match &self.0 {
            Form::Absent => write(&[0x00]),
            Form::Map(pairs) => {
                write(&[0x01]);
                write(&u16_len(pairs.len()));
                for (key, value) in pairs {
                    write(&u16_len(key.len()));
                    write(key);
                    write(&u16_len(value.len()));
                    write(value);
                }
            }
            Form::Raw(bytes) => {
                write(&[0x02]);
                write(&u32::try_from(bytes.len()).expect("checked at the door").to_be_bytes());
                write(bytes);
            }
        }
    }
}

fn u16_len(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("the encoded form is within 8 KiB").to_be_bytes()
}

fn within_limit(len: usize) -> Result<(), InvalidContext> {
    let max = Context::ENCODED_BYTES_MAX;
    if len > max { Err(InvalidContext::TooLong { len, max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(context: &Context<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        context.encode(|bytes| out.extend_from_slice(bytes));
        out
    }

    #[test]
    fn order_of_pairs_does_not_matter() {
        let pairs: [(&[u8], &[u8]); 3] = [(b"b", b"2"), (b"a", b"1"), (b"ab", b"")];
        let forth = Context::from_pairs(pairs).unwrap();
        let back = Context::from_pairs(pairs.into_iter().rev()).unwrap();
        assert_eq!(forth.hash(), back.hash());
        let bytes = b"\x01\0\x03\0\x01a\0\x011\0\x02ab\0\0\0\x01b\0\x012";
        assert_eq!(encoded(&forth), bytes);
    }

    #[test]
    fn nothing_is_no_context() {
        assert_eq!(Context::from_pairs([]).unwrap(), Context::NONE);
        assert_eq!(Context::from_raw(&[]).unwrap(), Context::NONE);
        assert_eq!(encoded(&Context::NONE), [0]);
        assert_eq!(encoded(&Context::EMPTY_MAP), [1, 0, 0]);
    }

    #[test]
    fn duplicate_key_is_refused_even_with_equal_values() {
        for values in [[b"1", b"2"], [b"1", b"1"]] {
            let pairs: [(&[u8], &[u8]); 2] = [(b"a", values[0]), (b"a", values[1])];
            assert_eq!(Context::from_pairs(pairs), Err(InvalidContext::DuplicateKey));
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        for pair in [(b"\xff".as_slice(), b"v".as_slice()), (b"k", b"\xc3\x28")] {
            assert_eq!(Context::from_pairs([pair]), Err(InvalidContext::NotUtf8));
        }
    }

    #[test]
    fn limit_counts_the_encoded_form() {
        let value = vec![b'v'; Context::ENCODED_BYTES_MAX];
        let pair = |len| [(b"k".as_slice(), &value[..len])];
        assert!(Context::from_pairs(pair(8192 - 8)).is_ok());
        let too_long = InvalidContext::TooLong { len: 8193, max: 8192 };
        assert_eq!(Context::from_pairs(pair(8192 - 7)), Err(too_long));
        assert!(Context::from_raw(&value[..8192 - 5]).is_ok());
        assert_eq!(Context::from_raw(&value[..8192 - 4]), Err(too_long));
    }

    #[test]
    fn endless_pairs_are_refused_before_they_are_gathered() {
        let endless = std::iter::repeat((b"k".as_slice(), b"v".as_slice()));
        assert!(matches!(Context::from_pairs(endless), Err(InvalidContext::TooLong { .. })));
    }
}
