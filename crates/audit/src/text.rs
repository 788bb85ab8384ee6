//! Text with a bound, so that no caller can make a record grow.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// UTF-8 of at most `MAX` bytes.
///
/// What is longer is cut at a character and ends in `…`: a record of a refused call must be written
/// even when what was refused was its length, and the reader must see that something is missing.
#[derive(Clone)]
pub struct Text<const MAX: usize>(Kept);

/// Cheap to clone: many records name the same caller.
#[derive(Clone)]
enum Kept {
    Static(&'static str),
    Shared(Arc<str>),
}

/// Stands at the end of a text that was cut.
const CUT: &str = "…";

impl<const MAX: usize> Text<MAX> {
    /// Takes a text, cut to `MAX` bytes.
    #[must_use]
    pub fn new(text: impl Into<Cow<'static, str>>) -> Self {
        const { assert!(MAX >= CUT.len()) };
        let text = text.into();
        if text.len() > MAX {
            return Self(Kept::Shared(cut::<MAX>(&text).into()));
        }
        Self(match text {
            Cow::Borrowed(text) => Kept::Static(text),
            Cow::Owned(text) => Kept::Shared(text.into()),
        })
    }

    /// Takes a text that others have too, cut to `MAX` bytes.
    #[must_use]
    pub fn shared(text: Arc<str>) -> Self {
        if text.len() > MAX {
            return Self(Kept::Shared(cut::<MAX>(&text).into()));
        }
        Self(Kept::Shared(text))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kept::Static(text) => text,
            Kept::Shared(text) => text,
        }
    }
}

fn cut<const MAX: usize>(text: &str) -> String {
    let end = text.floor_char_boundary(MAX - CUT.len());
    format!("{}{CUT}", &text[..end])
}

impl<const MAX: usize> PartialEq for Text<MAX> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl<const MAX: usize> Eq for Text<MAX> {}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<C, const MAX: usize> minicbor::Encode<C> for Text<MAX> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(self.as_str())?.ok()
    }
}

impl<'b, C, const MAX: usize> minicbor::Decode<'b, C> for Text<MAX> {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let text = d.str()?;
        if text.len() > MAX {
            return Err(minicbor::decode::Error::message("a text is longer than its field allows"));
        }
        Ok(Self(Kept::Shared(text.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_at_a_character_and_says_so() {
        assert_eq!(Text::<8>::new("Encrypt").as_str(), "Encrypt");
        assert_eq!(Text::<8>::new("abcdefgh").as_str(), "abcdefgh");
        assert_eq!(Text::<8>::new("abcdefghi").as_str(), "abcde…");
        assert_eq!(Text::<8>::new("äöüäöü").as_str(), "äö…");
    }

    #[test]
    fn stored_text_over_the_bound_is_refused() {
        let stored = minicbor::to_vec("123456789").unwrap();
        assert!(minicbor::decode::<Text<8>>(&stored).is_err());
        assert!(minicbor::decode::<Text<9>>(&stored).is_ok());
    }
}
