//! Data keys that serve more than one message: local encryption at the speed of the cipher.
//!
//! [`Client::data_keys`] gives a [`DataKeys`]. The first message fetches a data key from the service; it then
//! seals this and further messages here, until its age, its messages or its bytes reach a bound. A blob
//! carries its data key in wrapped form (`docs/formats.md`, section 17), so whoever may decrypt under the key
//! can open it, anywhere, for as long as the key lives.
//!
//! **What is given up for the speed.** The service sees one call for each data key, not one for each message: its
//! audit log and its limits count data keys. A key that is disabled stops new data keys at once; data
//! keys that are here already go on until they are [`age_max`](DataKeyOptions::age_max) old, for sealing
//! and for opening. They are outside of the promise that a disabled key is used nowhere. Where that matters
//! for every message, call [`Client::encrypt`].
//!
//! Data keys are wiped when they are dropped, replaced, pushed out or too old.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use twinkeep_envelope::message::{self, InvalidMessage, Message, NoMessage, Wrapped};
use twinkeep_envelope::{Context, SealError};
use twinkeep_proto::v1;
use zeroize::Zeroizing;

use crate::client::Client;
use crate::error::Error;

mod key;
mod opened;
mod options;

use key::{DataKey, Use};
use opened::Opened;
pub use options::DataKeyOptions;

/// The wait after a refresh in the background failed.
const REFRESH_PAUSE: Duration = Duration::from_secs(1);

/// Why a message was not sealed or opened.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DataKeyError {
    /// The service gave no data key, or did not unwrap one.
    #[error("no data key")]
    Call(#[from] Error),
    /// What the service gave is no data key.
    #[error("the service gave no data key of 32 bytes")]
    NoKey,
    /// The message is too long, or there is no randomness.
    #[error("the message was not sealed")]
    Seal(#[from] SealError),
    /// The bytes are no message of a data key.
    #[error("this is no message under a data key")]
    NoMessage(#[from] NoMessage),
    /// The message was damaged, or is bound to another context.
    #[error(transparent)]
    Invalid(#[from] InvalidMessage),
}

impl DataKeyError {
    /// Tells whether the same may succeed later without any change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Call(error) => error.is_retryable(),
            Self::NoKey | Self::Seal(_) | Self::NoMessage(_) | Self::Invalid(_) => false,
        }
    }
}

/// A fetch that all who need it wait for together.
type Flight<T> = Shared<BoxFuture<'static, Result<T, DataKeyError>>>;

/// Seals and opens messages under data keys of one key. Cheap to clone; clones share the data keys.
#[derive(Debug, Clone)]
pub struct DataKeys(Arc<Inner>);

struct Inner {
    client: Client,
    key_id: String,
    options: DataKeyOptions,
    current: Mutex<Current>,
    opened: Mutex<Opened>,
}

#[derive(Default)]
struct Current {
    key: Option<Arc<DataKey>>,
    flight: Option<Flight<Arc<DataKey>>>,
    /// No refresh in the background before this.
    pause_until: Option<Instant>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataKeys").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl Client {
    /// Returns what seals and opens messages here, under data keys of a key of spec AES_256.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn data_keys(&self, key_id: impl Into<String>, options: DataKeyOptions) -> DataKeys {
        let inner = Arc::new(Inner {
            client: self.clone(),
            key_id: key_id.into(),
            current: Mutex::default(),
            opened: Mutex::new(Opened::new(options.opened_max)),
            options,
        });
        tokio::spawn(expire(Arc::downgrade(&inner), inner.options.look_every()));
        DataKeys(inner)
    }
}

impl DataKeys {
    /// Seals a message of at most 16 MiB; it opens with the same context alone.
    ///
    /// # Errors
    /// [`DataKeyError`] says why, and whether to try again. Once a data key is here, only a message that is
    /// too long fails.
    pub async fn seal(
        &self,
        plaintext: &[u8],
        context: &Context<'_>,
    ) -> Result<Bytes, DataKeyError> {
        let key = self.sealing_key(plaintext.len()).await?;
        Ok(message::seal(key.open(), key.wrapped(), context, plaintext)?.into())
    }

    /// Opens a message. The plaintext is wiped on drop.
    ///
    /// # Errors
    /// [`DataKeyError`] says why, and whether to try again.
    pub async fn open(
        &self,
        blob: &[u8],
        context: &Context<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, DataKeyError> {
        let message = Message::parse(blob)?;
        let key = self.opening_key(message.wrapped_key()).await?;
        Ok(message.open(key.open(), context)?)
    }

    /// The key that the data keys are wrapped under.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.0.key_id
    }

    async fn sealing_key(&self, len: usize) -> Result<Arc<DataKey>, DataKeyError> {
        loop {
            let (flight, is_ours) = {
                let mut current = self.0.current.lock();
                let now = Instant::now();
                if let Some(key) = current.key.clone() {
                    match key.take(len, &self.0.options, now) {
                        Use::Fresh => return Ok(key),
                        Use::Aging => {
                            if current.pause_until.is_none_or(|until| until <= now) {
                                // It runs by itself.
                                drop(self.fetch(&mut current, None));
                            }
                            return Ok(key);
                        }
                        Use::Spent => current.key = None,
                    }
                }
                let is_ours = current.flight.is_none();
                (self.fetch(&mut current, Some(len)), is_ours)
            };
            let key = flight.await?;
            // A fetch always serves the message that it was begun for, or bounds tighter than the way of an
            // answer would have it fetch for ever. The others that waited may find the data key used up.
            let taken = || key.take_awaited(len, &self.0.options, Instant::now());
            if is_ours || taken() != Use::Spent {
                return Ok(key);
            }
        }
    }

    /// Returns the fetch that is under way, or begins one, for a message of `promised` bytes if any. It runs to
    /// its end whoever waits for it.
    fn fetch(&self, current: &mut Current, promised: Option<usize>) -> Flight<Arc<DataKey>> {
        let begin = || {
            let (weak, client) = (Arc::downgrade(&self.0), self.0.client.clone());
            let request = v1::GenerateDataKeyRequest {
                key_id: self.0.key_id.clone(),
                encryption_context: self.0.options.encryption_context.clone(),
                ..Default::default()
            };
            let flight = async move {
                let begun = Instant::now();
                let fetched = match client.generate_data_key(request).await {
                    Ok(answer) => DataKey::of_generated(answer, begun, promised).map(Arc::new),
                    Err(error) => Err(error.into()),
                };
                if let Some(inner) = weak.upgrade() {
                    inner.arrived(&fetched);
                }
                fetched
            };
            let flight = flight.boxed().shared();
            tokio::spawn(flight.clone());
            flight
        };
        current.flight.get_or_insert_with(begin).clone()
    }

    async fn opening_key(&self, wrapped: &[u8]) -> Result<Arc<DataKey>, DataKeyError> {
        let flight = {
            let (current, now) = (self.0.current.lock().key.clone(), Instant::now());
            let age_max = self.0.options.age_max;
            let own = current.filter(|key| key.is_wrapped_as(wrapped) && !key.is_old(age_max, now));
            if let Some(own) = own {
                return Ok(own);
            }
            self.0.opened.lock().find(wrapped, now + age_max, now, || self.unwrap(wrapped))
        };
        let key = flight.await;
        if key.is_err() {
            self.0.opened.lock().forget(wrapped);
        }
        key
    }

    fn unwrap(&self, wrapped: &[u8]) -> Flight<Arc<DataKey>> {
        let client = self.0.client.clone();
        let wrapped = Bytes::copy_from_slice(wrapped);
        let request = v1::DecryptRequest {
            key_id: self.0.key_id.clone(),
            ciphertext: wrapped.clone(),
            encryption_context: self.0.options.encryption_context.clone(),
            ..Default::default()
        };
        let flight = async move {
            let begun = Instant::now();
            let answer = client.decrypt(request).await?;
            DataKey::of_parts(answer.plaintext, Wrapped::new(&wrapped), begun).map(Arc::new)
        };
        let flight = flight.boxed().shared();
        tokio::spawn(flight.clone());
        flight
    }
}

impl Inner {
    fn arrived(&self, fetched: &Result<Arc<DataKey>, DataKeyError>) {
        let mut current = self.current.lock();
        current.flight = None;
        match fetched {
            // One that came too old is for those who wait for it, and is not kept.
            Ok(key) if key.is_old(self.options.age_max, Instant::now()) => {}
            Ok(key) => current.key = Some(Arc::clone(key)),
            Err(_) => current.pause_until = Some(Instant::now() + REFRESH_PAUSE),
        }
    }
}

/// Drops data keys that are too old, so that they are wiped although nobody calls.
async fn expire(inner: Weak<Inner>, every: Duration) {
    loop {
        sleep(every).await;
        let Some(inner) = inner.upgrade() else { return };
        let (now, age_max) = (Instant::now(), inner.options.age_max);
        inner.opened.lock().expire(now);
        let mut current = inner.current.lock();
        current.key = current.key.take().filter(|key| !key.is_old(age_max, now));
    }
}
