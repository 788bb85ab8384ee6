//! Collecting shares until they open.
//!
//! Holds at most `threshold` shares of one set, each once; shares of another set are refused before
//! they mix, and all are wiped as soon as they have been combined, rightly or wrongly.

use twinkeep_core::record::{SealKind, SealRecord};

use crate::seal::share::{InvalidShare, Share};
use crate::seal::{SealKey, WrongKey};
use crate::shamir::{InvalidQuorum, Quorum, combine};

/// Shares of one seal that have come so far.
#[derive(Debug)]
pub struct UnsealProgress {
    seal: SealRecord,
    quorum: Quorum,
    shares: Vec<Share>,
}

/// What a share led to.
#[derive(Debug)]
pub enum Step {
    /// More shares are needed.
    Waiting {
        /// Shares that have come.
        collected: u8,
        /// Shares that open.
        threshold: u8,
    },
    /// The seal is open.
    Open(SealKey),
}

/// Why a share was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// No share at all.
    #[error(transparent)]
    Invalid(#[from] InvalidShare),
    /// A share of another set: an old one, another cluster's, or one of a recovery bundle.
    #[error("the share belongs to another set")]
    OtherSet,
    /// The same share again.
    #[error("share {x} has come already")]
    Duplicate {
        /// Which share.
        x: u8,
    },
    /// Together they do not open: at least one was forged. All are forgotten.
    #[error("the shares do not open the seal; all of them have to be given again")]
    WrongShares,
}

/// Why there is nothing to collect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotShamir {
    /// The seal is of another kind.
    #[error("the seal is not opened by shares")]
    OtherKind,
    /// The seal's record makes no sense.
    #[error("the seal's record is damaged")]
    Damaged(#[from] InvalidQuorum),
}

impl UnsealProgress {
    /// Begins with no share.
    pub fn new(seal: SealRecord) -> Result<Self, NotShamir> {
        let SealKind::Shamir { threshold, shares } = seal.kind else {
            return Err(NotShamir::OtherKind);
        };
        let quorum = Quorum::new(threshold, shares)?;
        Ok(Self { seal, quorum, shares: Vec::with_capacity(threshold.into()) })
    }

    /// How many shares have come.
    #[must_use]
    pub fn collected(&self) -> u8 {
        u8::try_from(self.shares.len()).expect("at most the threshold")
    }

    /// How many shares open.
    #[must_use]
    pub fn threshold(&self) -> u8 {
        self.quorum.threshold()
    }

    /// Takes a share. The caller wipes the text.
    pub fn offer(&mut self, text: &str) -> Result<Step, OfferError> {
        let share = Share::parse(text)?;
        let x = share.point.x;
        if share.set != self.seal.id
            || share.threshold != self.threshold()
            || x > self.quorum.shares()
        {
            return Err(OfferError::OtherSet);
        }
        if self.shares.iter().any(|taken| taken.point.x == x) {
            return Err(OfferError::Duplicate { x });
        }
        self.shares.push(share);
        let (collected, threshold) = (self.collected(), self.threshold());
        if collected < threshold {
            return Ok(Step::Waiting { collected, threshold });
        }
        self.combine().map(Step::Open).map_err(|WrongKey| OfferError::WrongShares)
    }

    /// Forgets all shares.
    pub fn clear(&mut self) {
        self.shares.clear();
    }

    fn combine(&mut self) -> Result<SealKey, WrongKey> {
        let points: Vec<_> = self.shares.drain(..).map(|share| share.point).collect();
        SealKey::check(&self.seal, combine(&points))
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use twinkeep_core::record::SealId;
    use twinkeep_envelope::OpenKey;

    use super::*;
    use crate::seal::share::{self, ShareText};

    fn sealed() -> (UnsealProgress, SealKey, Vec<ShareText>) {
        let quorum = Quorum::new(3, 5).unwrap();
        let (seal, key, shares) = share::create(quorum, &SystemRandom::new()).unwrap();
        (UnsealProgress::new(seal).unwrap(), key, shares)
    }

    #[test]
    fn threshold_of_shares_opens_in_any_order() {
        let (mut progress, key, shares) = sealed();
        for order in [[4, 0, 2], [1, 3, 0]] {
            for (collected, at) in (1..).zip(&order[..2]) {
                let step = progress.offer(shares[*at].danger_expose()).unwrap();
                let Step::Waiting { collected: found, threshold: 3 } = step else {
                    panic!("open too early")
                };
                assert_eq!(found, collected);
            }
            let step = progress.offer(shares[order[2]].danger_expose()).unwrap();
            let Step::Open(opened) = step else { panic!("not open") };
            assert!(opened.key().same_as(key.key()));
            assert_eq!(progress.collected(), 0, "shares are wiped once they have opened");
        }
    }

    #[test]
    fn same_share_twice_is_refused_and_counts_once() {
        let (mut progress, _, shares) = sealed();
        progress.offer(shares[1].danger_expose()).unwrap();
        let again = progress.offer(shares[1].danger_expose()).unwrap_err();
        assert_eq!(again, OfferError::Duplicate { x: 2 });
        assert_eq!(progress.collected(), 1);
    }

    #[test]
    fn share_of_another_set_is_refused_before_it_mixes() {
        let (mut progress, _, shares) = sealed();
        let (_, _, others) = sealed();
        progress.offer(shares[0].danger_expose()).unwrap();
        let refused = progress.offer(others[1].danger_expose()).unwrap_err();
        assert_eq!(refused, OfferError::OtherSet);
        assert_eq!(progress.collected(), 1);
    }

    #[test]
    fn mistyped_share_changes_nothing() {
        let (mut progress, _, shares) = sealed();
        progress.offer(shares[0].danger_expose()).unwrap();
        let mistyped = shares[1].danger_expose().replace(|c: char| c.is_ascii_digit(), "q");
        assert_eq!(progress.offer(&mistyped).unwrap_err(), OfferError::Invalid(InvalidShare));
        assert_eq!(progress.collected(), 1);
    }

    /// A share that names the right set and holds other values.
    fn forged(text: &ShareText, change: impl FnOnce(&mut Share)) -> ShareText {
        let mut share = Share::parse(text.danger_expose()).unwrap();
        change(&mut share);
        share.to_text()
    }

    #[test]
    fn forged_share_is_told_from_a_damaged_keyring_and_all_are_forgotten() {
        let (mut progress, _, shares) = sealed();
        let forged = forged(&shares[2], |share| share.point.y = OpenKey::build(|_| ()));
        progress.offer(shares[0].danger_expose()).unwrap();
        progress.offer(forged.danger_expose()).unwrap();
        let refused = progress.offer(shares[1].danger_expose()).unwrap_err();
        assert_eq!(refused, OfferError::WrongShares);
        assert_eq!(progress.collected(), 0);
    }

    #[test]
    fn share_out_of_the_sets_range_is_refused() {
        let (mut progress, _, shares) = sealed();
        let beyond = forged(&shares[2], |share| share.point.x = 6);
        assert_eq!(progress.offer(beyond.danger_expose()).unwrap_err(), OfferError::OtherSet);
        let easier = forged(&shares[2], |share| share.threshold = 2);
        assert_eq!(progress.offer(easier.danger_expose()).unwrap_err(), OfferError::OtherSet);
    }

    #[test]
    fn seal_without_shares_has_nothing_to_collect() {
        let seal = |kind| SealRecord { id: SealId([0; 8]), kind, kcv: [0; 8] };
        let passphrase =
            SealKind::Passphrase { salt: [0; 16], memory_kib: 64, passes: 1, lanes: 1 };
        assert_eq!(UnsealProgress::new(seal(passphrase)).unwrap_err(), NotShamir::OtherKind);
        let damaged = SealKind::Shamir { threshold: 0, shares: 200 };
        let refused = UnsealProgress::new(seal(damaged)).unwrap_err();
        assert!(matches!(refused, NotShamir::Damaged(_)));
    }
}
