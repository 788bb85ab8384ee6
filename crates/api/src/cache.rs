//! A bounded map that forgets what was not used lately.
//!
//! Two generations: what is used moves to the young one, and when that is full the old one is dropped
//! as a whole. A lookup costs one read lock; no entry outlives two fillings of half the bound.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::RwLock;

pub(crate) struct Bounded<K, V> {
    half: usize,
    generations: RwLock<Generations<K, V>>,
}

struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V> Generations<K, V> {
    fn take_young(&mut self, key: K, value: V, half: usize) {
        if self.young.len() >= half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Bounded<K, V> {
    /// Holds at most `max` entries.
    pub(crate) fn new(max: usize) -> Self {
        let generations = Generations { young: HashMap::new(), old: HashMap::new() };
        Self { half: (max / 2).max(1), generations: RwLock::new(generations) }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        if let Some(value) = self.generations.read().young.get(key) {
            return Some(value.clone());
        }
        // Moved under one lock: an entry that was removed meanwhile does not come back.
        let mut generations = self.generations.write();
        let value = generations.old.remove(key)?;
        generations.take_young(key.clone(), value.clone(), self.half);
        Some(value)
    }

    pub(crate) fn insert(&self, key: K, value: V) {
        let mut generations = self.generations.write();
        generations.old.remove(&key);
        generations.take_young(key, value, self.half);
    }

    pub(crate) fn remove(&self, key: &K) {
        let mut generations = self.generations.write();
        generations.young.remove(key);
        generations.old.remove(key);
    }

    pub(crate) fn clear(&self) {
        let mut generations = self.generations.write();
        generations.young = HashMap::new();
        generations.old = HashMap::new();
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let generations = self.generations.read();
        generations.young.len() + generations.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_never_holds_more_than_its_bound() {
        let cache = Bounded::new(8);
        for i in 0..1000 {
            cache.insert(i, i);
            assert!(cache.len() <= 8);
        }
    }

    #[test]
    fn entry_in_use_outlives_others() {
        let cache = Bounded::new(8);
        cache.insert(0, "kept");
        for i in 1..1000 {
            assert_eq!(cache.get(&0), Some("kept"));
            cache.insert(i, "passing");
        }
        assert_eq!(cache.get(&1), None);
    }

    #[test]
    fn removed_entry_does_not_come_back_from_the_old_generation() {
        let cache = Bounded::new(2);
        cache.insert(1, 1);
        cache.insert(2, 2);
        cache.remove(&1);
        assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(2)));
        cache.clear();
        assert_eq!(cache.len(), 0);
    }
}
