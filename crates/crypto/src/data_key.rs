//! Data keys: random keys for a caller's own encryption, wrapped by a key of ours and never stored.

use twinkeep_core::key::Algorithm;
use twinkeep_envelope::Context;
use zeroize::Zeroizing;

use crate::backend::{Call, Error, InvalidInput, KeyBackend, KeyHandle};
use crate::{limits, random};

/// Longest data key, in bytes.
pub const LEN_MAX: usize = 1024;

/// A new data key, open and wrapped.
#[derive(Debug)]
pub struct DataKey {
    /// The key itself, wiped on drop.
    pub plaintext: Zeroizing<Vec<u8>>,
    /// The same, encrypted under the wrapping key; `decrypt` opens it.
    pub ciphertext: Vec<u8>,
}

/// Draws `len` bytes and encrypts them under `key` of any backend.
///
/// # Errors
/// [`Error::InvalidInput`] for a length of 0 or over [`LEN_MAX`]; whatever `encrypt` fails with.
pub async fn generate_data_key(
    backend: &dyn KeyBackend,
    call: Call,
    key: &KeyHandle,
    len: usize,
    context: &Context<'_>,
) -> Result<DataKey, Error> {
    if len == 0 {
        let problem = "is 0; ask for 1 to 1024 bytes, 32 for AES-256";
        return Err(InvalidInput::Unfit { field: "number of bytes", problem }.into());
    }
    limits::check("data key", len, LEN_MAX, "derive longer keys from a shorter one")?;
    let plaintext = random::bytes(len)?;
    let ciphertext =
        backend.encrypt(call, key, Algorithm::SymmetricDefault, &plaintext, context).await?;
    Ok(DataKey { plaintext, ciphertext })
}
