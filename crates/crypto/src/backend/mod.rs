//! What a place that holds keys can do for us: the [`KeyBackend`] trait and its vocabulary.
//!
//! A backend may be functions in this process (software), another process (an HSM's agent) or a
//! machine on the network (an external key proxy). The trait is shaped by the last: every call carries
//! a [`Call`] with its deadline, may come back later, and may fail because nobody answers.
//!
//! | file             | holds                                                          |
//! |------------------|----------------------------------------------------------------|
//! | `call.rs`        | [`Call`]: the deadline that travels with a call                |
//! | `reply.rs`       | [`Reply`]: an answer that is there already, or a future        |
//! | `key.rs`         | [`KeyTemplate`], [`Material`], [`KeyHandle`]: what a key is     |
//! | `capabilities.rs`| [`Capabilities`]: what a backend offers                        |
//! | `error.rs`       | [`Error`]: split by what a caller would do about it            |

mod call;
mod capabilities;
mod error;
mod key;
mod reply;

use std::time::Duration;

use twinkeep_core::key::Algorithm;
use twinkeep_envelope::{Context, SecretBytes};
use zeroize::Zeroizing;

pub use self::call::Call;
pub use self::capabilities::{Capabilities, Custody, KeyCapability};
pub use self::error::{Error, Failure, InvalidInput, Unavailable};
pub use self::key::{Generated, KeyHandle, KeyTemplate, Material, PublicKey};
pub use self::reply::Reply;

/// What a caller hands over to be signed or verified.
#[derive(Debug, Clone, Copy)]
pub enum Message<'a> {
    /// The message itself; the backend hashes it.
    Raw(&'a [u8]),
    /// The digest of the message by the hash of the algorithm. Not for Ed25519, which hashes twice.
    Digest(&'a [u8]),
}

/// What a verification found. An enum, so that `verify(…).await?;` alone does not compile quietly.
#[must_use = "a verification that nobody looks at verifies nothing"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The signature or MAC was made with this key over this message.
    Valid,
    /// It was not, for whatever reason: wrong key, wrong message, malformed, truncated.
    Invalid,
}

impl Verdict {
    /// Tells whether the signature or MAC is good.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        matches!(self, Self::Valid)
    }

    pub(crate) const fn of(valid: bool) -> Self {
        if valid { Self::Valid } else { Self::Invalid }
    }
}

/// The outcome of a deep probe: a cryptographic operation was done and gave the right answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// How long the operation took, the way there and back included.
    pub latency: Duration,
}

/// A place that holds keys and computes with them.
///
/// # What an implementation must do
/// - Answer or fail by the deadline of the [`Call`]; a call whose deadline is over is not begun.
/// - Refuse a size that is over a limit before it does any work, with an [`InvalidInput`] that names
///   the field, the limit and the way out.
/// - Refuse an algorithm that is not in `template.spec.algorithms(template.usage)`, even where the
///   material could do it: one key, one usage.
/// - Give [`Error::InvalidCiphertext`] for every ciphertext that does not open, whatever the cause, and
///   [`Verdict::Invalid`] for every signature or MAC that does not hold. Neither tells which step failed.
/// - Test every asymmetric pair it generates or imports, by use, before it returns it.
/// - Draw every random bit from a generator seeded by the operating system or the device, and take no
///   nonce from a caller.
/// - Put nothing secret into an error, a log line or a `Debug` output.
///
/// # What it may do
/// - Answer at once ([`Reply::ready`]) where the work takes microseconds, later where it does not. It
///   never keeps the thread that polls for more than 0.2 ms.
/// - Keep material to itself ([`Custody::Kept`]): then [`Material`] holds the name under which it is
///   found again, and a handle holds no more than that.
/// - Fail any call with [`Error::Unavailable`], after which the same call may be sent again, here or
///   through another node. `generate` and `import` of kept material look for the version id first, so
///   that sending them again makes no second key.
///
/// # What a caller may rely on
/// - Calls are independent and may run concurrently, also on one handle.
/// - Dropping a [`Reply`] gives up the answer, not the work: what was begun may still happen.
/// - A handle stays usable until `destroy`; after that each use fails.
/// - A backend never falls back to another one.
pub trait KeyBackend: Send + Sync {
    /// Returns what the backend offers. Asked often, so it costs nothing: it was found out at connect.
    fn capabilities(&self) -> &Capabilities;

    /// Does one cryptographic operation with a known answer, and says how long it took.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::DeadlineExceeded`], or [`Error::Internal`] for a wrong answer.
    fn probe(&self, call: Call) -> Reply<'_, Health>;

    /// Makes new material.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a spec and usage it does not offer.
    fn generate<'a>(&'a self, call: Call, template: &'a KeyTemplate) -> Reply<'a, Generated>;

    /// Takes in material made elsewhere: raw bytes for AES and HMAC, PKCS#8 DER for the rest. The
    /// material is checked strictly, and comes back in the form in which it is to be sealed.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for material that is not of the spec; [`Error::Unsupported`].
    fn import<'a>(
        &'a self,
        call: Call,
        template: &'a KeyTemplate,
        material: SecretBytes,
    ) -> Reply<'a, Generated>;

    /// Makes material usable: parses what was sealed, or finds what is kept inside.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for material that is not of the template's spec, and
    /// [`Error::Unavailable`] for kept material that is not found *yet*: a device may replicate slowly.
    fn open<'a>(
        &'a self,
        call: Call,
        template: &'a KeyTemplate,
        material: Material,
    ) -> Reply<'a, KeyHandle>;

    /// Encrypts. `context` is bound to the ciphertext of a symmetric key; RSA takes none.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a plaintext over the limit or a context on an RSA key.
    fn encrypt<'a>(
        &'a self,
        call: Call,
        key: &'a KeyHandle,
        algorithm: Algorithm,
        plaintext: &'a [u8],
        context: &'a Context<'a>,
    ) -> Reply<'a, Vec<u8>>;

    /// Decrypts what [`KeyBackend::encrypt`] returned, under the same context. The plaintext is wiped on
    /// drop; whoever hands it on may `std::mem::take` it.
    ///
    /// # Errors
    /// [`Error::InvalidCiphertext`] for everything that does not open.
    fn decrypt<'a>(
        &'a self,
        call: Call,
        key: &'a KeyHandle,
        algorithm: Algorithm,
        ciphertext: &'a [u8],
        context: &'a Context<'a>,
    ) -> Reply<'a, Zeroizing<Vec<u8>>>;

    /// Signs. RSA gives a signature as long as the modulus, ECDSA a DER `Ecdsa-Sig-Value` (low-S is not
    /// enforced, as with other services of this kind), Ed25519 gives 64 bytes.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a message over the limit or a digest of the wrong length.
    fn sign<'a>(
        &'a self,
        call: Call,
        key: &'a KeyHandle,
        algorithm: Algorithm,
        message: Message<'a>,
    ) -> Reply<'a, Vec<u8>>;

    /// Verifies a signature, with the public half alone.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] as for signing. A signature that does not hold is no error.
    fn verify<'a>(
        &'a self,
        call: Call,
        key: &'a KeyHandle,
        algorithm: Algorithm,
        message: Message<'a>,
        signature: &'a [u8],
    ) -> Reply<'a, Verdict>;

    /// Computes a message authentication code, as long as the output of its hash.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a message over the limit.
    fn mac<'a>(
        &'a self,
        call: Call,
        key: &'a KeyHandle,
        algorithm: Algorithm,
        message: &'a [u8],
    ) -> Reply<'a, Vec<u8>>;

    /// Verifies a message authentication code of full length, in constant time.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a message over the limit. A MAC that does not hold is no error.
    fn verify_mac<'a>(
        &'a self,
        call: Call,
        key: &'a KeyHandle,
        algorithm: Algorithm,
        message: &'a [u8],
        mac: &'a [u8],
    ) -> Reply<'a, Verdict>;

    /// Returns the public half of an asymmetric key.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a symmetric key.
    fn public_key<'a>(&'a self, call: Call, key: &'a KeyHandle) -> Reply<'a, PublicKey>;

    /// Destroys what the backend itself holds of the material. For sealed material that is nothing:
    /// the record is removed by whoever stores it. Doing it twice is no error.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while the holder of kept material cannot be reached.
    fn destroy<'a>(&'a self, call: Call, template: &'a KeyTemplate) -> Reply<'a, ()>;
}
