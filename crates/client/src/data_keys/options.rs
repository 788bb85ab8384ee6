//! The bounds of data keys.

use std::time::Duration;

use twinkeep_proto::v1;

/// How long and how much a data key serves.
#[derive(Debug, Clone)]
pub struct DataKeyOptions {
    pub(super) age_max: Duration,
    pub(super) messages_max: u64,
    pub(super) bytes_max: u64,
    pub(super) opened_max: usize,
    pub(super) encryption_context: Vec<v1::ContextPair>,
}

impl Default for DataKeyOptions {
    fn default() -> Self {
        Self {
            age_max: Duration::from_secs(300),
            messages_max: 1 << 20,
            bytes_max: 1 << 36,
            opened_max: 1000,
            encryption_context: Vec::new(),
        }
    }
}

impl DataKeyOptions {
    /// Age at which a data key is wiped, counted from asking for it: how long a key that was disabled may
    /// still be used here. Default 5 minutes.
    ///
    /// A data key whose answer took longer than that serves those who waited for it, and is then wiped: each of
    /// their messages is sealed or opened, one call later.
    ///
    /// The next data key is fetched in the background once four fifths of a bound are reached.
    #[must_use]
    pub fn age_max(mut self, age: Duration) -> Self {
        self.age_max = age;
        self
    }

    /// Messages that one data key seals. Default 2^20. The cipher itself has no bound: each message has a key
    /// of its own.
    #[must_use]
    pub fn messages_max(mut self, messages: u64) -> Self {
        self.messages_max = messages;
        self
    }

    /// Bytes that one data key seals; its first message may be longer. Default 64 GiB.
    #[must_use]
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// Data keys that are kept for opening; beyond it the one that was used longest ago is wiped. Default
    /// 1000, at least 1.
    #[must_use]
    pub fn opened_max(mut self, keys: usize) -> Self {
        self.opened_max = keys.max(1);
        self
    }

    /// Binds the data keys to a context, which the service sees and records. Opening needs the same. Each
    /// message has a context of its own besides. Default none.
    #[must_use]
    pub fn encryption_context<K, V>(mut self, pairs: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<String>,
        V: Into<String>,
    {
        let pair = |(key, value): (K, V)| v1::ContextPair { key: key.into(), value: value.into() };
        self.encryption_context = pairs.into_iter().map(pair).collect();
        self
    }

    /// How often to look for data keys that are too old.
    pub(super) fn look_every(&self) -> Duration {
        (self.age_max / 8).clamp(Duration::from_millis(50), Duration::from_secs(10))
    }
}
