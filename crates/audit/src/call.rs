//! What an answered call leaves behind: who asked for what, what was decided, how it went.
//!
//! The fields are an allow-list. None holds a plaintext, a ciphertext, a token, a share or a PIN, and
//! none takes bytes of free form: whatever else a request carried never reaches this crate. The
//! encryption context is written in clear, as the API documents it. Numbers are stored and never
//! reused; a field that is absent takes no room.

use std::net::SocketAddr;

use ring::digest;
use twinkeep_core::id::{InstanceId, KeyId, KeyVersionNumber, NodeId, RequestId};

use crate::text::Text;

/// Most resources that one record names; further ones are counted.
pub const RESOURCES_MAX: usize = 32;
/// Largest encryption context that a record holds, in bytes of keys and values and 4 for each pair:
/// as much as the API accepts. Further pairs are counted.
pub const CONTEXT_BYTES_MAX: usize = 8 * 1024;

/// One answered call, refused ones included.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Call {
    /// When the answer was ready, in nanoseconds since the Unix epoch, UTC.
    #[n(0)]
    pub time_unix_ns: u64,
    /// Ties the record to log lines and to the attempts of one request on other nodes.
    #[n(1)]
    pub request: RequestId,
    /// What the client calls its request, if it said so. Not checked: a client may lie.
    #[n(2)]
    pub client_trace: Option<Text<64>>,
    /// The instance called, or [`InstanceId::CLUSTER`].
    #[n(3)]
    pub instance: InstanceId,
    /// Who called.
    #[n(4)]
    pub principal: Principal,
    /// Where the call came from; `None` on the node's own socket.
    #[n(5)]
    pub source: Option<SocketAddr>,
    /// The protocol that carried the call.
    #[n(6)]
    pub surface: Surface,
    /// The operation by its name in the native API, whatever the surface calls it.
    #[n(7)]
    pub operation: Text<64>,
    /// What the operation touched or would have touched.
    #[n(8)]
    pub resources: Resources,
    /// The algorithm used or asked for.
    #[n(9)]
    pub algorithm: Option<Text<48>>,
    /// The encryption context, in clear; `None` when the operation has none or it was left out.
    #[n(10)]
    pub context: Option<Context>,
    /// Size of the request's payload in bytes.
    #[n(11)]
    pub input_bytes: u64,
    /// Size of the answer's payload in bytes; zero for refusals.
    #[n(12)]
    pub output_bytes: u64,
    /// What authorisation said.
    #[n(13)]
    pub decision: Decision,
    /// The code that the caller was given, `OK` or one of the API's.
    #[n(14)]
    pub outcome: Text<48>,
    /// Which backend worked: `software`, or an HSM or proxy by its id. `None` if none was reached.
    #[n(15)]
    pub backend: Option<Text<64>>,
    /// From the request's last byte to the answer, in microseconds.
    #[n(16)]
    pub latency_us: u64,
    /// How often the node tried again behind the call.
    #[n(17)]
    pub retries: u32,
    /// How old the state may be that the answer rests on, in milliseconds; `None` while it is fresh.
    #[n(18)]
    pub state_age_ms: Option<u64>,
}

/// Who called.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Principal {
    /// How the principal is known.
    #[n(0)]
    pub kind: PrincipalKind,
    /// The name, unique in its kind; empty for [`PrincipalKind::Nobody`].
    #[n(1)]
    pub name: Text<128>,
    /// SHA-256 of the credential's public part, for a certificate that of its DER bytes.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub credential: Option<[u8; 32]>,
}

/// How a principal is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum PrincipalKind {
    /// No credential, or one that is not accepted.
    #[n(0)]
    Nobody,
    /// A caller with a certificate of the cluster's caller authority.
    #[n(1)]
    Caller,
    /// Another node of the cluster.
    #[n(2)]
    Node,
    /// A process of this machine on the node's own socket, known by its user id.
    #[n(3)]
    Local,
    /// The cluster itself, in work that nobody asked for.
    #[n(4)]
    Cluster,
}

/// The protocol that carried a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum Surface {
    /// The native API, one call a stream.
    #[n(1)]
    Grpc,
    /// A message on the native API's crypto stream.
    #[n(2)]
    GrpcStream,
    /// The node's own socket.
    #[n(3)]
    Local,
    /// Inside the node.
    #[n(4)]
    Internal,
}

/// What authorisation said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum Decision {
    /// The principal may do this. The call may have failed for another reason.
    #[n(1)]
    Allow,
    /// The principal may not.
    #[n(2)]
    Deny,
}

/// One thing that a call touched.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Resource {
    /// A key, and the version where one was chosen.
    #[n(1)]
    Key {
        /// The key.
        #[n(0)]
        id: KeyId,
        /// The version used or named.
        #[n(1)]
        version: Option<KeyVersionNumber>,
    },
    /// An instance.
    #[n(2)]
    Instance {
        /// The instance.
        #[n(0)]
        id: InstanceId,
    },
    /// A node.
    #[n(3)]
    Node {
        /// The node.
        #[n(0)]
        id: NodeId,
    },
    /// Anything known by name: a caller, a role, an alias, a secret.
    #[n(4)]
    Named {
        /// What it is, as `alias`.
        #[n(0)]
        kind: Text<32>,
        /// Its name.
        #[n(1)]
        name: Text<256>,
    },
}

/// What a call touched, at most [`RESOURCES_MAX`] of it by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Resources {
    #[n(0)]
    listed: Vec<Resource>,
    #[n(1)]
    omitted: u64,
}

impl Resources {
    /// Lists the first [`RESOURCES_MAX`] and counts the rest.
    pub fn new(resources: impl IntoIterator<Item = Resource>) -> Self {
        let mut rest = resources.into_iter();
        let listed = rest.by_ref().take(RESOURCES_MAX).collect();
        Self { listed, omitted: rest.fold(0, |count, _| count + 1) }
    }

    /// Returns those that are listed, in the call's order.
    #[must_use]
    pub fn listed(&self) -> &[Resource] {
        &self.listed
    }

    /// Returns how many were left out.
    #[must_use]
    pub const fn omitted(&self) -> u64 {
        self.omitted
    }
}

/// The encryption context of a call.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub enum Context {
    /// Pairs of text, sorted by key, keys unique.
    #[n(1)]
    Pairs {
        /// The pairs.
        #[n(0)]
        pairs: Vec<Pair>,
        /// How many pairs were left out, over [`CONTEXT_BYTES_MAX`] or for a key given twice. Zero
        /// unless the call was refused.
        #[n(1)]
        omitted: u64,
    },
    /// Associated data of free form, by its digest: an auditor who has the data can compare.
    #[n(2)]
    Bytes {
        /// Length in bytes.
        #[n(0)]
        len: u64,
        /// SHA-256 of the bytes.
        #[cbor(n(1), with = "minicbor::bytes")]
        sha256: [u8; 32],
    },
}

/// One pair of an encryption context.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, minicbor::Encode, minicbor::Decode)]
pub struct Pair {
    /// The key.
    #[n(0)]
    pub key: String,
    /// The value.
    #[n(1)]
    pub value: String,
}

impl Context {
    /// Takes pairs as the caller sent them.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut room = CONTEXT_BYTES_MAX;
        let mut kept = Vec::new();
        let mut omitted = 0;
        for (key, value) in pairs {
            match room.checked_sub(key.len() + value.len() + 4) {
                Some(left) => {
                    room = left;
                    kept.push(Pair { key: key.to_owned(), value: value.to_owned() });
                }
                None => omitted += 1,
            }
        }
        kept.sort_by(|a, b| a.key.cmp(&b.key));
        let taken = kept.len();
        kept.dedup_by(|later, first| later.key == first.key);
        omitted += (taken - kept.len()) as u64;
        Self::Pairs { pairs: kept, omitted }
    }

    /// Takes associated data of free form.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, bytes);
        let sha256 = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
        Self::Bytes { len: bytes.len() as u64, sha256 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_is_sorted_and_a_repeated_key_is_counted_not_hidden() {
        let context = Context::from_pairs([("b", "2"), ("a", "1"), ("b", "3")]);
        let pair = |key: &str, value: &str| Pair { key: key.into(), value: value.into() };
        let pairs = vec![pair("a", "1"), pair("b", "2")];
        assert_eq!(context, Context::Pairs { pairs, omitted: 1 });
    }

    #[test]
    fn context_over_the_limit_is_counted_not_stored() {
        let long = "x".repeat(CONTEXT_BYTES_MAX);
        let context = Context::from_pairs([("a", "1"), ("b", long.as_str())]);
        let pairs = vec![Pair { key: "a".into(), value: "1".into() }];
        assert_eq!(context, Context::Pairs { pairs, omitted: 1 });
    }

    #[test]
    fn resources_over_the_limit_are_counted() {
        let key = |n: u8| Resource::Key { id: KeyId::from_bytes([n; 16]), version: None };
        let resources = Resources::new((0..40).map(key));
        assert_eq!((resources.listed().len(), resources.omitted()), (RESOURCES_MAX, 8));
        assert_eq!(resources.listed()[31], key(31));
    }
}
