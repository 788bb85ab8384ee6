//! The passphrase seal: Argon2id (RFC 9106, second recommended choice: 64 MiB, 3 passes, 4 lanes).
//!
//! One passphrase opens everything, so it is for development and CI; [`crate::found`] refuses it
//! elsewhere. It comes from a file or a file descriptor, never from argv or the environment.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use ring::rand::SecureRandom;
use twinkeep_core::record::{SealId, SealKind, SealRecord};
use twinkeep_envelope::{OpenKey, RandomnessFailed, SecretBytes};
use zeroize::Zeroize as _;

use crate::random::draw;
use crate::seal::{SealKey, check_value};

/// Shortest passphrase in bytes.
pub const LEN_MIN: usize = 8;

/// Most memory that a seal's record may ask for, in KiB: a forged one shall not take the node down.
const MEMORY_KIB_MAX: u32 = 1 << 20;
/// Most passes and most lanes, for the same reason.
const PASSES_MAX: u32 = 64;
const LANES_MAX: u32 = 64;

/// Work that one guess costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Cost {
    /// RFC 9106, section 4, second recommended choice.
    pub const RECOMMENDED: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 };
}

/// Why a passphrase makes or opens no seal.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// Too short to be worth a seal.
    #[error("a passphrase has at least {LEN_MIN} bytes, this one has {len}")]
    TooShort {
        /// Bytes given.
        len: usize,
    },
    /// Not the one that the seal was made with.
    #[error("the passphrase is not the one that the seal was made with")]
    Wrong,
    /// The seal is of another kind.
    #[error("the seal is not opened by a passphrase")]
    OtherKind,
    /// The record asks for more work than any seal of ours, or for none.
    #[error("the seal's record asks for work out of bounds: {0:?}")]
    Cost(Cost),
    /// No random bytes.
    #[error(transparent)]
    Randomness(#[from] RandomnessFailed),
}

/// Makes a seal. Takes about a tenth of a second and 64 MiB at the recommended cost.
pub fn create(
    passphrase: &SecretBytes,
    cost: Cost,
    random: &dyn SecureRandom,
) -> Result<(SealRecord, SealKey), PassphraseError> {
    if passphrase.len() < LEN_MIN {
        return Err(PassphraseError::TooShort { len: passphrase.len() });
    }
    let (id, salt) = (SealId(draw(random)?), draw(random)?);
    let key = stretch(passphrase, &salt, cost)?;
    let Cost { memory_kib, passes, lanes } = cost;
    let kind = SealKind::Passphrase { salt, memory_kib, passes, lanes };
    let seal = SealRecord { id, kind, kcv: check_value(&key, id) };
    Ok((seal, SealKey::new(id, key)))
}

/// Opens a seal.
pub fn open(seal: &SealRecord, passphrase: &SecretBytes) -> Result<SealKey, PassphraseError> {
    let SealKind::Passphrase { salt, memory_kib, passes, lanes } = &seal.kind else {
        return Err(PassphraseError::OtherKind);
    };
    let cost = Cost { memory_kib: *memory_kib, passes: *passes, lanes: *lanes };
    let key = stretch(passphrase, salt, cost)?;
    SealKey::check(seal, key).map_err(|_| PassphraseError::Wrong)
}

fn stretch(
    passphrase: &SecretBytes,
    salt: &[u8; 16],
    cost: Cost,
) -> Result<OpenKey, PassphraseError> {
    let bounded =
        cost.memory_kib <= MEMORY_KIB_MAX && cost.passes <= PASSES_MAX && cost.lanes <= LANES_MAX;
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(OpenKey::LEN));
    let (true, Ok(params)) = (bounded, params) else { return Err(PassphraseError::Cost(cost)) };
    let mut memory = vec![Block::default(); params.block_count()];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut stretched = Ok(());
    let key = OpenKey::build(|key| {
        stretched = argon2.hash_password_into_with_memory(
            passphrase.danger_expose(),
            salt,
            key,
            memory.as_mut_slice(),
        );
    });
    memory.zeroize();
    stretched.map_err(|_| PassphraseError::Cost(cost))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    /// Little work, for tests that are not about it.
    const LIGHT: Cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };

    fn words(text: &str) -> SecretBytes {
        SecretBytes::copy_of(text.as_bytes())
    }

    #[test]
    fn passphrase_opens_its_own_seal() {
        let (seal, made) = create(&words("correct horse"), LIGHT, &SystemRandom::new()).unwrap();
        let opened = open(&seal, &words("correct horse")).unwrap();
        assert!(made.key().same_as(opened.key()));
        assert_eq!(opened.id(), seal.id);
    }

    #[test]
    fn wrong_passphrase_is_told() {
        let (seal, _) = create(&words("correct horse"), LIGHT, &SystemRandom::new()).unwrap();
        for wrong in ["correct hors", "correct horse ", "", "battery staple"] {
            assert!(matches!(open(&seal, &words(wrong)), Err(PassphraseError::Wrong)), "{wrong}");
        }
    }

    #[test]
    fn same_passphrase_makes_other_keys() {
        let random = SystemRandom::new();
        let (_, one) = create(&words("correct horse"), LIGHT, &random).unwrap();
        let (_, other) = create(&words("correct horse"), LIGHT, &random).unwrap();
        assert!(!one.key().same_as(other.key()));
    }

    #[test]
    fn short_passphrase_is_refused() {
        let refused = create(&words("1234567"), LIGHT, &SystemRandom::new()).unwrap_err();
        assert!(matches!(refused, PassphraseError::TooShort { len: 7 }));
    }

    #[test]
    fn record_that_asks_for_too_much_work_is_refused() {
        let (seal, _) = create(&words("correct horse"), LIGHT, &SystemRandom::new()).unwrap();
        for cost in
            [(u32::MAX, 3, 4), (65_536, u32::MAX, 4), (65_536, 3, 65), (0, 0, 0), (64, 0, 1)]
        {
            let (memory_kib, passes, lanes) = cost;
            let kind = SealKind::Passphrase { salt: [0; 16], memory_kib, passes, lanes };
            let seal = SealRecord { kind, ..seal.clone() };
            let refused = open(&seal, &words("correct horse")).unwrap_err();
            assert!(matches!(refused, PassphraseError::Cost(_)), "{cost:?}");
        }
    }

    #[test]
    fn shamir_seal_is_not_opened_by_a_passphrase() {
        let kind = SealKind::Shamir { threshold: 2, shares: 3 };
        let seal = SealRecord { id: SealId([0; 8]), kind, kcv: [0; 8] };
        let refused = open(&seal, &words("correct horse")).unwrap_err();
        assert!(matches!(refused, PassphraseError::OtherKind));
    }

    /// RFC 9106, 5.3, shows that the primitive is the right one; it needs inputs that seals lack.
    #[test]
    fn argon2id_is_that_of_the_rfc() {
        let params = argon2::ParamsBuilder::new()
            .m_cost(32)
            .t_cost(3)
            .p_cost(4)
            .data(argon2::AssociatedData::new(&[4; 12]).unwrap())
            .build()
            .unwrap();
        let secret = [3; 8];
        let argon2 =
            Argon2::new_with_secret(&secret, Algorithm::Argon2id, Version::V0x13, params).unwrap();
        let mut tag = [0; 32];
        argon2.hash_password_into(&[1; 32], &[2; 16], &mut tag).unwrap();
        assert_eq!(
            hex::encode(tag),
            "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"
        );
    }
}
