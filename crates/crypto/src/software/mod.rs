//! The software backend: keys in this process, on ring and aws-lc.
//!
//! | file            | computes                                               | runs                         |
//! |-----------------|--------------------------------------------------------|------------------------------|
//! | `symmetric.rs`  | AES-256 envelopes, HMAC                                | at once                      |
//! | `ed25519.rs`    | Ed25519                                                | at once                      |
//! | `ec.rs`         | ECDSA                                                  | P-256 at once, others pooled |
//! | `rsa.rs`        | RSA signatures and OAEP                                | public half at once          |
//! | `asymmetric.rs` | what pairs have in common: import, tests by use        |                              |
//! | `key.rs`        | material and handles                                   |                              |
//! | `pool.rs`       | threads for slow work                                  |                              |
//! | `fair.rs`       | whose slow work is next                                |                              |
//!
//! Material is raw bytes for AES and HMAC and PKCS#8 for pairs; it comes and goes as
//! [`Material::Sealable`]. A handle holds the open key; for pairs that is the object that aws-lc made
//! of it, which aws-lc wipes when the last clone of the handle goes (`OPENSSL_free` in its
//! `crypto/mem.c`). Parsing it anew for each signature would cost between a third and all of the
//! signature again.
//!
//! Must run inside a tokio runtime: slow work goes to threads of its own, with tokio's timer for deadlines.

mod asymmetric;
#[cfg(test)]
mod costs;
mod ec;
mod ed25519;
mod fair;
mod key;
mod pool;
mod rsa;
pub mod self_test;
pub mod symmetric;

use std::time::Instant;

use twinkeep_core::id::{KeyId, KeyVersionId, KeyVersionNumber};
use twinkeep_core::key::{Algorithm, KeySpec, KeyUsage};
use twinkeep_envelope::{Context, OpenKey, SecretBytes};
use zeroize::Zeroizing;

use self::asymmetric::{Pair, unfit};
use self::key::Key;
use self::pool::Pool;
use crate::backend::{
    Call, Capabilities, Custody, Error, Failure, Generated, Health, KeyBackend, KeyCapability,
    KeyHandle, KeyTemplate, Material, Message, PublicKey, Reply, Verdict,
};
use crate::{limits, random};

/// Keys in this process.
pub struct SoftwareBackend {
    capabilities: Capabilities,
    pool: Pool,
    probe_key: KeyHandle,
}

impl SoftwareBackend {
    /// Makes a backend with a probe key of its own. Starts no thread.
    ///
    /// # Errors
    /// [`Failure::Randomness`] when there is no probe key to be had.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { capabilities: capabilities(), pool: Pool::new(), probe_key: probe_key()? })
    }
}

fn capabilities() -> Capabilities {
    let kinds =
        KeySpec::ALL.iter().flat_map(|spec| spec.usages().iter().map(|usage| (*spec, *usage)));
    let keys = kinds.map(|(spec, usage)| {
        let algorithms = spec.algorithms(usage).to_vec();
        KeyCapability { spec, usage, algorithms }
    });
    Capabilities {
        custody: Custody::Sealed,
        imports: true,
        keys: keys.collect(),
        plaintext_bytes_max: limits::PLAINTEXT_BYTES_MAX,
        message_bytes_max: limits::MESSAGE_BYTES_MAX,
    }
}

const fn probe_template() -> KeyTemplate {
    KeyTemplate {
        key_id: KeyId::from_bytes([0; 16]),
        version: KeyVersionNumber::FIRST,
        version_id: KeyVersionId::from_random([0; 16]),
        spec: KeySpec::Aes256,
        usage: KeyUsage::EncryptDecrypt,
    }
}

fn probe_key() -> Result<KeyHandle, Error> {
    key::open(&probe_template(), Material::Sealable(random::secret(OpenKey::LEN)?))
}

/// Tells whether the private half takes longer than a polling thread may be kept: RSA, and the curves
/// that aws-lc has in no such assembly as P-256. The ignored test in `costs.rs` prints the figures.
const fn is_slow_in_private(spec: KeySpec) -> bool {
    match spec {
        KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => true,
        KeySpec::EcP384 | KeySpec::EcP521 | KeySpec::EcP256k1 => true,
        KeySpec::EcP256 | KeySpec::Ed25519 => false,
        KeySpec::Aes256 | KeySpec::Hmac256 | KeySpec::Hmac384 | KeySpec::Hmac512 => false,
    }
}

/// The same for the public half, where RSA is fast.
const fn is_slow_in_public(spec: KeySpec) -> bool {
    matches!(spec, KeySpec::EcP384 | KeySpec::EcP521 | KeySpec::EcP256k1)
}

impl KeyBackend for SoftwareBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn probe(&self, call: Call) -> Reply<'_, Health> {
        Reply::ready(call.remaining().and_then(|_| probe(&self.probe_key)))
    }

    fn generate<'a>(&'a self, call: Call, template: &'a KeyTemplate) -> Reply<'a, Generated> {
        let template = *template;
        if !template.spec.is_asymmetric() {
            return Reply::ready(call.remaining().and_then(|_| key::generate(&template)));
        }
        Reply::later(self.pool.run(call, move || key::generate(&template)))
    }

    fn import<'a>(
        &'a self,
        call: Call,
        template: &'a KeyTemplate,
        material: SecretBytes,
    ) -> Reply<'a, Generated> {
        let template = *template;
        if !template.spec.is_asymmetric() {
            return Reply::ready(call.remaining().and_then(|_| key::import(&template, material)));
        }
        Reply::later(self.pool.run(call, move || key::import(&template, material)))
    }

    fn open<'a>(
        &'a self,
        call: Call,
        template: &'a KeyTemplate,
        material: Material,
    ) -> Reply<'a, KeyHandle> {
        let template = *template;
        if !is_slow_in_private(template.spec) {
            return Reply::ready(call.remaining().and_then(|_| key::open(&template, material)));
        }
        Reply::later(self.pool.run(call, move || key::open(&template, material)))
    }

    fn encrypt<'a>(
        &'a self,
        call: Call,
        key: &'a KeyHandle,
        algorithm: Algorithm,
        plaintext: &'a [u8],
        context: &'a Context<'a>,
    ) -> Reply<'a, Vec<u8>> {
        Reply::ready(
            admit(call, key, algorithm).and_then(|()| encrypt(key, algorithm, plaintext, context)),
        )
    }

    fn decrypt<'a>(
        &'a self,
        call: Call,
        key: &'a KeyHandle,
        algorithm: Algorithm,
        ciphertext: &'a [u8],
        context: &'a Context<'a>,
    ) -> Reply<'a, Zeroizing<Vec<u8>>> {
        Reply::begin(|| {
            admit(call, key, algorithm)?;
            let Key::Pair(_) = key.key()? else {
                return Ok(Reply::ready(decrypt_symmetric(key, ciphertext, context)));
            };
            refuse_context(context)?;
            // Longer than any modulus: no need to copy it in order to refuse it.
            if ciphertext.len() > PublicKey::LEN_MAX {
                return Err(Error::InvalidCiphertext);
            }
            let (key, ciphertext) = (key.clone(), ciphertext.to_vec());
            Ok(Reply::later(
                self.pool
                    .run(call, move || pair(&key)?.decrypt(key.template(), algorithm, &ciphertext)),
            ))
        })
    }

    fn sign<'a>(
        &'a self,
        call: Call,
        key: &'a KeyHandle,
        algorithm: Algorithm,
        message: Message<'a>,
    ) -> Reply<'a, Vec<u8>> {
        Reply::begin(|| {
            admit(call, key, algorithm)?;
            check_message(algorithm, message)?;
            if !is_slow_in_private(key.template().spec) {
                return Ok(Reply::ready(pair(key)?.sign(key.template(), algorithm, message)));
            }
            let (key, message) = (key.clone(), OwnedMessage::of(message));
            Ok(Reply::later(
                self.pool.run(call, move || {
                    pair(&key)?.sign(key.template(), algorithm, message.borrow())
                }),
            ))
        })
    }

    fn verify<'a>(
        &'a self,
        call: Call,
        key: &'a KeyHandle,
        algorithm: Algorithm,
        message: Message<'a>,
        signature: &'a [u8],
    ) -> Reply<'a, Verdict> {
        Reply::begin(|| {
            admit(call, key, algorithm)?;
            check_message(algorithm, message)?;
            if signature.len() > SIGNATURE_BYTES_MAX {
                return Ok(Reply::ready(Ok(Verdict::Invalid)));
            }
            if !is_slow_in_public(key.template().spec) {
                let verdict = pair(key)?.verify(key.template(), algorithm, message, signature);
                return Ok(Reply::ready(verdict));
            }
            let (key, message) = (key.clone(), OwnedMessage::of(message));
            let signature = signature.to_vec();
            Ok(Reply::later(self.pool.run(call, move || {
                pair(&key)?.verify(key.template(), algorithm, message.borrow(), &signature)
            })))
        })
    }

    fn mac<'a>(
        &'a self,
        call: Call,
        key: &'a KeyHandle,
        algorithm: Algorithm,
        message: &'a [u8],
    ) -> Reply<'a, Vec<u8>> {
        Reply::ready(
            admit(call, key, algorithm)
                .and_then(|()| symmetric::mac(mac_key(key)?, algorithm, message)),
        )
    }

    fn verify_mac<'a>(
        &'a self,
        call: Call,
        key: &'a KeyHandle,
        algorithm: Algorithm,
        message: &'a [u8],
        mac: &'a [u8],
    ) -> Reply<'a, Verdict> {
        Reply::ready(
            admit(call, key, algorithm)
                .and_then(|()| symmetric::verify_mac(mac_key(key)?, algorithm, message, mac)),
        )
    }

    fn public_key<'a>(&'a self, call: Call, key: &'a KeyHandle) -> Reply<'a, PublicKey> {
        Reply::ready(call.remaining().and_then(|_| Ok(pair(key)?.public_key().clone())))
    }

    /// Nothing is held here but handles, and those go with their holders.
    fn destroy<'a>(&'a self, call: Call, _: &'a KeyTemplate) -> Reply<'a, ()> {
        Reply::ready(call.remaining().map(drop))
    }
}

/// Longer than any signature: an RSA-4096 one has 512 bytes.
const SIGNATURE_BYTES_MAX: usize = 1024;

/// What every operation checks first: time left, a handle of ours, an algorithm of the key.
fn admit(call: Call, key: &KeyHandle, algorithm: Algorithm) -> Result<(), Error> {
    call.remaining()?;
    key.key::<Key>()?;
    key.template().check(algorithm)
}

fn unsupported(key: &KeyHandle, wanted: &'static str) -> Error {
    Error::unsupported(key.template().spec, key.template().usage, wanted)
}

fn pair(key: &KeyHandle) -> Result<&Pair, Error> {
    match key.key()? {
        Key::Pair(pair) => Ok(pair),
        Key::Aes(_) | Key::Hmac(_) => Err(unsupported(key, "what a key pair does")),
    }
}

fn mac_key(key: &KeyHandle) -> Result<&SecretBytes, Error> {
    match key.key()? {
        Key::Hmac(secret) => Ok(secret),
        Key::Aes(_) | Key::Pair(_) => Err(unsupported(key, "authentication codes")),
    }
}

fn encrypt(
    key: &KeyHandle,
    algorithm: Algorithm,
    plaintext: &[u8],
    context: &Context<'_>,
) -> Result<Vec<u8>, Error> {
    let template = key.template();
    match key.key()? {
        Key::Aes(open) => symmetric::encrypt(template, open, plaintext, context),
        Key::Pair(pair) => {
            refuse_context(context)?;
            let max = limits::oaep_plaintext_bytes_max(template.spec, algorithm)
                .ok_or_else(|| unsupported(key, "encryption"))?;
            limits::check_plaintext(plaintext.len(), max)?;
            pair.encrypt(template, algorithm, plaintext)
        }
        Key::Hmac(_) => Err(unsupported(key, "encryption")),
    }
}

fn decrypt_symmetric(
    key: &KeyHandle,
    ciphertext: &[u8],
    context: &Context<'_>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    match key.key()? {
        Key::Aes(open) => symmetric::decrypt(key.template(), open, ciphertext, context),
        Key::Hmac(_) | Key::Pair(_) => Err(unsupported(key, "decryption")),
    }
}

fn refuse_context(context: &Context<'_>) -> Result<(), Error> {
    if *context == Context::NONE {
        return Ok(());
    }
    Err(unfit("encryption context", "does not go with RSA; leave it out or use an AES_256 key"))
}

fn check_message(algorithm: Algorithm, message: Message<'_>) -> Result<(), Error> {
    match message {
        Message::Raw(message) => limits::check_message(algorithm, message.len()),
        // Its one right length is checked where the hash is known.
        Message::Digest(_) => Ok(()),
    }
}

/// A message that went to the pool.
enum OwnedMessage {
    Raw(Vec<u8>),
    Digest(Vec<u8>),
}

impl OwnedMessage {
    fn of(message: Message<'_>) -> Self {
        match message {
            Message::Raw(bytes) => Self::Raw(bytes.to_vec()),
            Message::Digest(bytes) => Self::Digest(bytes.to_vec()),
        }
    }

    fn borrow(&self) -> Message<'_> {
        match self {
            Self::Raw(bytes) => Message::Raw(bytes),
            Self::Digest(bytes) => Message::Digest(bytes),
        }
    }
}

/// Seals and opens a message under the probe key.
fn probe(key: &KeyHandle) -> Result<Health, Error> {
    const MESSAGE: &[u8] = b"probe";
    let began = Instant::now();
    let blob = encrypt(key, Algorithm::SymmetricDefault, MESSAGE, &Context::NONE)?;
    let opened = decrypt_symmetric(key, &blob, &Context::NONE)?;
    if *opened != MESSAGE {
        return Err(Failure::WrongAnswer.into());
    }
    Ok(Health { latency: began.elapsed() })
}
