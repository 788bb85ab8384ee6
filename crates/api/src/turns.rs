//! One at a time for each key: so that a thousand calls for a key that is not open open it once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Whose turn it is, key by key. Holds an entry for as long as somebody has or awaits a turn.
pub(crate) struct Turns<K: Eq + Hash + Clone> {
    turns: Mutex<HashMap<K, Arc<AsyncMutex<()>>>>,
}

impl<K: Eq + Hash + Clone> Default for Turns<K> {
    fn default() -> Self {
        Self { turns: Mutex::default() }
    }
}

/// The turn for one key; it ends on drop.
pub(crate) struct Turn<'a, K: Eq + Hash + Clone> {
    // Dropped in this order: the lock, then the place.
    _lock: OwnedMutexGuard<()>,
    _place: Place<'a, K>,
}

/// A place in the queue for one key.
struct Place<'a, K: Eq + Hash + Clone> {
    turns: &'a Turns<K>,
    key: K,
}

impl<K: Eq + Hash + Clone> Turns<K> {
    /// Waits for the turn. Giving up the wait leaves nothing behind.
    pub(crate) async fn take(&self, key: K) -> Turn<'_, K> {
        let lock = Arc::clone(self.turns.lock().entry(key.clone()).or_default());
        let place = Place { turns: self, key };
        Turn { _lock: lock.lock_owned().await, _place: place }
    }
}

impl<K: Eq + Hash + Clone> Drop for Place<'_, K> {
    fn drop(&mut self) {
        let mut turns = self.turns.turns.lock();
        // Whoever else has or awaits the turn holds a clone, taken under this lock.
        if turns.get(&self.key).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::task::{JoinSet, yield_now};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn one_key_has_one_turn_at_a_time_and_another_key_its_own() {
        let (turns, inside) = (Arc::new(Turns::default()), Arc::new(AtomicUsize::new(0)));
        let other = turns.take(0).await;
        let mut tasks = JoinSet::new();
        for _ in 0..100 {
            let (turns, inside) = (Arc::clone(&turns), Arc::clone(&inside));
            tasks.spawn(async move {
                let _turn = turns.take(1).await;
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
            });
        }
        tasks.join_all().await;
        drop(other);
        assert!(turns.turns.lock().is_empty());
    }

    #[tokio::test]
    async fn wait_that_is_given_up_leaves_nothing_behind() {
        let turns = Turns::default();
        let first = turns.take(1).await;
        assert!(timeout(Duration::from_millis(1), turns.take(1)).await.is_err());
        drop(first);
        assert!(turns.turns.lock().is_empty());
    }
}
