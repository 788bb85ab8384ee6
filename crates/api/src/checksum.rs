//! CRC-32C of payloads: finds damage between the client's buffer and ours that TLS does not see.

use crate::error::CallError;

/// Checks a payload against the checksum that came with it, if one came. Returns whether one did.
pub(crate) fn verify(
    field: &'static str,
    bytes: &[u8],
    given: Option<u32>,
) -> Result<bool, CallError> {
    match given {
        Some(crc) if crc != of(bytes) => Err(CallError::Checksum { field }),
        given => Ok(given.is_some()),
    }
}

/// Returns the checksum of a payload.
pub(crate) fn of(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_crc32c_of_rfc_3720() {
        // RFC 3720, B.4: 32 bytes of zeroes give aa 36 91 8a, least significant byte first.
        assert_eq!(of(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn missing_checksum_is_no_mismatch_and_a_wrong_one_is() {
        assert!(!verify("plaintext", b"x", None).unwrap());
        assert!(verify("plaintext", b"x", Some(of(b"x"))).unwrap());
        let wrong = verify("plaintext", b"x", Some(0)).unwrap_err();
        assert!(matches!(wrong, CallError::Checksum { field: "plaintext" }));
    }
}
