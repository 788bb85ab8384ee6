//! Who holds a certificate: one SPIFFE URI, nothing else.
//!
//! | identity | text                                                 |
//! |----------|------------------------------------------------------|
//! | caller   | `spiffe://<cluster id>/caller/<name>`                |
//! | node     | `spiffe://<cluster id>/node/<node id>/<incarnation>` |
//!
//! The text is canonical: parsing accepts exactly what [`Identity`] prints, so that two texts never
//! mean one identity. The common name of a certificate is not looked at.
//!
//! Source: SPIFFE ID and X.509-SVID specifications, sections 2 of both (spiffe.io).

use std::fmt;
use std::str::FromStr;

use twinkeep_core::id::{ClusterId, Incarnation, NodeId};
use twinkeep_core::name::CallerName;

/// Why a URI names nobody here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an identity is written `spiffe://<cluster id>/caller/<name>` or `spiffe://<cluster id>/node/<id>/<incarnation>`"
)]
pub struct InvalidIdentity;

/// Who holds a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A person or program that calls the service.
    Caller {
        /// The cluster that the caller belongs to; the SPIFFE trust domain.
        cluster: ClusterId,
        /// The name that roles are bound to.
        name: CallerName,
    },
    /// A node of the cluster.
    Node {
        /// The cluster that the node belongs to; the SPIFFE trust domain.
        cluster: ClusterId,
        /// The node's id, never given to a second disk.
        node: NodeId,
        /// The life of the cluster in which the certificate was issued.
        incarnation: Incarnation,
    },
}

impl Identity {
    /// Returns the cluster, which is the SPIFFE trust domain.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        match self {
            Self::Caller { cluster, .. } | Self::Node { cluster, .. } => *cluster,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caller { cluster, name } => write!(f, "spiffe://{cluster}/caller/{name}"),
            Self::Node { cluster, node, incarnation } => {
                write!(f, "spiffe://{cluster}/node/{node}/{incarnation}")
            }
        }
    }
}

impl FromStr for Identity {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, InvalidIdentity> {
        // Numbers have several spellings ("+7", "007"), so what was read is written again and compared.
        parse(text).filter(|identity| identity.to_string() == text).ok_or(InvalidIdentity)
    }
}

fn parse(text: &str) -> Option<Identity> {
    let mut parts = text.strip_prefix("spiffe://")?.split('/');
    let cluster = parts.next()?.parse().ok()?;
    let identity = match parts.next()? {
        "caller" => Identity::Caller { cluster, name: parts.next()?.parse().ok()? },
        "node" => Identity::Node {
            cluster,
            node: parts.next()?.parse().ok()?,
            incarnation: parts.next()?.parse().ok()?,
        },
        _ => return None,
    };
    parts.next().is_none().then_some(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "clu-000102030405060708090a0b0c0d0e0f";

    #[test]
    fn identities_print_as_they_were_read() {
        for path in ["caller/app-1.prod_x", "node/7/1", "node/18446744073709551615/2"] {
            let text = format!("spiffe://{CLUSTER}/{path}");
            assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn second_spelling_of_an_identity_is_refused() {
        for path in
            ["node/07/1", "node/+7/1", "node/7/01", "caller/App", "Caller/app", "caller/app/"]
        {
            assert!(format!("spiffe://{CLUSTER}/{path}").parse::<Identity>().is_err(), "{path}");
        }
    }

    #[test]
    fn text_that_names_nobody_is_refused() {
        for path in [
            "",
            "/",
            "caller",
            "caller/",
            "caller/*",
            "caller/a/b",
            "caller/..",
            "caller/a%20b",
            "node",
            "node/",
            "node/7",
            "node/0/1",
            "node/7/0",
            "node/7/1/1",
            "node/*/1",
            "admin/a",
        ] {
            assert!(format!("spiffe://{CLUSTER}/{path}").parse::<Identity>().is_err(), "{path}");
        }
        for text in [
            "",
            "*",
            "spiffe://",
            "spiffe:///caller/app",
            "spiffe://*/caller/app",
            "spiffe://example.org/caller/app",
            "spiffe://clu-000102030405060708090A0B0C0D0E0F/caller/app",
            "SPIFFE://clu-000102030405060708090a0b0c0d0e0f/caller/app",
            "https://clu-000102030405060708090a0b0c0d0e0f/caller/app",
            "spiffe://clu-000102030405060708090a0b0c0d0e0f:443/caller/app",
            "spiffe://u@clu-000102030405060708090a0b0c0d0e0f/caller/app",
            "spiffe://clu-000102030405060708090a0b0c0d0e0f/caller/app?x",
            "spiffe://clu-000102030405060708090a0b0c0d0e0f/caller/app#x",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }
}
