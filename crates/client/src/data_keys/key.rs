//! One data key and how much it has served.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use twinkeep_envelope::OpenKey;
use twinkeep_envelope::message::Wrapped;
use twinkeep_proto::v1;

use super::{DataKeyError, DataKeyOptions};
use crate::wipe;

/// A data key in clear and as it was wrapped. Wiped on drop.
pub(super) struct DataKey {
    open: OpenKey,
    wrapped: Wrapped,
    born: Instant,
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// Whether a data key seals a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It does.
    Fresh,
    /// It does, and another one is needed soon.
    Aging,
    /// It does not: a bound is reached.
    Spent,
}

impl DataKey {
    /// Takes a new data key; `promised` is the length of the message that it was fetched for, which is counted
    /// here: whoever comes first, that message has its place.
    pub(super) fn of_generated(
        answer: v1::GenerateDataKeyResponse,
        born: Instant,
        promised: Option<usize>,
    ) -> Result<Self, DataKeyError> {
        let v1::GenerateDataKeyResponse { plaintext, ciphertext, .. } = answer;
        let wrapped = Wrapped::new(&ciphertext);
        // It may lie in the same buffer as the plaintext, which can be wiped when nobody else holds it: over a
        // stream the transport mostly does.
        drop(ciphertext);
        let mut key = Self::of_parts(plaintext, wrapped, born)?;
        if let Some(len) = promised {
            (key.messages, key.bytes) = (1.into(), (len as u64).into());
        }
        Ok(key)
    }

    /// Takes the key over and wipes the answer's copy of it, unless the transport holds that still.
    pub(super) fn of_parts(
        plaintext: Bytes,
        wrapped: Option<Wrapped>,
        born: Instant,
    ) -> Result<Self, DataKeyError> {
        let open = OpenKey::from_slice(&plaintext);
        wipe(plaintext);
        let (open, wrapped) = open.zip(wrapped).ok_or(DataKeyError::NoKey)?;
        Ok(Self { open, wrapped, born, messages: AtomicU64::new(0), bytes: AtomicU64::new(0) })
    }

    pub(super) fn open(&self) -> &OpenKey {
        &self.open
    }

    pub(super) fn wrapped(&self) -> &Wrapped {
        &self.wrapped
    }

    pub(super) fn is_wrapped_as(&self, wrapped: &[u8]) -> bool {
        self.wrapped.as_bytes() == wrapped
    }

    pub(super) fn is_old(&self, age_max: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.born) >= age_max
    }

    /// Counts a message of `len` bytes, if the bounds leave room for it.
    pub(super) fn take(&self, len: usize, bounds: &DataKeyOptions, now: Instant) -> Use {
        if self.is_old(bounds.age_max, now) {
            return Use::Spent;
        }
        self.take_awaited(len, bounds, now)
    }

    /// Counts a message that has waited for this data key, however old it came: another one would have been
    /// as long on its way.
    pub(super) fn take_awaited(&self, len: usize, bounds: &DataKeyOptions, now: Instant) -> Use {
        let len = len as u64;
        let messages = self.messages.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(len, Ordering::Relaxed).saturating_add(len);
        // The first message is always taken: no data key would have room for one over the bound.
        if messages > 0 && (messages >= bounds.messages_max || bytes > bounds.bytes_max) {
            return Use::Spent;
        }
        let aging = self.is_old(bounds.age_max / 5 * 4, now)
            || messages >= bounds.messages_max / 5 * 4
            || bytes > bounds.bytes_max / 5 * 4;
        if aging { Use::Aging } else { Use::Fresh }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> DataKey {
        DataKey::of_parts(vec![7; 32].into(), Wrapped::new(b"wrapped"), Instant::now()).unwrap()
    }

    fn count(bounds: &DataKeyOptions, len: usize) -> (usize, usize) {
        let key = key();
        let takes = (0..100).map(|_| key.take(len, bounds, Instant::now()));
        let uses: Vec<_> = takes.take_while(|taken| *taken != Use::Spent).collect();
        (uses.len(), uses.iter().filter(|taken| **taken == Use::Aging).count())
    }

    #[tokio::test(start_paused = true)]
    async fn bounds_hold_and_the_last_fifth_is_said() {
        let bounds = DataKeyOptions::default();
        assert_eq!(count(&bounds.clone().messages_max(10), 1), (10, 2));
        assert_eq!(count(&bounds.clone().bytes_max(100), 10), (10, 2));
        assert_eq!(count(&bounds.clone().messages_max(0), 1).0, 1);
        assert_eq!(count(&bounds.clone().bytes_max(5), 10).0, 1);

        let (key, bounds) = (key(), bounds.age_max(Duration::from_secs(10)));
        assert_eq!(key.take(1, &bounds, Instant::now()), Use::Fresh);
        assert_eq!(key.take(1, &bounds, Instant::now() + Duration::from_secs(8)), Use::Aging);
        assert_eq!(key.take(1, &bounds, Instant::now() + Duration::from_secs(10)), Use::Spent);
    }

    #[tokio::test(start_paused = true)]
    async fn message_that_a_key_was_fetched_for_has_its_place() {
        let bounds = DataKeyOptions::default().messages_max(2).age_max(Duration::ZERO);
        let answer = v1::GenerateDataKeyResponse {
            plaintext: vec![7; 32].into(),
            ciphertext: "wrapped".into(),
            ..Default::default()
        };
        let now = Instant::now();
        let key = DataKey::of_generated(answer, now, Some(10)).unwrap();
        // It was too old when it came: who waited with the first one is served, who comes later is not.
        assert_eq!(key.take(1, &bounds, now), Use::Spent);
        assert_eq!(key.take_awaited(1, &bounds, now), Use::Aging);
        assert_eq!(key.take_awaited(1, &bounds, now), Use::Spent);
    }

    #[test]
    fn key_of_another_length_is_refused_and_wiped() {
        let plaintext = Bytes::from(vec![7; 31]);
        let made = DataKey::of_parts(plaintext, Wrapped::new(b"wrapped"), Instant::now());
        assert!(matches!(made, Err(DataKeyError::NoKey)));
    }
}
