//! A bounded map for many threads that forgets what was not used lately.
//!
//! Sixteen shards, each with a lock of its own. A shard has two generations: what is used moves to the
//! young one, and when that is full the old one is dropped as a whole. A lookup costs one read lock; no
//! entry outlives two fillings of half the bound. What is hot beyond the bound is made anew each time: the
//! map slows down then and never grows.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash};

use foldhash::fast::RandomState;
use parking_lot::RwLock;

use crate::metrics::CacheMeter;

const SHARDS: usize = 16;

pub(crate) struct Bounded<K, V> {
    hasher: RandomState,
    /// Half of what one shard may hold.
    half: usize,
    meter: CacheMeter,
    shards: [RwLock<Generations<K, V>>; SHARDS],
}

struct Generations<K, V> {
    young: HashMap<K, V, RandomState>,
    old: HashMap<K, V, RandomState>,
}

impl<K, V> Default for Generations<K, V> {
    fn default() -> Self {
        Self { young: HashMap::default(), old: HashMap::default() }
    }
}

impl<K: Eq + Hash, V> Generations<K, V> {
    /// Returns how many entries had to go.
    fn take_young(&mut self, key: K, value: V, half: usize) -> usize {
        let is_full = self.young.len() >= half && !self.young.contains_key(&key);
        let gone = if is_full {
            std::mem::replace(&mut self.old, std::mem::take(&mut self.young)).len()
        } else {
            0
        };
        self.young.insert(key, value);
        gone
    }

    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Bounded<K, V> {
    /// Holds at most `max` entries, in shares of a sixteenth. At least 32. The name is the cache's label in
    /// the metrics.
    pub(crate) fn new(name: &'static str, max: usize) -> Self {
        let shards = std::array::from_fn(|_| RwLock::default());
        let half = (max / SHARDS / 2).max(1);
        Self { hasher: RandomState::default(), half, meter: CacheMeter::of(name), shards }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let found = self.find(key);
        self.meter.looked_up(found.is_some());
        found
    }

    fn find(&self, key: &K) -> Option<V> {
        let shard = self.shard(key);
        if let Some(value) = shard.read().young.get(key) {
            return Some(value.clone());
        }
        // Moved under one lock: an entry that was removed meanwhile does not come back.
        self.change(shard, |generations| {
            let value = generations.old.remove(key)?;
            let gone = generations.take_young(key.clone(), value.clone(), self.half);
            self.meter.evicted(gone);
            Some(value)
        })
    }

    pub(crate) fn insert(&self, key: K, value: V) {
        self.change(self.shard(&key), |generations| {
            generations.old.remove(&key);
            let gone = generations.take_young(key, value, self.half);
            self.meter.evicted(gone);
        });
    }

    pub(crate) fn remove(&self, key: &K) {
        self.change(self.shard(key), |generations| {
            generations.young.remove(key);
            generations.old.remove(key);
        });
    }

    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            self.change(shard, |generations| *generations = Generations::default());
        }
    }

    /// Changes a shard and counts its entries.
    fn change<R>(
        &self,
        shard: &RwLock<Generations<K, V>>,
        change: impl FnOnce(&mut Generations<K, V>) -> R,
    ) -> R {
        let mut generations = shard.write();
        let before = generations.len();
        let result = change(&mut generations);
        self.meter.moved(before, generations.len());
        result
    }

    fn shard(&self, key: &K) -> &RwLock<Generations<K, V>> {
        // The map below takes the lower bits.
        &self.shards[(self.hasher.hash_one(key) >> 60) as usize]
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_never_holds_more_than_its_bound() {
        let cache = Bounded::new("test", 64);
        for i in 0..10_000 {
            cache.insert(i, i);
            assert!(cache.len() <= 64);
        }
        assert!(cache.len() > 32, "most of the room is used");
    }

    #[test]
    fn entry_in_use_outlives_others() {
        let cache = Bounded::new("test", 64);
        cache.insert(0, "kept");
        for i in 1..10_000 {
            assert_eq!(cache.get(&0), Some("kept"));
            cache.insert(i, "passing");
        }
        assert_eq!(cache.get(&1), None);
    }

    #[test]
    fn removed_entry_does_not_come_back_from_the_old_generation() {
        let cache = Bounded::new("test", 32);
        for i in 0..1000 {
            cache.insert(i, i);
        }
        for i in 0..1000 {
            cache.remove(&i);
        }
        assert_eq!(cache.len(), 0);
        cache.insert(1, 1);
        cache.clear();
        assert_eq!((cache.len(), cache.get(&1)), (0, None));
    }
}
