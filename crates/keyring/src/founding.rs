//! Founding a cluster: fresh keys, the seals around them, and the recovery bundle.
//!
//! What comes out goes to three places: the records into the first command, the shares and the bundle to
//! people, once, and the keyring into the node's memory. Nothing of it is stored here.

use ring::rand::SystemRandom;
use twinkeep_core::id::{ClusterId, Revision};
use twinkeep_core::record::{Operator, SealRecord, SealedRecord};
use twinkeep_envelope::{RandomnessFailed, SecretBytes};
use twinkeep_sysmem::Arena;

use crate::keyring::{FreshError, Keyring};
use crate::records::RecordError;
use crate::recovery::{Bundle, BundleError};
use crate::seal::SealKey;
use crate::seal::passphrase::{self, Cost, PassphraseError};
use crate::seal::share::{self, ShareText};
use crate::shamir::Quorum;

/// Fewest operators of a cluster that is not for trying things out.
pub const OPERATORS_MIN: usize = 2;

/// A seal to be made.
#[derive(Debug)]
pub enum NewSeal<'a> {
    /// One passphrase; for trying things out.
    Passphrase(&'a SecretBytes),
    /// Shares for several people.
    Shamir(Quorum),
}

/// What a cluster is founded with.
#[derive(Debug)]
pub struct Founding<'a> {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// The ways to the root key; one at least.
    pub seals: &'a [NewSeal<'a>],
    /// Who gets the recovery bundle's shares: as many as `recovery` has shares, with a key each.
    pub operators: &'a [Operator],
    /// How many operators open the recovery bundle.
    pub recovery: Quorum,
    /// Allows a passphrase.
    pub dev: bool,
}

/// A founded cluster.
#[derive(Debug)]
pub struct Founded {
    /// The unsealed keys.
    pub keyring: Keyring,
    /// Records of the seals.
    pub seals: Vec<SealRecord>,
    /// The root key under each seal, the first epoch key.
    pub sealed: Vec<SealedRecord>,
    /// Shares of the Shamir seals, set by set; to be handed out and not kept.
    pub shares: Vec<ShareText>,
    /// The recovery bundle; to be kept outside the cluster.
    pub bundle: Bundle,
}

/// Why no cluster was founded.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// Without a seal no restart would find its keys again.
    #[error("a cluster needs at least one seal")]
    NoSeal,
    /// A passphrase opens everything for whoever reads one file.
    #[error(
        "a passphrase seal is for development: use shares, or say that this is a development cluster"
    )]
    PassphraseOutsideDev,
    /// One person could open the recovery bundle, or lose it.
    #[error(
        "a cluster needs at least {OPERATORS_MIN} operators of whom two open the recovery bundle"
    )]
    TooFewOperators,
    /// The passphrase makes no seal.
    #[error("the passphrase seal was not made")]
    Passphrase(#[from] PassphraseError),
    /// The recovery bundle was not made.
    #[error("the recovery bundle was not made")]
    Bundle(#[from] BundleError),
    /// The keys were not made.
    #[error("the keyring was not made")]
    Fresh(#[from] FreshError),
    /// The keys were not sealed.
    #[error("the keyring was not sealed")]
    Record(#[from] RecordError),
    /// No random bytes.
    #[error(transparent)]
    Randomness(#[from] RandomnessFailed),
}

/// Draws the keys of a new cluster and seals them in every way asked for.
pub fn found(founding: &Founding<'_>, arena: Arena) -> Result<Founded, FoundError> {
    check(founding)?;
    let keyring = Keyring::fresh(founding.cluster, arena)?;
    let mut founded = Founded {
        bundle: Bundle::create(&keyring, founding.operators, founding.recovery)?,
        seals: Vec::new(),
        sealed: keyring.seal_epochs(Revision::FIRST)?,
        shares: Vec::new(),
        keyring,
    };
    for seal in founding.seals {
        let (record, key, shares) = make(seal)?;
        founded.sealed.push(founded.keyring.seal_root(&key, Revision::FIRST)?);
        founded.seals.push(record);
        founded.shares.extend(shares);
    }
    Ok(founded)
}

fn make(seal: &NewSeal<'_>) -> Result<(SealRecord, SealKey, Vec<ShareText>), FoundError> {
    let random = SystemRandom::new();
    match seal {
        NewSeal::Passphrase(words) => {
            let (record, key) = passphrase::create(words, Cost::RECOMMENDED, &random)?;
            Ok((record, key, Vec::new()))
        }
        NewSeal::Shamir(quorum) => Ok(share::create(*quorum, &random)?),
    }
}

fn check(founding: &Founding<'_>) -> Result<(), FoundError> {
    if founding.seals.is_empty() {
        return Err(FoundError::NoSeal);
    }
    if founding.dev {
        return Ok(());
    }
    if founding.seals.iter().any(|seal| matches!(seal, NewSeal::Passphrase(_))) {
        return Err(FoundError::PassphraseOutsideDev);
    }
    if founding.operators.len() < OPERATORS_MIN || founding.recovery.threshold() < 2 {
        return Err(FoundError::TooFewOperators);
    }
    Ok(())
}
