//! Random bytes that are no secrets: ids and salts.

use ring::rand::SecureRandom;
use twinkeep_envelope::RandomnessFailed;

/// Draws `N` bytes in one call.
pub(crate) fn draw<const N: usize>(random: &dyn SecureRandom) -> Result<[u8; N], RandomnessFailed> {
    let mut bytes = [0; N];
    random.fill(&mut bytes).map_err(|_| RandomnessFailed)?;
    Ok(bytes)
}
