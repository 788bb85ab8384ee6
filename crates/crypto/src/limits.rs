//! Sizes that are checked before any work, in bytes.
//!
//! These are the limits of the native surface and of the software backend. Translators of other
//! services' APIs set narrower ones; a backend that can do less says so in its
//! [`Capabilities`](crate::Capabilities).

use twinkeep_core::key::{Algorithm, KeySpec};

use crate::backend::{Error, InvalidInput};

/// Longest plaintext of one encrypt call under a symmetric key.
pub const PLAINTEXT_BYTES_MAX: usize = 64 * 1024;

/// Longest message of one sign, verify, MAC or verify-MAC call.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Longest material that an import looks at. An RSA-4096 key in PKCS#8 has about 2,400.
pub const IMPORT_BYTES_MAX: usize = 8 * 1024;

/// Returns the longest plaintext that RSAES-OAEP takes: `k − 2·hLen − 2` (RFC 8017, section 7.1.1);
/// `None` where spec and algorithm are not RSA and OAEP.
#[must_use]
pub const fn oaep_plaintext_bytes_max(spec: KeySpec, algorithm: Algorithm) -> Option<usize> {
    let modulus = match spec {
        KeySpec::Rsa2048 => 256,
        KeySpec::Rsa3072 => 384,
        KeySpec::Rsa4096 => 512,
        _ => return None,
    };
    let digest = match algorithm {
        Algorithm::RsaOaepSha256 => 32,
        Algorithm::RsaOaepSha384 => 48,
        Algorithm::RsaOaepSha512 => 64,
        _ => return None,
    };
    Some(modulus - 2 * digest - 2)
}

pub(crate) fn check_plaintext(len: usize, max: usize) -> Result<(), Error> {
    let way_out =
        "encrypt the data with a data key (GenerateDataKey) and keep the wrapped key beside it";
    check("plaintext", len, max, way_out)
}

pub(crate) fn check_message(algorithm: Algorithm, len: usize) -> Result<(), Error> {
    let way_out = match algorithm {
        Algorithm::Ed25519 => "sign a hash of the data as the message",
        Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512 => {
            "authenticate a hash of the data"
        }
        _ => "hash it yourself and send the digest with message type DIGEST",
    };
    check("message", len, MESSAGE_BYTES_MAX, way_out)
}

pub(crate) fn check(
    field: &'static str,
    len: usize,
    max: usize,
    way_out: &'static str,
) -> Result<(), Error> {
    if len <= max {
        return Ok(());
    }
    Err(InvalidInput::TooLong { field, len, max, way_out }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oaep_limits_are_those_of_the_rfc() {
        use Algorithm::{RsaOaepSha256, RsaOaepSha384, RsaOaepSha512, RsaPssSha256};
        assert_eq!(oaep_plaintext_bytes_max(KeySpec::Rsa2048, RsaOaepSha256), Some(190));
        assert_eq!(oaep_plaintext_bytes_max(KeySpec::Rsa3072, RsaOaepSha384), Some(286));
        assert_eq!(oaep_plaintext_bytes_max(KeySpec::Rsa4096, RsaOaepSha512), Some(382));
        assert_eq!(oaep_plaintext_bytes_max(KeySpec::Rsa4096, RsaPssSha256), None);
        assert_eq!(oaep_plaintext_bytes_max(KeySpec::Aes256, RsaOaepSha256), None);
    }

    #[test]
    fn error_names_field_limit_and_way_out() {
        let error = check_message(Algorithm::EcdsaSha256, MESSAGE_BYTES_MAX + 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "message of 65537 bytes is over the limit of 65536; hash it yourself and send the digest \
             with message type DIGEST"
        );
        assert!(check_message(Algorithm::EcdsaSha256, MESSAGE_BYTES_MAX).is_ok());
    }
}
