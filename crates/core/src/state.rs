//! The state that commands are applied to: tables of byte keys and byte values.
//!
//! `storage` keeps it in RocksDB; tests keep it in a map. Values are encoded by [`crate::record`];
//! the store adds its own format byte and checksum below.

/// One table of the replicated state. The numbers are stored; they are not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// The cluster record, the replicated clock, and the last node id that was given.
    Cluster = 1,
    /// Key metadata by key id.
    Keys = 2,
    /// Key version metadata by key id and version number.
    KeyVersions = 3,
    /// Sealed records by kind, instance id and logical record key.
    Sealed = 4,
    /// Instances by instance id.
    Instances = 5,
    /// Role bindings by caller name.
    Bindings = 6,
    /// Nodes by node id, removed ones included.
    Nodes = 7,
    /// Admissions of nodes that have not joined yet, by the digest of their public key.
    Admissions = 8,
    /// Outcomes of tokened commands by principal and token.
    Tokens = 9,
    /// Seals by seal id.
    Seals = 10,
    /// Tokens again, by the time they expire, so that old ones are found without a search.
    TokenExpiry = 11,
}

impl Table {
    /// All tables, in the order of their numbers.
    pub const ALL: &'static [Self] = &[
        Self::Cluster,
        Self::Keys,
        Self::KeyVersions,
        Self::Sealed,
        Self::Instances,
        Self::Bindings,
        Self::Nodes,
        Self::Admissions,
        Self::Tokens,
        Self::Seals,
        Self::TokenExpiry,
    ];

    /// Returns the name of the table, as the store names its column family.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Keys => "keys",
            Self::KeyVersions => "key-versions",
            Self::Sealed => "sealed",
            Self::Instances => "instances",
            Self::Bindings => "bindings",
            Self::Nodes => "nodes",
            Self::Admissions => "admissions",
            Self::Tokens => "tokens",
            Self::Seals => "seals",
            Self::TokenExpiry => "token-expiry",
        }
    }
}

/// Stands for one row where changes are noted: a hash of table and key.
///
/// Two rows may share one. What is kept of either is then read again when the other changes, which costs
/// a read and is right all the same. Not stored, not sent: the hash may change between versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowMark(u64);

impl RowMark {
    /// Returns the mark of a row (FNV-1a of 64 bits, then the last step of SplitMix64, since FNV leaves the
    /// last bytes of a key in few bits).
    #[must_use]
    pub fn of(table: Table, key: &[u8]) -> Self {
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        let hash = key.iter().fold(step(OFFSET, &(table as u8)), step);
        let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(hash ^ (hash >> 31))
    }

    /// Returns the row's place among `places`, of which there are at least one.
    #[must_use]
    pub const fn place(self, places: usize) -> usize {
        (self.0 as usize) % places
    }
}

/// The store could not do its work or holds what nobody wrote. The node must stop: going on would
/// let it differ from its peers.
#[derive(Debug, thiserror::Error)]
#[error("the state store failed: {what}")]
pub struct Fault {
    /// What failed, with the place, for the operator.
    pub what: String,
    /// The cause, where there is one.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Fault {
    /// Describes a fault that has no cause below it.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    /// Describes a fault with its cause.
    #[must_use]
    pub fn caused(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { what: what.into(), source: Some(source.into()) }
    }
}

/// Keys with their values, in byte order.
pub type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Read access to a consistent state.
///
/// Implementations answer from one point in time, or from the writes of the running transaction on
/// top of it.
pub trait Read {
    /// Returns the value under a key.
    ///
    /// # Errors
    /// [`Fault`] when the store fails or the row is damaged.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Fault>;

    /// Returns up to `limit` rows with keys at or after `from` that open with `prefix`, in byte order.
    ///
    /// # Errors
    /// [`Fault`] when the store fails or a row is damaged.
    fn scan(&self, table: Table, prefix: &[u8], from: &[u8], limit: usize) -> Result<Rows, Fault>;
}

/// Write access inside one transaction: all writes of a log entry become visible together.
pub trait Write: Read {
    /// Sets the value under a key.
    fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>);

    /// Removes a key; removing a missing one is not an error.
    fn delete(&mut self, table: Table, key: &[u8]);
}
