//! Certificates: SPIFFE identities, the cluster's authorities, reloadable TLS, orders to admit a node and to recover a cluster.
//!
//! Who somebody is stands in exactly one place of a certificate, its only URI name
//! ([`identity`]). Three authorities with a root of their own each issue for nodes, callers and
//! endpoints ([`authority`]), so that a key of one kind can never pass for another. The TLS
//! configurations ([`tls`]) allow TLS 1.3 alone, prefer X25519MLKEM768, keep no session tickets and
//! take no early data: each connection proves its identity anew.
//!
//! Certificates and keys come from files that are read again on demand ([`credential`]); [`server`]
//! and [`connect`] tie both ends to tonic.
//!
//! The crate reads no clock but the one inside rustls: times of validity are unix seconds given by the
//! caller.

mod ahead;
pub mod authority;
pub mod certificate;
pub mod connect;
mod counted;
pub mod credential;
mod door;
mod gather;
pub mod identity;
pub mod key;
pub mod order;
pub mod pem;
mod recovery_order;
pub mod server;
pub mod tls;
pub mod verify;

pub use authority::{Authority, Callers, Endpoints, Nodes, Validity};
pub use certificate::Facts;
pub use connect::Connector;
pub use credential::Credential;
pub use door::{Incoming, Lane, incoming, lanes};
pub use identity::Identity;
pub use key::{PrivateKey, PublicKey};
pub use order::OrderFile;
pub use recovery_order::RecoveryOrderFile;
pub use server::{ConnectInfo, Limits};
pub use verify::{EndpointTrust, Fenced, PeerTrust};
