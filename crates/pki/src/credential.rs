//! A certificate with its key, read from files and read again on demand.
//!
//! What is in use stays in use until something better has been read completely: a missing, damaged,
//! expired or foreign pair of files changes nothing and is reported. Connections that exist keep the
//! certificate of their handshake; new ones take the new.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::{ResolvesClientCert, verify_server_name};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use zeroize::Zeroizing;

use crate::authority::Hosts;
use crate::certificate::{Facts, InvalidCertificate, parse as parse_certificate};
use crate::identity::Identity;
use crate::key::{PrivateKey, PublicKey};

/// Longest certificate or key file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Why a certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The private key can be read by everybody on the machine.
    #[error("{path} holds a private key and is readable by all: run `chmod o-rwx` on it")]
    KeyExposed {
        /// Which file.
        path: PathBuf,
    },
    /// There is no certificate in the PEM text.
    #[error("no certificate in the PEM text")]
    NoCertificate,
    /// There is no private key of a known kind in the PEM text.
    #[error("no usable private key in the PEM text")]
    NoKey,
    /// The first certificate is not one of ours.
    #[error("the certificate")]
    Certificate(#[from] InvalidCertificate),
    /// The private key belongs to another certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// The certificate is not valid now.
    #[error(
        "the certificate is valid from {not_before_unix} to {not_after_unix} and it is {now_unix} (unix seconds)"
    )]
    Validity {
        /// Begin of validity, unix seconds.
        not_before_unix: u64,
        /// End of validity, unix seconds.
        not_after_unix: u64,
        /// The time of the check, unix seconds.
        now_unix: u64,
    },
    /// The new certificate speaks of somebody else.
    #[error("the new certificate is for {found}, the one in use for {expected}")]
    OtherIdentity {
        /// Who uses the credential.
        expected: Box<Identity>,
        /// Whom the new certificate is for.
        found: Box<Identity>,
    },
    /// There are no files to read again.
    #[error("the certificate was not read from files")]
    NoFiles,
}

struct Current {
    key: Arc<CertifiedKey>,
    facts: Facts,
}

struct Files {
    chain: PathBuf,
    key: PathBuf,
}

/// A certificate chain with its private key, for either end of a connection.
///
/// The private key lives inside the TLS library; `Debug` shows whose it is.
pub struct Credential {
    current: ArcSwap<Current>,
    files: Option<Files>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "credential of {}", self.current.load().facts.identity)
    }
}

impl Credential {
    /// Reads a PEM file with the chain, the holder's certificate first, and one with the private key
    /// (PKCS#8 or SEC 1).
    ///
    /// # Errors
    /// [`CredentialError`] with the first thing that is wrong.
    pub fn from_files(
        chain: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        now_unix: u64,
    ) -> Result<Self, CredentialError> {
        let files = Files { chain: chain.into(), key: key.into() };
        let current = ArcSwap::from_pointee(read(&files, now_unix)?);
        Ok(Self { current, files: Some(files) })
    }

    /// Takes PEM texts of the chain and of the private key.
    ///
    /// # Errors
    /// [`CredentialError`] with the first thing that is wrong.
    pub fn from_pem(chain: &[u8], key: &[u8], now_unix: u64) -> Result<Self, CredentialError> {
        let current = ArcSwap::from_pointee(parse(chain, key, now_unix)?);
        Ok(Self { current, files: None })
    }

    /// Takes a chain and a key of ours.
    ///
    /// # Errors
    /// [`CredentialError`] with the first thing that is wrong.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKey,
        now_unix: u64,
    ) -> Result<Self, CredentialError> {
        let der = PrivatePkcs8KeyDer::from(key.danger_pkcs8()).into();
        let current = ArcSwap::from_pointee(check(chain, &der, now_unix)?);
        Ok(Self { current, files: None })
    }

    /// Reads the files again. On any error the certificate in use stays in use.
    ///
    /// # Errors
    /// [`CredentialError`] with the first thing that is wrong with the files;
    /// [`CredentialError::OtherIdentity`] when they are for somebody else.
    pub fn reload(&self, now_unix: u64) -> Result<Facts, CredentialError> {
        let files = self.files.as_ref().ok_or(CredentialError::NoFiles)?;
        let new = read(files, now_unix)?;
        let expected = self.facts().identity;
        if new.facts.identity != expected {
            return Err(CredentialError::OtherIdentity {
                expected: Box::new(expected),
                found: Box::new(new.facts.identity),
            });
        }
        let facts = new.facts.clone();
        self.current.store(Arc::new(new));
        Ok(facts)
    }

    /// Tells what the certificate in use says.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.current.load().facts.clone()
    }

    /// Returns the public key of the certificate in use; `None` if no authority of ours would certify it.
    #[must_use]
    pub fn public_key(&self) -> Option<PublicKey> {
        let key = self.key();
        let x509 = parse_certificate(key.cert.first()?).ok()?;
        PublicKey::from_spki(x509.public_key().raw).ok()
    }

    /// Tells whether a client that calls any of these hosts would accept the certificate in use.
    #[must_use]
    pub fn serves(&self, hosts: &Hosts) -> bool {
        let key = self.key();
        let certificate = key.cert.first().map(ParsedCertificate::try_from);
        let Some(Ok(certificate)) = certificate else { return false };
        let is_named = |name: &ServerName<'_>| verify_server_name(&certificate, name).is_ok();
        hosts.server_names().all(|name| name.as_ref().is_some_and(is_named))
    }

    fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.load().key)
    }
}

impl ResolvesServerCert for Credential {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }
}

impl ResolvesClientCert for Credential {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn read(files: &Files, now_unix: u64) -> Result<Current, CredentialError> {
    let key = read_key(&files.key)?;
    parse(&read_file(&files.chain)?, &key, now_unix)
}

fn read_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    const OTHERS: u32 = 0o007;
    let read_error = |source| CredentialError::Read { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(read_error)?;
    if metadata.permissions().mode() & OTHERS != 0 {
        return Err(CredentialError::KeyExposed { path: path.to_owned() });
    }
    read_file(path).map(Zeroizing::new)
}

fn read_file(path: &Path) -> Result<Vec<u8>, CredentialError> {
    let read_error = |source| CredentialError::Read { path: path.to_owned(), source };
    let len = fs::metadata(path).map_err(read_error)?.len();
    if len > FILE_BYTES_MAX {
        let why = format!("{len} bytes are over the limit of {FILE_BYTES_MAX}");
        return Err(read_error(io::Error::other(why)));
    }
    fs::read(path).map_err(read_error)
}

fn parse(chain: &[u8], key: &[u8], now_unix: u64) -> Result<Current, CredentialError> {
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| CredentialError::NoCertificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CredentialError::NoKey)?;
    check(chain, &Zeroizing::new(key), now_unix)
}

fn check(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'_>,
    now_unix: u64,
) -> Result<Current, CredentialError> {
    let facts = Facts::of(chain.first().ok_or(CredentialError::NoCertificate)?)?;
    if !facts.valid_at(now_unix) {
        return Err(CredentialError::Validity {
            not_before_unix: facts.not_before_unix,
            not_after_unix: facts.not_after_unix,
            now_unix,
        });
    }
    let key = any_supported_type(key).map_err(|_| CredentialError::NoKey)?;
    let key = CertifiedKey::new(chain, key);
    key.keys_match().map_err(|_| CredentialError::KeyMismatch)?;
    Ok(Current { key: Arc::new(key), facts })
}
