//! Certificates that keep a call from a node: where, who refuses whose, why, and what to do.
//!
//! | what TLS says                                        | fault                     |
//! |------------------------------------------------------|---------------------------|
//! | expired, not valid yet                               | [`Fault::NotValidNow`]    |
//! | unknown authority, or a signature that is not its own | [`Fault::UnknownIssuer`] |
//! | revoked                                              | [`Fault::Revoked`]        |
//! | for another name than was called                     | [`Fault::OtherName`]      |
//! | good, and refused by the node's own rules            | [`Fault::NotACaller`]     |
//! | none was shown                                       | [`Fault::Missing`]        |
//! | good, and of another cluster than this client knows  | [`Fault::OtherCluster`]   |
//! | good, and of a life of the cluster that is over      | [`Fault::OldIncarnation`] |
//! | anything else that is about a certificate            | [`Fault::Other`]          |
//!
//! A node says no more than one of TLS's alerts (RFC 8446, 6.2); its log has the reason. Alerts that are about
//! something else, such as a version, are no refusals: there is more than a certificate to look at.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::iter::successors;

use rustls::{AlertDescription, CertificateError, OtherError};
use twinkeep_pki::Fenced;

/// Why no connection to a node came about: a certificate was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The node's `address:port`.
    pub address: String,
    /// Who refuses whose certificate.
    pub by: Refuser,
    /// What is wrong with it.
    pub fault: Fault,
}

/// Who refuses a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refuser {
    /// The node refuses the caller's.
    Node,
    /// This client refuses the node's.
    Client,
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It has expired, or is not valid yet, by the clock of who refuses it.
    NotValidNow,
    /// It is of an authority that is not trusted, of another cluster's for example.
    UnknownIssuer,
    /// It was revoked.
    Revoked,
    /// The node's does not have the name or address that was called: the text says which it has.
    OtherName(String),
    /// It is not one of a caller of the node's cluster.
    NotACaller,
    /// The node asks for one and was shown none.
    Missing,
    /// The node is of another cluster than this client has been at before.
    OtherCluster {
        /// The node's cluster, `clu-` and 32 hex digits.
        found: String,
        /// The one that this client knows.
        known: String,
    },
    /// The node is of an incarnation that a recovery has ended, and must not serve any more. What it answers may be
    /// of a state that was given up.
    OldIncarnation {
        /// The node's.
        found: u64,
        /// The newest one that this client has met.
        newest: u64,
    },
    /// Something else: what TLS calls it.
    Other(String),
}

impl Refusal {
    /// Reads a refusal out of what a call to `address` failed with; `None` if it failed for another reason.
    pub(crate) fn of(address: &str, error: &(dyn StdError + 'static)) -> Option<Self> {
        let causes = successors(Some(error), |&cause| cause.source());
        // Of an I/O error the source is that of what it holds.
        let held = |cause: &io::Error| cause.get_ref()?.downcast_ref().and_then(refused);
        let (by, fault) = causes.filter_map(|cause| cause.downcast_ref()).find_map(held)?;
        Some(Self { address: address.to_owned(), by, fault })
    }

    fn why(&self) -> Cow<'_, str> {
        Cow::Borrowed(match (&self.fault, self.by) {
            (Fault::NotValidNow, Refuser::Node) => {
                "it has expired, or is not valid yet, by the node's clock"
            }
            (Fault::NotValidNow, Refuser::Client) => {
                "it has expired, or is not valid yet, by this machine's clock"
            }
            (Fault::UnknownIssuer, Refuser::Node) => {
                "it was not issued by the caller authority of the node's cluster"
            }
            (Fault::UnknownIssuer, Refuser::Client) => {
                "it was not issued below the root certificates that this client was given"
            }
            (Fault::Revoked, _) => "it was revoked",
            (Fault::NotACaller, _) => "it is not one of a caller of the node's cluster",
            (Fault::Missing, _) => "none was shown",
            (Fault::OtherName(text) | Fault::Other(text), _) => text,
            (Fault::OtherCluster { found, known }, _) => {
                return format!("it is of cluster {found}, and this client knows {known}").into();
            }
            (Fault::OldIncarnation { found, newest }, _) => {
                return format!(
                    "it is of incarnation {found} of the cluster, which was recovered since: this client has met \
                     incarnation {newest}"
                )
                .into();
            }
        })
    }

    /// Returns what to do about it.
    #[must_use]
    pub fn way_out(&self) -> &'static str {
        match (self.by, &self.fault) {
            (Refuser::Node, Fault::NotValidNow) => {
                "an admin issues a new one with `twinkeep access issue-certificate NAME`; if this one has not \
                 ended, compare the clocks of both machines"
            }
            (Refuser::Node, Fault::Revoked) => {
                "an admin took it back, and issues a new one with `twinkeep access issue-certificate NAME`"
            }
            (Refuser::Node, Fault::Missing) => {
                "call with a certificate and its private key, which an admin issues with \
                 `twinkeep access issue-certificate NAME`"
            }
            (Refuser::Node, _) => {
                "it may be one of another cluster: an admin of this one issues certificates with \
                 `twinkeep access issue-certificate NAME`"
            }
            (Refuser::Client, Fault::NotValidNow) => {
                "compare the clocks of both machines; a node renews its certificate by itself, and its log says \
                 why it did not"
            }
            (Refuser::Client, Fault::OtherName(_)) => {
                "call the node by a name or address that its certificate has"
            }
            (Refuser::Client, Fault::OldIncarnation { .. }) => {
                "call the nodes of the recovered cluster; this one is to be wiped, and may join it as a new node"
            }
            (Refuser::Client, Fault::OtherCluster { .. }) => {
                "check the endpoints; a client that is to use another cluster is built anew, with another memory file"
            }
            (Refuser::Client, _) => {
                "check `root`, which has to be the endpoint root of this cluster, and that the port is the one \
                 for callers"
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, by, .. } = self;
        match by {
            Refuser::Node => write!(f, "{address} refuses this caller's certificate: ")?,
            Refuser::Client => write!(f, "this client refuses the certificate of {address}: ")?,
        }
        f.write_str(&self.why())
    }
}

fn refused(error: &rustls::Error) -> Option<(Refuser, Fault)> {
    Some(match error {
        rustls::Error::AlertReceived(alert) => (Refuser::Node, by_node(*alert)?),
        rustls::Error::InvalidCertificate(error) => (Refuser::Client, by_client(error)),
        _ => return None,
    })
}

/// What a node means by an alert; `None` if it is not about the caller's certificate.
fn by_node(alert: AlertDescription) -> Option<Fault> {
    Some(match alert {
        AlertDescription::CertificateExpired => Fault::NotValidNow,
        // The latter is a signature that is not that of the authority of this name.
        AlertDescription::UnknownCA | AlertDescription::DecryptError => Fault::UnknownIssuer,
        AlertDescription::CertificateRevoked => Fault::Revoked,
        AlertDescription::CertificateUnknown | AlertDescription::AccessDenied => Fault::NotACaller,
        AlertDescription::CertificateRequired => Fault::Missing,
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::BadCertificateStatusResponse => {
            Fault::Other(format!("the node takes it for none of a caller ({alert:?})"))
        }
        _ => return None,
    })
}

fn by_client(error: &CertificateError) -> Fault {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Fault::NotValidNow,
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Fault::UnknownIssuer,
        CertificateError::Revoked => Fault::Revoked,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Fault::OtherName(error.to_string())
        }
        CertificateError::Other(OtherError(why)) => {
            why.downcast_ref().map_or_else(|| Fault::Other(why.to_string()), of_memory)
        }
        _ => Fault::Other(error.to_string()),
    }
}

/// What this client remembers against a node.
fn of_memory(fenced: &Fenced) -> Fault {
    match fenced {
        Fenced::OtherCluster { found, known } => {
            Fault::OtherCluster { found: found.to_string(), known: known.to_string() }
        }
        Fenced::OldIncarnation { found, newest } => {
            Fault::OldIncarnation { found: found.get(), newest: newest.get() }
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::{ConnectError, Status};

    use super::*;

    fn refusal(error: rustls::Error) -> Option<Refusal> {
        let error = io::Error::new(io::ErrorKind::InvalidData, error);
        Refusal::of("node:1", &Status::from_error(Box::new(ConnectError(Box::new(error)))))
    }

    #[test]
    fn refusal_says_where_who_why_and_what_to_do() {
        for (error, says, way_out) in [
            (
                rustls::Error::AlertReceived(AlertDescription::CertificateExpired),
                "node:1 refuses this caller's certificate: it has expired",
                "issue-certificate",
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::UnknownCA),
                "node:1 refuses this caller's certificate: it was not issued by the caller authority",
                "issue-certificate",
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::CertificateRevoked),
                "node:1 refuses this caller's certificate: it was revoked",
                "took it back",
            ),
            (
                rustls::Error::AlertReceived(AlertDescription::CertificateRequired),
                "node:1 refuses this caller's certificate: none was shown",
                "call with a certificate",
            ),
            (
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer),
                "this client refuses the certificate of node:1: it was not issued below the root",
                "`root`",
            ),
            (
                rustls::Error::InvalidCertificate(CertificateError::NotValidYet),
                "this client refuses the certificate of node:1: it has expired, or is not valid yet, by this",
                "clocks",
            ),
        ] {
            let refusal = refusal(error).unwrap();
            assert!(refusal.to_string().starts_with(says), "{refusal}");
            assert!(refusal.way_out().contains(way_out), "{}", refusal.way_out());
        }
    }

    #[test]
    fn other_failures_are_no_refusals() {
        for error in [
            rustls::Error::AlertReceived(AlertDescription::ProtocolVersion),
            rustls::Error::AlertReceived(AlertDescription::InternalError),
            rustls::Error::DecryptError,
        ] {
            assert_eq!(refusal(error), None);
        }
        let broken = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(Refusal::of("node:1", &broken), None);
    }
}
