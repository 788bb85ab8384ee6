//! Names that people choose, checked once on the way in.
//!
//! All names share one alphabet, so that none can break a URI, a path, a log line or a terminal.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} has 1 to {max} characters of a-z, 0-9, `-`, `.` and `_`, and opens with a letter or digit"
)]
pub struct InvalidName {
    what: &'static str,
    max: usize,
}

fn is_name(text: &str, max: usize) -> bool {
    let body = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_');
    (1..=max).contains(&text.len())
        && text.bytes().all(body)
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:literal, $what:literal) => {
        $(#[$doc])*
        // Shared: the calls of a caller name it many times, and nobody changes a name.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Longest name, in bytes.
            pub const LEN_MAX: usize = $max;

            /// Takes a name from outside.
            ///
            /// # Errors
            /// [`InvalidName`] with the alphabet and the longest length.
            pub fn parse(raw: &str) -> Result<Self, InvalidName> {
                if is_name(raw, $max) {
                    Ok(Self(raw.into()))
                } else {
                    Err(InvalidName { what: $what, max: $max })
                }
            }

            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Returns the text, shared with this name.
            #[must_use]
            pub fn to_shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.str(&self.0)?.ok()
            }
        }

        // A stored or forwarded name goes through the same door as one from a caller.
        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                Self::parse(d.str()?).map_err(minicbor::decode::Error::message)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }
    };
}

name! {
    /// Names a caller; the last part of its SPIFFE identity.
    CallerName, 64, "a caller's name"
}
name! {
    /// Names a zone, a place that can be lost as a whole.
    ZoneName, 32, "a zone's name"
}
name! {
    /// Names a VPC.
    VpcName, 64, "a VPC's name"
}
name! {
    /// Names a vSwitch, a zone's address range.
    VswitchName, 64, "a vSwitch's name"
}
name! {
    /// Names an instance for people; the id is what counts.
    InstanceName, 64, "an instance's name"
}

/// What people write beside a key: any text without control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, minicbor::Encode)]
#[cbor(transparent)]
pub struct Description(#[n(0)] String);

/// Why a text is not a description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a description has at most {} bytes and no control characters", Description::LEN_MAX)]
pub struct InvalidDescription;

impl Description {
    /// Longest description, in bytes.
    pub const LEN_MAX: usize = 8192;

    /// Takes a description from outside.
    ///
    /// # Errors
    /// [`InvalidDescription`] when it is too long or holds control characters other than a new line.
    pub fn parse(raw: &str) -> Result<Self, InvalidDescription> {
        let clean = raw.chars().all(|c| c == '\n' || !c.is_control());
        (clean && raw.len() <= Self::LEN_MAX)
            .then(|| Self(raw.to_owned()))
            .ok_or(InvalidDescription)
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Description {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        Self::parse(d.str()?).map_err(minicbor::decode::Error::message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_break_a_uri_or_a_terminal_are_refused() {
        for bad in ["", "-a", "A", "a/b", "a b", "*", "ä", "a\u{1b}[31m", &"a".repeat(65)] {
            assert!(CallerName::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(CallerName::parse("app-1.prod_x").unwrap().as_str(), "app-1.prod_x");
    }

    #[test]
    fn stored_name_outside_the_alphabet_is_refused() {
        let stored = minicbor::to_vec("not a name").unwrap();
        assert!(minicbor::decode::<ZoneName>(&stored).is_err());
    }
}
