//! Use of keys: `twinkeep.v1.CryptoService`.
//!
//! Every call goes the same way: sizes and checksums, then the key ([`Entered::on_key`]), then
//! [`Crypto::ready`], which refuses a key that may not be used and opens it, then the backend, then
//! [`Ground::check`], and only then the answer.

mod data_key;
mod encrypt;
mod mac;
mod public_key;
mod random;
mod sign;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use twinkeep_core::id::{KeyId, KeyVersionId, KeyVersionNumber};
use twinkeep_core::key::{Algorithm, KeyState, KeyUsage};
use twinkeep_core::record::{KeyRecord, KeyVersionRecord, Record as _};
use twinkeep_crypto::{Call, KeyBackend, KeyHandle};
use twinkeep_proto::v1::CryptoStreamRequest;
use twinkeep_proto::v1::crypto_service_server::CryptoService;

use crate::authorize::{Authorized, Entered, Gate};
use crate::convert::Wire as _;
use crate::error::CallError;
use crate::field;
use crate::ground::Ground;
use crate::handles::{Handles, Opened};
use crate::limits::{Work, cost};
use crate::operation::{self as op, Operation};
use crate::ports::{Backends, Ports};
use crate::records::Kept;
use crate::stream::{self, Driver};

/// `twinkeep.v1.CryptoService`. Cheap to clone: each stream has one.
#[derive(Clone)]
pub(crate) struct Crypto {
    gate: Arc<Gate>,
    handles: Arc<Handles>,
    backends: Backends,
    stop: CancellationToken,
}

/// What a call wants of a key.
struct Want<'a> {
    usage: KeyUsage,
    version: Version<'a>,
    /// On the wire; 0 takes the key's default.
    algorithm: i32,
    work: Work,
}

/// Which version of a key a call wants.
#[derive(Clone, Copy)]
enum Version<'a> {
    Primary,
    /// As on the wire; empty takes the primary one.
    Id(&'a str),
    /// As a ciphertext names it.
    OfCiphertext(KeyVersionNumber),
}

/// A key that may be used, open.
struct Ready<'a> {
    key: Kept<KeyRecord>,
    version: Kept<KeyVersionRecord>,
    algorithm: Algorithm,
    backend: &'a dyn KeyBackend,
    call: Call,
    opened: Opened,
    ground: Ground,
}

impl Ready<'_> {
    fn handle(&self) -> &KeyHandle {
        &self.opened.handle
    }

    fn key_id(&self) -> String {
        self.key.id.to_string()
    }

    fn version_id(&self) -> String {
        self.version.id.to_string()
    }
}

impl Crypto {
    pub(crate) fn new(gate: Arc<Gate>, handles: Arc<Handles>, ports: &Ports) -> Self {
        Self { gate, handles, backends: ports.backends.clone(), stop: ports.stop.clone() }
    }

    /// Makes a key ready for use, or says why it may not be used.
    async fn ready<O: Operation>(
        &self,
        authorized: &Authorized<'_, O, Kept<KeyRecord>>,
        want: Want<'_>,
    ) -> Result<Ready<'_>, CallError> {
        let (call, key) = (authorized.call(), authorized.resource().clone());
        usable(&key, want.usage)?;
        let algorithm = Algorithm::optional("algorithm", want.algorithm)?;
        let algorithm = algorithm.unwrap_or(key.spec.algorithms(key.usage)[0]);
        let version = version(call, &key, want.version)?;
        durable(call, &version)?;
        call.charge(cost(key.spec, want.work))?;
        call.draft().tell(|about| {
            about.algorithm = Some(algorithm);
            about.backend = Some(version.backend.as_str());
            about.version(key.id, version.number);
        });
        call.draft().works_on(version.backend);
        if key.spec.is_asymmetric() && want.work == Work::Private {
            call.draft().uses_private_key();
        }
        let backend_call = Call::until(call.deadline()).of(call.share());
        let opened = self.handles.open(backend_call, &key, &version).await?;
        let ground = ground(call, &key, Some(opened.clone()))?;
        Ok(Ready {
            backend: self.backends.of(version.backend),
            key,
            version,
            algorithm,
            call: backend_call,
            opened,
            ground,
        })
    }

    /// Lets a result go if what it rests on has not moved.
    fn settle<O: Operation>(&self, call: &Entered<O>, ready: &Ready<'_>) -> Result<(), CallError> {
        ready.ground.check(call, &self.handles)
    }
}

fn usable(key: &KeyRecord, wanted: KeyUsage) -> Result<(), CallError> {
    if key.state != KeyState::Enabled {
        return Err(CallError::KeyUnusable { key: key.id, state: key.state });
    }
    if key.usage != wanted {
        return Err(CallError::WrongUsage { key: key.id, usage: key.usage, wanted });
    }
    Ok(())
}

/// Refuses a version that the wrong loss could still take away: what was made with it would stay.
fn durable<O: Operation>(call: &Entered<O>, version: &KeyVersionRecord) -> Result<(), CallError> {
    if version.created_index > call.records().control().usable_up_to() {
        return Err(CallError::NotDurableYet { key: version.key, version: version.number });
    }
    Ok(())
}

fn ground<O: Operation>(
    call: &Entered<O>,
    key: &Kept<KeyRecord>,
    opened: Option<Opened>,
) -> Result<Ground, CallError> {
    let instance = call.records().instance(key.instance)?;
    let instance = instance.ok_or_else(|| CallError::Missing(key.instance.to_string()))?;
    Ok(Ground { key: key.clone(), instance, opened })
}

fn version<O: Operation>(
    call: &Entered<O>,
    key: &KeyRecord,
    wanted: Version<'_>,
) -> Result<Kept<KeyVersionRecord>, CallError> {
    match wanted {
        Version::Primary | Version::Id("") => primary(call, key),
        Version::Id(text) => version_by_id(call, key, field::parse("key_version_id", text)?),
        Version::OfCiphertext(number) => {
            call.records().version(key.id, number)?.ok_or(CallError::InvalidCiphertext)
        }
    }
}

fn primary<O: Operation>(
    call: &Entered<O>,
    key: &KeyRecord,
) -> Result<Kept<KeyVersionRecord>, CallError> {
    let record = call.records().version(key.id, key.primary)?;
    record.ok_or_else(|| CallError::Missing(format!("{} version {}", key.id, key.primary)))
}

fn version_by_id<O: Operation>(
    call: &Entered<O>,
    key: &KeyRecord,
    id: KeyVersionId,
) -> Result<Kept<KeyVersionRecord>, CallError> {
    let primary = primary(call, key)?;
    if primary.id == id {
        return Ok(primary);
    }
    let all = versions(call, key.id)?;
    let number = all.into_iter().find(|version| version.id == id).map(|version| version.number);
    let found = number.map(|number| call.records().version(key.id, number)).transpose()?.flatten();
    found.ok_or_else(|| CallError::NotFound { what: "key version", id: id.to_string() })
}

/// Returns all versions of a key, oldest first.
pub(crate) fn versions<O: Operation>(
    call: &Entered<O>,
    key: KeyId,
) -> Result<Vec<KeyVersionRecord>, CallError> {
    let view = call.records().control().view();
    Ok(KeyVersionRecord::list(&*view, key.as_bytes(), &[], usize::MAX)?)
}

macro_rules! service {
    ($($unary:ident, $batch:ident, $operation:ident;)+) => {
        #[tonic::async_trait]
        impl CryptoService for Crypto {
            type CryptoStreamStream = Driver;

            async fn crypto_stream(
                &self,
                request: Request<Streaming<CryptoStreamRequest>>,
            ) -> Result<Response<Driver>, Status> {
                stream::open(&self.gate, self, &self.stop, request).await
            }

            $(
                async fn $unary(
                    &self,
                    request: Request<<op::$operation as Operation>::Request>,
                ) -> Result<Response<<op::$operation as Operation>::Answer>, Status> {
                    self.gate.unary::<op::$operation, _>(self, request).await
                }

                async fn $batch(
                    &self,
                    request: Request<<op::$operation as op::Batched>::Batch>,
                ) -> Result<Response<<op::$operation as op::Batched>::Results>, Status> {
                    self.gate.batch::<op::$operation, _>(self, request).await
                }
            )+
        }
    };
}

service! {
    encrypt, encrypt_batch, Encrypt;
    decrypt, decrypt_batch, Decrypt;
    re_encrypt, re_encrypt_batch, ReEncrypt;
    generate_data_key, generate_data_key_batch, GenerateDataKey;
    generate_data_key_without_plaintext, generate_data_key_without_plaintext_batch,
        GenerateDataKeyWithoutPlaintext;
    sign, sign_batch, Sign;
    verify, verify_batch, Verify;
    generate_mac, generate_mac_batch, GenerateMac;
    verify_mac, verify_mac_batch, VerifyMac;
    get_public_key, get_public_key_batch, GetPublicKey;
    generate_random, generate_random_batch, GenerateRandom;
}
