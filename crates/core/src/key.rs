//! What a key is made of and what may happen to it: specs, usages, algorithms and the lifecycle.
//!
//! All numbers here are stored and signed; they are never reused.

/// Gives an enum its stored number, its written name and the checked ways back.
macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident, $what:literal, { $($(#[$vdoc:meta])* $variant:ident = $number:literal, $text:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
        #[cbor(index_only)]
        pub enum $name {
            $($(#[$vdoc])* #[n($number)] $variant = $number,)+
        }

        impl $name {
            /// All members, in the order of their stored numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the name as clients write it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::key::UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|member| member.as_str() == text)
                    .ok_or_else(|| $crate::key::UnknownName::new($what, text, Self::ALL.iter().map(|m| m.as_str())))
            }
        }
    };
}
pub(crate) use closed_set;

/// A text that names no member of a closed set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}; known are {known}")]
pub struct UnknownName {
    what: &'static str,
    text: String,
    known: String,
}

impl UnknownName {
    /// Longest part of the wrong text that is repeated to its sender, in characters.
    const TEXT_MAX: usize = 64;

    pub(crate) fn new(
        what: &'static str,
        text: &str,
        known: impl Iterator<Item = &'static str>,
    ) -> Self {
        let text = text.chars().take(Self::TEXT_MAX).collect();
        Self { what, text, known: known.collect::<Vec<_>>().join(", ") }
    }
}

closed_set! {
    /// The kind and size of a key's material.
    KeySpec, "key spec", {
        /// 32 bytes for envelope format 1, suite 1.
        Aes256 = 1, "AES_256";
        /// 32 bytes for HMAC-SHA-256.
        Hmac256 = 2, "HMAC_256";
        /// 48 bytes for HMAC-SHA-384.
        Hmac384 = 3, "HMAC_384";
        /// 64 bytes for HMAC-SHA-512.
        Hmac512 = 4, "HMAC_512";
        /// RSA with a modulus of 2048 bits.
        Rsa2048 = 5, "RSA_2048";
        /// RSA with a modulus of 3072 bits.
        Rsa3072 = 6, "RSA_3072";
        /// RSA with a modulus of 4096 bits.
        Rsa4096 = 7, "RSA_4096";
        /// NIST P-256.
        EcP256 = 8, "EC_P256";
        /// NIST P-384.
        EcP384 = 9, "EC_P384";
        /// NIST P-521.
        EcP521 = 10, "EC_P521";
        /// SECG secp256k1.
        EcP256k1 = 11, "EC_P256K1";
        /// Edwards25519 (RFC 8032).
        Ed25519 = 12, "ED25519";
    }
}

closed_set! {
    /// What a key is for. One key has one usage, fixed when it is created.
    KeyUsage, "key usage", {
        /// Encrypt, decrypt, data keys.
        EncryptDecrypt = 1, "ENCRYPT_DECRYPT";
        /// Sign and verify.
        SignVerify = 2, "SIGN_VERIFY";
        /// Generate and verify message authentication codes.
        GenerateVerifyMac = 3, "GENERATE_VERIFY_MAC";
    }
}

closed_set! {
    /// An algorithm that a caller can name in a request.
    Algorithm, "algorithm", {
        /// Envelope format 1, suite 1: KBKDF-HMAC-SHA-256 and AES-256-GCM.
        SymmetricDefault = 1, "SYMMETRIC_DEFAULT";
        /// RSAES-OAEP with SHA-256 (RFC 8017, 7.1).
        RsaOaepSha256 = 2, "RSAES_OAEP_SHA_256";
        /// RSAES-OAEP with SHA-384.
        RsaOaepSha384 = 3, "RSAES_OAEP_SHA_384";
        /// RSAES-OAEP with SHA-512.
        RsaOaepSha512 = 4, "RSAES_OAEP_SHA_512";
        /// RSASSA-PSS with SHA-256, salt as long as the digest (RFC 8017, 8.1).
        RsaPssSha256 = 5, "RSASSA_PSS_SHA_256";
        /// RSASSA-PSS with SHA-384.
        RsaPssSha384 = 6, "RSASSA_PSS_SHA_384";
        /// RSASSA-PSS with SHA-512.
        RsaPssSha512 = 7, "RSASSA_PSS_SHA_512";
        /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, 8.2).
        RsaPkcs1Sha256 = 8, "RSASSA_PKCS1_V1_5_SHA_256";
        /// RSASSA-PKCS1-v1_5 with SHA-384.
        RsaPkcs1Sha384 = 9, "RSASSA_PKCS1_V1_5_SHA_384";
        /// RSASSA-PKCS1-v1_5 with SHA-512.
        RsaPkcs1Sha512 = 10, "RSASSA_PKCS1_V1_5_SHA_512";
        /// ECDSA with SHA-256, DER signature (FIPS 186-5).
        EcdsaSha256 = 11, "ECDSA_SHA_256";
        /// ECDSA with SHA-384, DER signature.
        EcdsaSha384 = 12, "ECDSA_SHA_384";
        /// ECDSA with SHA-512, DER signature.
        EcdsaSha512 = 13, "ECDSA_SHA_512";
        /// PureEdDSA on edwards25519 (RFC 8032, 5.1).
        Ed25519 = 14, "ED25519_SHA_512";
        /// HMAC with SHA-256 (FIPS 198-1).
        HmacSha256 = 15, "HMAC_SHA_256";
        /// HMAC with SHA-384.
        HmacSha384 = 16, "HMAC_SHA_384";
        /// HMAC with SHA-512.
        HmacSha512 = 17, "HMAC_SHA_512";
    }
}

impl KeySpec {
    /// Returns the usages that a key of this spec can be created for, the usual one first.
    #[must_use]
    pub const fn usages(self) -> &'static [KeyUsage] {
        match self {
            Self::Aes256 => &[KeyUsage::EncryptDecrypt],
            Self::Hmac256 | Self::Hmac384 | Self::Hmac512 => &[KeyUsage::GenerateVerifyMac],
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => {
                &[KeyUsage::SignVerify, KeyUsage::EncryptDecrypt]
            }
            Self::EcP256 | Self::EcP384 | Self::EcP521 | Self::EcP256k1 | Self::Ed25519 => {
                &[KeyUsage::SignVerify]
            }
        }
    }

    /// Returns the algorithms of a key of this spec and usage, the default first; none where the
    /// two do not go together.
    #[must_use]
    pub const fn algorithms(self, usage: KeyUsage) -> &'static [Algorithm] {
        use Algorithm as A;
        match (self, usage) {
            (Self::Aes256, KeyUsage::EncryptDecrypt) => &[A::SymmetricDefault],
            (Self::Hmac256, KeyUsage::GenerateVerifyMac) => &[A::HmacSha256],
            (Self::Hmac384, KeyUsage::GenerateVerifyMac) => &[A::HmacSha384],
            (Self::Hmac512, KeyUsage::GenerateVerifyMac) => &[A::HmacSha512],
            (Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096, KeyUsage::SignVerify) => &[
                A::RsaPssSha256,
                A::RsaPssSha384,
                A::RsaPssSha512,
                A::RsaPkcs1Sha256,
                A::RsaPkcs1Sha384,
                A::RsaPkcs1Sha512,
            ],
            (Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096, KeyUsage::EncryptDecrypt) => {
                &[A::RsaOaepSha256, A::RsaOaepSha384, A::RsaOaepSha512]
            }
            (Self::EcP256 | Self::EcP256k1, KeyUsage::SignVerify) => &[A::EcdsaSha256],
            (Self::EcP384, KeyUsage::SignVerify) => &[A::EcdsaSha384],
            (Self::EcP521, KeyUsage::SignVerify) => &[A::EcdsaSha512],
            (Self::Ed25519, KeyUsage::SignVerify) => &[A::Ed25519],
            _ => &[],
        }
    }

    /// Tells whether the key has a public half that `GetPublicKey` can hand out.
    #[must_use]
    pub const fn is_asymmetric(self) -> bool {
        !matches!(self, Self::Aes256 | Self::Hmac256 | Self::Hmac384 | Self::Hmac512)
    }
}

closed_set! {
    /// Where a key or a key version stands in its life.
    KeyState, "key state", {
        /// In use.
        Enabled = 1, "ENABLED";
        /// Refuses use until it is enabled again.
        Disabled = 2, "DISABLED";
        /// Refuses use; its material is destroyed when the waiting time is over.
        PendingDeletion = 3, "PENDING_DELETION";
        /// Its material is gone for good; the id stays taken.
        Destroyed = 4, "DESTROYED";
    }
}

closed_set! {
    /// What can happen to a key.
    KeyEvent, "key event", {
        /// An administrator lets the key be used.
        Enable = 1, "ENABLE";
        /// An administrator stops the use of the key.
        Disable = 2, "DISABLE";
        /// An administrator has the key deleted after a waiting time.
        ScheduleDeletion = 3, "SCHEDULE_DELETION";
        /// An administrator changes their mind within the waiting time.
        CancelDeletion = 4, "CANCEL_DELETION";
        /// The waiting time is over by the replicated clock.
        DeletionDue = 5, "DELETION_DUE";
    }
}

/// An event that the state of the key does not allow.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, minicbor::Encode, minicbor::Decode,
)]
#[error("a key that is {from} does not take {event}")]
pub struct IllegalTransition {
    /// The state that the key is in.
    #[n(0)]
    pub from: KeyState,
    /// What was asked of it.
    #[n(1)]
    pub event: KeyEvent,
}

impl KeyState {
    /// Returns the state after an event: the one table of all legal moves.
    ///
    /// # Errors
    /// [`IllegalTransition`] for every pair that the table does not list.
    pub fn on(self, event: KeyEvent) -> Result<Self, IllegalTransition> {
        use KeyEvent::{CancelDeletion, DeletionDue, Disable, Enable, ScheduleDeletion};
        use KeyState::{Destroyed, Disabled, Enabled, PendingDeletion};
        Ok(match (self, event) {
            (Enabled, Disable) => Disabled,
            (Disabled, Enable) => Enabled,
            (Enabled | Disabled, ScheduleDeletion) => PendingDeletion,
            (PendingDeletion, CancelDeletion) => Enabled,
            (PendingDeletion, DeletionDue) => Destroyed,
            (from, event) => return Err(IllegalTransition { from, event }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifecycle_matrix_has_exactly_these_legal_moves() {
        let mut matrix = String::new();
        for from in KeyState::ALL {
            for event in KeyEvent::ALL {
                if let Ok(to) = from.on(*event) {
                    matrix += &format!("{from} --{event}--> {to}\n");
                }
            }
        }
        assert_eq!(
            matrix,
            "ENABLED --DISABLE--> DISABLED\n\
             ENABLED --SCHEDULE_DELETION--> PENDING_DELETION\n\
             DISABLED --ENABLE--> ENABLED\n\
             DISABLED --SCHEDULE_DELETION--> PENDING_DELETION\n\
             PENDING_DELETION --CANCEL_DELETION--> ENABLED\n\
             PENDING_DELETION --DELETION_DUE--> DESTROYED\n"
        );
    }

    #[test]
    fn every_spec_has_algorithms_for_each_of_its_usages_and_no_other() {
        for spec in KeySpec::ALL {
            for usage in KeyUsage::ALL {
                let listed = spec.usages().contains(usage);
                assert_eq!(listed, !spec.algorithms(*usage).is_empty(), "{spec} for {usage}");
            }
        }
    }

    #[test]
    fn unknown_name_is_answered_with_the_known_ones() {
        let error = "AES_257".parse::<KeySpec>().unwrap_err().to_string();
        assert!(
            error.starts_with("`AES_257` is no key spec; known are AES_256, HMAC_256"),
            "{error}"
        );
    }
}
