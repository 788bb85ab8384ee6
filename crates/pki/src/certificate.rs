//! What a certificate says: identity, public key, validity.
//!
//! Reading a certificate proves nothing; the chain is checked by the verifiers in [`crate::verify`].

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::identity::{Identity, InvalidIdentity};

/// SHA-256 over a DER-encoded `SubjectPublicKeyInfo`, 32 bytes: names a key across certificates.
pub type SpkiSha256 = [u8; 32];

/// Why a certificate is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificate {
    /// The bytes are not one DER-encoded X.509 certificate.
    #[error("not a DER-encoded X.509 certificate")]
    Encoding,
    /// There is no URI name, or more than one.
    #[error("a certificate holds exactly one URI name, this one has {found}")]
    Uris {
        /// How many there are.
        found: usize,
    },
    /// The only URI name is no identity.
    #[error("the URI name of the certificate is no identity")]
    Identity(#[from] InvalidIdentity),
}

/// What a certificate says of its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Who the holder is.
    pub identity: Identity,
    /// Names the holder's public key.
    pub spki_sha256: SpkiSha256,
    /// Begin of validity, unix seconds.
    pub not_before_unix: u64,
    /// Last second of validity, unix seconds.
    pub not_after_unix: u64,
}

impl Facts {
    /// Reads a DER-encoded certificate.
    ///
    /// # Errors
    /// [`InvalidCertificate`] with the first thing that is wrong.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, InvalidCertificate> {
        let x509 = parse(certificate)?;
        Ok(Self {
            identity: only_uri(&x509)?.parse()?,
            spki_sha256: sha256(x509.public_key().raw),
            not_before_unix: unix(x509.validity().not_before)?,
            not_after_unix: unix(x509.validity().not_after)?,
        })
    }

    /// Tells whether the certificate is valid at that time, both ends included.
    #[must_use]
    pub fn valid_at(&self, now_unix: u64) -> bool {
        (self.not_before_unix..=self.not_after_unix).contains(&now_unix)
    }
}

/// Returns the last second of a certificate's validity, unix seconds; also of an authority's, which names nobody.
///
/// # Errors
/// [`InvalidCertificate::Encoding`].
pub fn end_unix(certificate: &CertificateDer<'_>) -> Result<u64, InvalidCertificate> {
    unix(parse(certificate)?.validity().not_after)
}

/// Reads a certificate that fills the bytes to their end.
pub(crate) fn parse<'a>(
    certificate: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, InvalidCertificate> {
    match X509Certificate::from_der(certificate) {
        Ok(([], x509)) => Ok(x509),
        _ => Err(InvalidCertificate::Encoding),
    }
}

/// Hashes a DER-encoded `SubjectPublicKeyInfo`.
pub(crate) fn sha256(spki: &[u8]) -> SpkiSha256 {
    digest::digest(&digest::SHA256, spki).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

pub(crate) fn unix(time: x509_parser::time::ASN1Time) -> Result<u64, InvalidCertificate> {
    // Times before 1970 fit no field of ours and no certificate that we issue.
    u64::try_from(time.timestamp()).map_err(|_| InvalidCertificate::Encoding)
}

fn only_uri<'a>(x509: &X509Certificate<'a>) -> Result<&'a str, InvalidCertificate> {
    // All extensions are walked: a second list of names must not hide behind the first.
    let mut uris = Vec::new();
    for extension in x509.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => {
                uris.extend(names.general_names.iter().filter_map(|name| match name {
                    GeneralName::URI(uri) => Some(*uri),
                    _ => None,
                }));
            }
            ParsedExtension::ParseError { .. } => return Err(InvalidCertificate::Encoding),
            _ => {}
        }
    }
    match uris[..] {
        [uri] => Ok(uri),
        _ => Err(InvalidCertificate::Uris { found: uris.len() }),
    }
}
