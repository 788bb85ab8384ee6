//! PEM files of certificates and keys (RFC 7468).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::key::PrivateKey;

const LINE: usize = 64;

/// Writes certificates, the holder's first.
#[must_use]
pub fn certificates(chain: &[CertificateDer<'_>]) -> String {
    chain.iter().map(|certificate| armor("CERTIFICATE", certificate).to_string()).collect()
}

/// Writes a certificate request (PKCS#10, DER).
#[must_use]
pub fn certificate_request(request: &[u8]) -> String {
    armor("CERTIFICATE REQUEST", request).to_string()
}

/// Writes a private key as PKCS#8; the text is wiped on drop.
#[must_use]
pub fn danger_private_key(key: &PrivateKey) -> Zeroizing<String> {
    armor("PRIVATE KEY", key.danger_pkcs8())
}

/// Reads certificates, for example the roots to trust.
///
/// # Errors
/// [`NotPem`] when the text is damaged or holds no certificate.
pub fn read_certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, NotPem> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    read.ok().filter(|chain| !chain.is_empty()).ok_or(NotPem)
}

/// Reads a certificate request (PKCS#10) into DER.
///
/// # Errors
/// [`NotPem`] when the text is damaged or holds no request.
pub fn read_certificate_request(text: &[u8]) -> Result<Vec<u8>, NotPem> {
    CertificateSigningRequestDer::from_pem_slice(text).map(|der| der.to_vec()).map_err(|_| NotPem)
}

/// Reads a private key (PKCS#8).
///
/// # Errors
/// [`NotPem`] when the text is damaged or holds no key of a kind that is used here.
pub fn read_private_key(text: &[u8]) -> Result<PrivateKey, NotPem> {
    let der = Zeroizing::new(PrivatePkcs8KeyDer::from_pem_slice(text).map_err(|_| NotPem)?);
    PrivateKey::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| NotPem)
}

/// Why a text is not what it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a PEM text of the expected kind")]
pub struct NotPem;

fn armor(label: &str, der: &[u8]) -> Zeroizing<String> {
    // Reserved in one piece: a growing buffer would leave unwiped copies of a key behind.
    let digits = der.len().div_ceil(3) * 4;
    let mut text = Zeroizing::new(String::with_capacity(
        digits + digits.div_ceil(LINE) + 2 * label.len() + 40,
    ));
    let encoded = Zeroizing::new(STANDARD.encode(der));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for line in encoded.as_bytes().chunks(LINE) {
        text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let key = PrivateKey::generate().unwrap();
        let text = danger_private_key(&key);
        let read = read_private_key(text.as_bytes()).unwrap();
        assert_eq!(read.danger_pkcs8(), key.danger_pkcs8());

        let request = key.certificate_request().unwrap();
        let text = certificate_request(&request);
        assert_eq!(read_certificate_request(text.as_bytes()).unwrap(), request);

        for len in [0, 1, 47, 48, 49, 200] {
            let chain = [CertificateDer::from(vec![7; len]), CertificateDer::from(vec![8; len])];
            let text = certificates(&chain);
            assert_eq!(read_certificates(text.as_bytes()).unwrap(), chain, "{len} bytes");
        }
    }

    #[test]
    fn text_of_another_kind_is_refused() {
        let key = PrivateKey::generate().unwrap();
        let request = certificate_request(&key.certificate_request().unwrap());
        assert_eq!(read_certificates(request.as_bytes()), Err(NotPem));
        assert_eq!(read_certificate_request(danger_private_key(&key).as_bytes()), Err(NotPem));
        assert_eq!(read_private_key(request.as_bytes()).unwrap_err(), NotPem);
        for text in ["", "junk", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            assert_eq!(read_certificates(text.as_bytes()), Err(NotPem), "{text:?}");
        }
    }

    #[test]
    fn text_of_a_key_is_built_without_growing() {
        for len in 0..300 {
            let text = armor("PRIVATE KEY", &vec![0; len]);
            assert!(text.len() <= text.capacity());
            let digits = len.div_ceil(3) * 4;
            assert!(text.len() <= digits + digits.div_ceil(LINE) + 62, "{len}");
        }
    }
}
