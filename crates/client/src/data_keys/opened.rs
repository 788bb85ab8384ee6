//! Data keys that were unwrapped, for opening: bounded in number and age, least recently used first out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ring::digest;
use tokio::time::Instant;

use super::Flight;
use super::key::DataKey;

/// SHA-256 of a wrapped data key.
type Digest = [u8; 32];

/// The cache.
pub(super) struct Opened {
    entries: HashMap<Digest, Entry>,
    /// Entries by when they were used last.
    order: BTreeMap<u64, Digest>,
    uses: u64,
    max: usize,
}

struct Entry {
    flight: Flight<Arc<DataKey>>,
    used: u64,
    expires: Instant,
}

impl Entry {
    /// Tells whether it serves who asks now. While it is on its way it does, however long that takes.
    fn serves(&self, now: Instant) -> bool {
        now < self.expires || self.flight.peek().is_none()
    }
}

impl Opened {
    pub(super) fn new(max: usize) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), uses: 0, max }
    }

    /// Returns the data key of a wrapped one, or the fetch that is under way; begins one if there is none.
    pub(super) fn find(
        &mut self,
        wrapped: &[u8],
        expires: Instant,
        now: Instant,
        fetch: impl FnOnce() -> Flight<Arc<DataKey>>,
    ) -> Flight<Arc<DataKey>> {
        let digest = digest_of(wrapped);
        self.uses += 1;
        let used = self.uses;
        if let Some(entry) = self.entries.get_mut(&digest).filter(|entry| entry.serves(now)) {
            self.order.remove(&entry.used);
            self.order.insert(used, digest);
            entry.used = used;
            return entry.flight.clone();
        }
        self.remove(&digest);
        while self.entries.len() >= self.max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
        let flight = fetch();
        self.order.insert(used, digest);
        self.entries.insert(digest, Entry { flight: flight.clone(), used, expires });
        flight
    }

    /// Forgets a data key: a fetch that failed is not to be repeated from memory.
    pub(super) fn forget(&mut self, wrapped: &[u8]) {
        self.remove(&digest_of(wrapped));
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        let order = &mut self.order;
        self.entries.retain(|_, entry| {
            let keep = entry.serves(now);
            if !keep {
                order.remove(&entry.used);
            }
            keep
        });
    }

    fn remove(&mut self, digest: &Digest) {
        if let Some(entry) = self.entries.remove(digest) {
            self.order.remove(&entry.used);
        }
    }
}

fn digest_of(wrapped: &[u8]) -> Digest {
    let digest = digest::digest(&digest::SHA256, wrapped);
    digest.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use twinkeep_envelope::message::Wrapped;

    use super::*;

    fn made() -> Flight<Arc<DataKey>> {
        let key = DataKey::of_parts(vec![7; 32].into(), Wrapped::new(b"wrapped"), Instant::now());
        let flight = futures::future::ready(key.map(Arc::new)).boxed().shared();
        // It has come.
        flight.clone().now_or_never();
        flight
    }

    /// Looks for a key; returns whether it had to be fetched.
    fn fetches(opened: &mut Opened, wrapped: &[u8], now: Instant) -> bool {
        let mut fetched = false;
        drop(opened.find(wrapped, now + Duration::from_secs(10), now, || {
            fetched = true;
            made()
        }));
        fetched
    }

    #[test]
    fn least_recently_used_is_pushed_out() {
        let (mut opened, now) = (Opened::new(2), Instant::now());
        assert!(fetches(&mut opened, b"a", now));
        assert!(fetches(&mut opened, b"b", now));
        assert!(!fetches(&mut opened, b"a", now));
        assert!(fetches(&mut opened, b"c", now));
        assert!(!fetches(&mut opened, b"a", now));
        assert!(fetches(&mut opened, b"b", now));
        assert_eq!((opened.entries.len(), opened.order.len()), (2, 2));
    }

    #[test]
    fn what_is_on_its_way_is_not_fetched_beside() {
        let (mut opened, now) = (Opened::new(10), Instant::now());
        let on_its_way = || futures::future::pending().boxed().shared();
        drop(opened.find(b"a", now, now, on_its_way));
        opened.expire(now);
        assert!(!fetches(&mut opened, b"a", now));
    }

    #[test]
    fn what_is_too_old_is_fetched_again_and_does_not_stay() {
        let (mut opened, now) = (Opened::new(10), Instant::now());
        assert!(fetches(&mut opened, b"a", now));
        let later = now + Duration::from_secs(10);
        assert!(fetches(&mut opened, b"a", later));
        opened.expire(later);
        assert_eq!((opened.entries.len(), opened.order.len()), (1, 1));
        opened.expire(later + Duration::from_secs(10));
        assert_eq!((opened.entries.len(), opened.order.len()), (0, 0));
        assert!(fetches(&mut opened, b"b", later));
        opened.forget(b"b");
        assert!(fetches(&mut opened, b"b", later));
    }
}
