//! A share as people hold it: text that says which set it belongs to and notices a slip of the pen.
//!
//! Bech32m (BIP 350), prefix `tkshare`, 83 characters. Payload:
//!
//! | offset | size | field                                     |
//! |-------:|-----:|-------------------------------------------|
//! | 0      | 1    | format, 0x01                              |
//! | 1      | 8    | set id: the seal's, or the bundle's       |
//! | 9      | 1    | threshold                                 |
//! | 10     | 1    | x, from 1                                 |
//! | 11     | 32   | values at x                               |

use std::fmt;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use ring::rand::SecureRandom;
use twinkeep_core::record::{SealId, SealKind, SealRecord};
use twinkeep_envelope::{OpenKey, RandomnessFailed};
use zeroize::Zeroizing;

use crate::random::draw;
use crate::seal::{SealKey, check_value};
use crate::shamir::{Point, Quorum, split};

const HRP: Hrp = Hrp::parse_unchecked("tkshare");
const FORMAT: u8 = 1;
const PAYLOAD_LEN: usize = 43;

/// Characters of a share's text.
pub const TEXT_LEN: usize = 83;

/// The text is no share: mistyped, cut, or something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the text is no share: it has to be the {TEXT_LEN} characters that open with `tkshare1`, as they were given out"
)]
pub struct InvalidShare;

/// The text of a share: a secret, shown once. Wiped on drop.
pub struct ShareText(Zeroizing<String>);

impl ShareText {
    /// Shows the text, for handing it to its holder.
    #[must_use]
    pub fn danger_expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ShareText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShareText({} characters)", self.0.len())
    }
}

/// A share of a set.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) set: SealId,
    pub(crate) threshold: u8,
    pub(crate) point: Point,
}

impl Share {
    /// Splits a key into the shares of a set.
    pub(crate) fn split(
        key: &OpenKey,
        set: SealId,
        quorum: Quorum,
        random: &dyn SecureRandom,
    ) -> Result<Vec<Self>, RandomnessFailed> {
        let threshold = quorum.threshold();
        let points = split(key, quorum, random)?;
        Ok(points.into_iter().map(|point| Self { set, threshold, point }).collect())
    }

    pub(crate) fn to_text(&self) -> ShareText {
        let mut payload = Zeroizing::new([0; PAYLOAD_LEN]);
        payload[0] = FORMAT;
        payload[1..9].copy_from_slice(&self.set.0);
        payload[9] = self.threshold;
        payload[10] = self.point.x;
        payload[11..].copy_from_slice(self.point.y.danger_expose());
        // With room from the start, since a growing string leaves copies.
        let mut text = Zeroizing::new(String::with_capacity(TEXT_LEN));
        bech32::encode_lower_to_fmt::<Bech32m, _>(&mut *text, HRP, &*payload)
            .expect("a string takes every character, and the payload is short");
        ShareText(text)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, InvalidShare> {
        let text = text.trim();
        if text.len() != TEXT_LEN {
            return Err(InvalidShare);
        }
        let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| InvalidShare)?;
        let mut payload = Zeroizing::new([0; PAYLOAD_LEN]);
        let mut bytes = checked.byte_iter();
        if checked.hrp() != HRP || bytes.len() != PAYLOAD_LEN {
            return Err(InvalidShare);
        }
        payload.iter_mut().for_each(|to| *to = bytes.next().unwrap_or_default());
        let share = Self {
            set: SealId(*payload[1..].first_chunk().expect("the payload has 43 bytes")),
            threshold: payload[9],
            point: Point {
                x: payload[10],
                y: OpenKey::from_slice(&payload[11..]).ok_or(InvalidShare)?,
            },
        };
        // Also refuses what the payload does not show: bits of padding.
        let as_given_out = share.to_text().0.eq_ignore_ascii_case(text);
        if payload[0] == FORMAT && share.point.x != 0 && as_given_out {
            Ok(share)
        } else {
            Err(InvalidShare)
        }
    }
}

/// Makes a seal with a fresh key and gives out its shares.
pub fn create(
    quorum: Quorum,
    random: &dyn SecureRandom,
) -> Result<(SealRecord, SealKey, Vec<ShareText>), RandomnessFailed> {
    let (id, key) = (SealId(draw(random)?), OpenKey::generate(random)?);
    let shares = Share::split(&key, id, quorum, random)?;
    let kind = SealKind::Shamir { threshold: quorum.threshold(), shares: quorum.shares() };
    let seal = SealRecord { id, kind, kcv: check_value(&key, id) };
    Ok((seal, SealKey::new(id, key), shares.iter().map(Share::to_text).collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str =
        "tkshare1q8swrchrunj7decrq8qvrskrcnzud37ge89vhnxdem8ap5wj602dt4khmrva4k7umh0d7qy5ju3";

    fn published() -> Share {
        let y = OpenKey::build(|y| y.iter_mut().zip(0xc0..).for_each(|(y, value)| *y = value));
        let set = SealId([0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7]);
        Share { set, threshold: 3, point: Point { x: 1, y } }
    }

    #[test]
    fn text_is_the_published_one() {
        assert_eq!(published().to_text().danger_expose(), TEXT);
        assert_eq!(TEXT.len(), TEXT_LEN);
    }

    #[test]
    fn text_is_read_back_with_space_around_and_in_capitals() {
        for text in [TEXT.to_owned(), format!("  {TEXT}\r\n"), TEXT.to_uppercase()] {
            let share = Share::parse(&text).unwrap();
            let expected = published();
            assert_eq!((share.set, share.threshold), (expected.set, expected.threshold));
            assert_eq!(share.point.x, expected.point.x);
            assert!(share.point.y.same_as(&expected.point.y));
        }
    }

    #[test]
    fn each_wrong_character_is_noticed() {
        for at in 0..TEXT_LEN {
            for other in ["q", "p", "0", "1", "b", " ", "Z", "é"] {
                let mut text = TEXT.to_owned();
                text.replace_range(at..=at, other);
                if text != TEXT {
                    assert_eq!(Share::parse(&text).unwrap_err(), InvalidShare, "{text}");
                }
            }
        }
    }

    fn text_of(hrp: &str, payload: &[u8]) -> String {
        bech32::encode::<Bech32m>(Hrp::parse(hrp).unwrap(), payload).unwrap()
    }

    #[test]
    fn other_texts_with_a_good_checksum_are_refused() {
        let mut payload = [7; PAYLOAD_LEN];
        payload[0] = FORMAT;
        assert!(Share::parse(&text_of("tkshare", &payload)).is_ok());
        assert!(Share::parse(&text_of("tkshaxe", &payload)).is_err(), "prefix");
        assert!(Share::parse(&text_of("tkshare", &payload[1..])).is_err(), "length");
        payload[10] = 0;
        assert!(Share::parse(&text_of("tkshare", &payload)).is_err(), "x = 0 is the secret");
        payload[10] = 1;
        payload[0] = 2;
        assert!(Share::parse(&text_of("tkshare", &payload)).is_err(), "format");
    }

    #[test]
    fn first_bech32_is_refused() {
        let payload = [FORMAT; PAYLOAD_LEN];
        let text = bech32::encode::<bech32::Bech32>(HRP, &payload).unwrap();
        assert!(Share::parse(&text).is_err());
    }

    #[test]
    fn debug_shows_no_share() {
        assert_eq!(format!("{:?}", published().to_text()), "ShareText(83 characters)");
        assert!(!format!("{:?}", published()).contains("c0"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,100}") {
            prop_assert!(Share::parse(&text).is_err());
        }
    }
}
