//! Key derivation: SP 800-108r1 in counter mode with HMAC-SHA-256.
//!
//! Block `i` of the output is `HMAC(parent, u32 i || label || 0x00 || context || u32 L)`, counting from 1,
//! with `L` the output length in bits; integers are big-endian. Labels are ASCII without a zero
//! byte, so that where a label ends and its context begins is never in doubt.

use ring::hmac;

use crate::secret::{ExposeKey, OpenKey};

/// Derives one 32-byte key. The same parent, label and context give the same key for ever.
#[must_use]
pub fn derive(parent: &impl ExposeKey, label: &'static str, context: &[u8]) -> OpenKey {
    OpenKey::build(|out| expand(parent, label, &[context], out))
}

/// Fills `out` with output blocks; `context` is the concatenation of its parts.
pub(crate) fn expand(
    parent: &impl ExposeKey,
    label: &'static str,
    context: &[&[u8]],
    out: &mut [u8],
) {
    debug_assert!(!label.as_bytes().contains(&0), "a label has no zero byte");
    let bits = u32::try_from(out.len() * 8).expect("outputs are 32 or 64 bytes");
    let key = hmac::Key::new(hmac::HMAC_SHA256, parent.danger_expose());
    for (counter, block) in (1u32..).zip(out.chunks_mut(32)) {
        let mut mac = hmac::Context::with_key(&key);
        mac.update(&counter.to_be_bytes());
        mac.update(label.as_bytes());
        mac.update(&[0]);
        for part in context {
            mac.update(part);
        }
        mac.update(&bits.to_be_bytes());
        block.copy_from_slice(&mac.sign().as_ref()[..block.len()]);
    }
}
