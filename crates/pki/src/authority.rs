//! The cluster's authorities: who may certify whom.
//!
//! | authority | certifies | extended key usage      | names in the certificates   |
//! |-----------|-----------|-------------------------|-----------------------------|
//! | nodes     | nodes     | server and client       | one URI, empty subject      |
//! | callers   | callers   | client                  | one URI, empty subject      |
//! | endpoints | nodes     | server                  | one URI, DNS names, addresses |
//!
//! Each has a root and a key of its own. The roots carry the same extended key usage as what they
//! certify, take no further authority below them (path length 0), and those of nodes and callers exclude
//! every DNS name and address: whoever steals the callers' key can impersonate no endpoint, neither to
//! our clients nor to others. What kind an authority is, is a type: `Authority<Callers>` has no way
//! to certify a node.
//!
//! Certificates follow RFC 5280: random serial numbers of 16 bytes, critical basic constraints and key usage,
//! key identifiers, a critical list of names where the subject is empty.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyUsagePurpose, NameConstraints,
    SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, DnsName, ServerName};
use time::OffsetDateTime;
use twinkeep_core::id::{ClusterId, Incarnation, NodeId};
use twinkeep_core::name::CallerName;

use crate::certificate::{parse, sha256, unix};
use crate::identity::Identity;
use crate::key::{KeyError, PrivateKey, PublicKey};

mod sealed {
    pub trait Sealed {}
}

/// What an authority certifies; implemented by [`Nodes`], [`Callers`] and [`Endpoints`] alone.
pub trait Purpose: sealed::Sealed {
    /// Stands in the subject of the root, so that a person can tell the roots apart.
    const NAME: &'static str;
    /// Whether certificates may hold DNS names and addresses.
    const NAMES_HOSTS: bool;
    /// The extended key usages of root and certificates.
    const USAGES: &'static [ExtendedKeyUsagePurpose];
}

/// Certifies nodes to each other.
#[derive(Debug)]
pub struct Nodes;

/// Certifies callers to nodes.
#[derive(Debug)]
pub struct Callers;

/// Certifies the endpoints of nodes to callers.
#[derive(Debug)]
pub struct Endpoints;

macro_rules! purpose {
    ($name:ident, $text:literal, $hosts:literal, [$($usage:ident),*]) => {
        impl sealed::Sealed for $name {}
        impl Purpose for $name {
            const NAME: &'static str = $text;
            const NAMES_HOSTS: bool = $hosts;
            const USAGES: &'static [ExtendedKeyUsagePurpose] =
                &[$(ExtendedKeyUsagePurpose::$usage),*];
        }
    };
}
purpose!(Nodes, "node", false, [ServerAuth, ClientAuth]);
purpose!(Callers, "caller", false, [ClientAuth]);
purpose!(Endpoints, "endpoint", true, [ServerAuth]);

/// From when until when a certificate is valid, unix seconds, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    not_before_unix: u64,
    not_after_unix: u64,
}

impl Validity {
    /// How far validity begins before now, so that a reader whose clock is behind accepts it.
    pub const CLOCK_SKEW: Duration = Duration::from_secs(300);

    /// Begins [`Self::CLOCK_SKEW`] before now and ends a lifetime after it.
    #[must_use]
    pub fn starting(now_unix: u64, lifetime: Duration) -> Self {
        Self {
            not_before_unix: now_unix.saturating_sub(Self::CLOCK_SKEW.as_secs()),
            not_after_unix: now_unix.saturating_add(lifetime.as_secs()),
        }
    }

    /// Returns the last second of validity, unix seconds.
    #[must_use]
    pub fn not_after_unix(self) -> u64 {
        self.not_after_unix
    }
}

/// Why an authority could not be made or loaded, or a certificate not be issued.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The key could not be made or read.
    #[error("the key of the {authority} authority")]
    Key {
        /// Which authority.
        authority: &'static str,
        /// What is wrong with the key.
        #[source]
        source: KeyError,
    },
    /// The certificate is not the root of this authority of this cluster.
    #[error("not the root certificate of the {authority} authority of {cluster}")]
    Root {
        /// Which authority.
        authority: &'static str,
        /// Which cluster.
        cluster: ClusterId,
    },
    /// The private key belongs to another certificate.
    #[error("the key does not belong to the root of the {authority} authority")]
    KeyMismatch {
        /// Which authority.
        authority: &'static str,
    },
    /// An endpoint certificate without a host would be valid nowhere.
    #[error("an endpoint certificate needs a DNS name or an address")]
    NoHost,
    /// A DNS name is none, or holds a wildcard.
    #[error("`{0}` is not a DNS name without wildcards")]
    DnsName(String),
    /// The certificate would be valid longer than its root, or at a time that X.509 cannot write.
    #[error(
        "a certificate must end before its root does (asked for {asked_unix}, root ends {root_unix}, unix seconds)"
    )]
    Validity {
        /// Asked for, unix seconds.
        asked_unix: u64,
        /// End of the root, unix seconds.
        root_unix: u64,
    },
    /// The cryptographic library failed to draw a number or to sign.
    #[error("the cryptographic library failed")]
    Library,
}

/// An authority: a root certificate and its private key.
pub struct Authority<P> {
    cluster: ClusterId,
    root: CertificateDer<'static>,
    not_after_unix: u64,
    key: PrivateKey,
    purpose: PhantomData<P>,
}

impl<P> fmt::Debug for Authority<P>
where
    P: Purpose,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} authority of {}", P::NAME, self.cluster)
    }
}

impl<P> Authority<P>
where
    P: Purpose,
{
    /// Makes a new authority with a key and a root certificate of its own.
    ///
    /// # Errors
    /// [`AuthorityError::Key`] or [`AuthorityError::Library`] when the library fails,
    /// [`AuthorityError::Validity`] when X.509 cannot write the times.
    pub fn create(cluster: ClusterId, validity: Validity) -> Result<Self, AuthorityError> {
        let key = PrivateKey::generate().map_err(Self::key_error)?;
        let mut params = params(validity, u64::MAX)?;
        params.distinguished_name = Self::subject(cluster);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = P::USAGES.to_vec();
        params.name_constraints = (!P::NAMES_HOSTS).then(no_hosts);
        let root = params.self_signed(&key).map_err(|_| AuthorityError::Library)?;
        Ok(Self {
            cluster,
            root: root.into(),
            not_after_unix: validity.not_after_unix,
            key,
            purpose: PhantomData,
        })
    }

    /// Takes up an authority from its root certificate (DER) and private key (PKCS#8).
    ///
    /// # Errors
    /// [`AuthorityError::Root`] for a certificate of something else, [`AuthorityError::Key`] and
    /// [`AuthorityError::KeyMismatch`] for a key that is none or not that of the root.
    pub fn load(
        cluster: ClusterId,
        root: CertificateDer<'static>,
        pkcs8: &[u8],
    ) -> Result<Self, AuthorityError> {
        let not_after_unix = Self::check_root(cluster, &root)
            .ok_or(AuthorityError::Root { authority: P::NAME, cluster })?;
        let key = PrivateKey::from_pkcs8(pkcs8).map_err(Self::key_error)?;
        let certified = parse(&root).map(|x509| sha256(x509.public_key().raw));
        if certified != Ok(key.public_key().sha256()) {
            return Err(AuthorityError::KeyMismatch { authority: P::NAME });
        }
        Ok(Self { cluster, root, not_after_unix, key, purpose: PhantomData })
    }

    /// Returns the root certificate, which everybody may have.
    #[must_use]
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// Returns the private key, which is stored sealed.
    #[must_use]
    pub fn private_key(&self) -> &PrivateKey {
        &self.key
    }

    /// Returns the last second at which the root is valid, unix seconds.
    #[must_use]
    pub fn not_after_unix(&self) -> u64 {
        self.not_after_unix
    }

    fn subject(cluster: ClusterId) -> DistinguishedName {
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, format!("Twinkeep {} authority", P::NAME));
        subject.push(DnType::OrganizationalUnitName, cluster.to_string());
        subject
    }

    /// Returns the end of validity when the certificate is a root of this kind and cluster.
    fn check_root(cluster: ClusterId, root: &CertificateDer<'_>) -> Option<u64> {
        let x509 = parse(root).ok()?;
        let subject = x509.subject();
        let kind = subject.iter_organization().next()?.as_str().ok()?;
        let unit = subject.iter_organizational_unit().next()?.as_str().ok()?;
        let ours = kind == format!("Twinkeep {} authority", P::NAME) && unit == cluster.to_string();
        (ours && x509.is_ca()).then(|| unix(x509.validity().not_after).ok())?
    }

    fn key_error(source: KeyError) -> AuthorityError {
        AuthorityError::Key { authority: P::NAME, source }
    }

    fn issue(
        &self,
        subject: &PublicKey,
        names: Vec<SanType>,
        validity: Validity,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let mut params = params(validity, self.not_after_unix)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = P::USAGES.to_vec();
        params.subject_alt_names = names;
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_der(&self.root, &self.key);
        issuer
            .and_then(|issuer| params.signed_by(subject, &issuer))
            .map(Into::into)
            .map_err(|_| AuthorityError::Library)
    }
}

impl Authority<Nodes> {
    /// Certifies a node.
    ///
    /// # Errors
    /// [`AuthorityError::Validity`] when the certificate would outlive the root,
    /// [`AuthorityError::Library`] when the library fails.
    pub fn issue_node(
        &self,
        subject: &PublicKey,
        node: NodeId,
        incarnation: Incarnation,
        validity: Validity,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let identity = Identity::Node { cluster: self.cluster, node, incarnation };
        self.issue(subject, vec![uri(&identity)], validity)
    }
}

impl Authority<Callers> {
    /// Certifies a caller.
    ///
    /// # Errors
    /// As [`Authority::issue_node`].
    pub fn issue_caller(
        &self,
        subject: &PublicKey,
        name: CallerName,
        validity: Validity,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let identity = Identity::Caller { cluster: self.cluster, name };
        self.issue(subject, vec![uri(&identity)], validity)
    }
}

/// Where callers find a node.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    /// DNS names without wildcards.
    pub dns: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

impl Hosts {
    /// Returns all of them as a TLS client would ask for them; `None` for a name that cannot be asked for.
    pub(crate) fn server_names(&self) -> impl Iterator<Item = Option<ServerName<'_>>> {
        let names = self.dns.iter().map(|name| ServerName::try_from(name.as_str()).ok());
        names.chain(self.addresses.iter().map(|address| Some(ServerName::from(*address))))
    }
}

impl Authority<Endpoints> {
    /// Certifies the public endpoint of a node.
    ///
    /// # Errors
    /// [`AuthorityError::NoHost`] and [`AuthorityError::DnsName`] for hosts that cannot be certified,
    /// otherwise as [`Authority::issue_node`].
    pub fn issue_endpoint(
        &self,
        subject: &PublicKey,
        node: NodeId,
        incarnation: Incarnation,
        hosts: &Hosts,
        validity: Validity,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        if hosts.dns.is_empty() && hosts.addresses.is_empty() {
            return Err(AuthorityError::NoHost);
        }
        let identity = Identity::Node { cluster: self.cluster, node, incarnation };
        let mut names = vec![uri(&identity)];
        for name in &hosts.dns {
            names.push(dns(name).ok_or_else(|| AuthorityError::DnsName(name.clone()))?);
        }
        names.extend(hosts.addresses.iter().copied().map(SanType::IpAddress));
        self.issue(subject, names, validity)
    }
}

fn uri(identity: &Identity) -> SanType {
    SanType::URI(identity.to_string().try_into().expect("an identity is ASCII"))
}

fn dns(name: &str) -> Option<SanType> {
    DnsName::try_from(name).ok()?;
    Some(SanType::DnsName(name.try_into().ok()?))
}

/// Excludes every DNS name and every address (RFC 5280, 4.2.1.10).
fn no_hosts() -> NameConstraints {
    let none_of = vec![
        GeneralSubtree::DnsName(String::new()),
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(Ipv4Addr::UNSPECIFIED.into(), 0)),
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(Ipv6Addr::UNSPECIFIED.into(), 0)),
    ];
    NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees: none_of }
}

/// What all certificates share: an empty subject, validity, a serial number.
fn params(validity: Validity, root_unix: u64) -> Result<CertificateParams, AuthorityError> {
    let asked_unix = validity.not_after_unix;
    let refused = AuthorityError::Validity { asked_unix, root_unix };
    if asked_unix > root_unix {
        return Err(refused);
    }
    let (Some(not_before), Some(not_after)) =
        (date(validity.not_before_unix), date(validity.not_after_unix))
    else {
        return Err(refused);
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = not_before;
    params.not_after = not_after;
    params.serial_number = Some(serial_number()?);
    Ok(params)
}

fn date(unix: u64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(i64::try_from(unix).ok()?).ok()
}

/// Draws 16 bytes; the first lies in 0x40..0x80, so that the number is positive and of one length.
fn serial_number() -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| AuthorityError::Library)?;
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
