//! What may be sent twice.

/// How safe it is to send a call a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Safety {
    /// Use of keys: each answer is good, so it may run on several nodes at once.
    Crypto,
    /// Use of keys, many at once: like [`Self::Crypto`], but it takes its time.
    Batch,
    /// Changes nothing, answered from any node's state.
    Read,
    /// A change that is the same when made twice, by its nature or by an idempotency token.
    Repeatable,
    /// Like [`Self::Repeatable`], but it takes its time, and the nodes' too: making an RSA key.
    Laborious,
    /// A change that must not be sent twice: tried again only if it never left.
    Once,
}

impl Safety {
    /// Whether an attempt that left and broke may be followed by another.
    pub(crate) const fn repeats(self) -> bool {
        !matches!(self, Self::Once)
    }

    /// Whether the leader is the best node to ask.
    pub(crate) const fn writes(self) -> bool {
        matches!(self, Self::Repeatable | Self::Laborious | Self::Once)
    }

    /// Whether it uses keys.
    pub(crate) const fn crypto(self) -> bool {
        matches!(self, Self::Crypto | Self::Batch)
    }
}
