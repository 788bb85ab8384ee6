//! The recovery bundle: the root key for the day when every seal is lost.
//!
//! The root key is split; each share is encrypted to one operator's own age key (X25519) and is, once
//! decrypted, a share text as in [`crate::seal::share`], so that the standard `age` tool opens it too. The
//! bundle itself is no secret. It opens with k of n operators, and with the stored records of any node
//! it gives back every key.
//!
//! The file is text: [`BEGIN`], Base64 of the content in lines of 64, [`END`]. Content, format 1:
//!
//! | offset | size | field                                                  |
//! |-------:|-----:|--------------------------------------------------------|
//! | 0      | 1    | format, 0x01                                           |
//! | 1      | n    | CBOR of [`Bundle`]                                     |
//! | 1 + n  | 8    | first bytes of SHA-256 over all before; for slips, not against forgery |

use std::iter::once;
use std::str::FromStr as _;

use age::secrecy::ExposeSecret as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bech32::Bech32;
use bech32::primitives::decode::CheckedHrpstring;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use subtle::ConstantTimeEq as _;
use twinkeep_core::id::ClusterId;
use twinkeep_core::name::CallerName;
use twinkeep_core::record::{CommandKey, Operator, SealId};
use twinkeep_envelope::{ExposeKey as _, OpenKey, RandomnessFailed};
use zeroize::Zeroizing;

use crate::keyring::Keyring;
use crate::random::draw;
use crate::seal::check_value;
use crate::seal::share::Share;
use crate::shamir::{Quorum, combine};

/// First line of a bundle's file.
pub const BEGIN: &str = "-----BEGIN TWINKEEP RECOVERY BUNDLE-----";
/// Last line of a bundle's file.
pub const END: &str = "-----END TWINKEEP RECOVERY BUNDLE-----";

/// Most bytes of a bundle's file.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

const FORMAT: u8 = 1;
const CHECKSUM_LEN: usize = 8;
const LINE_LEN: usize = 64;

/// A recovery bundle.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct Bundle {
    /// The cluster whose root key it is.
    #[n(0)]
    pub cluster: ClusterId,
    /// The set of shares.
    #[n(1)]
    pub set: SealId,
    /// How many operators open it.
    #[n(2)]
    pub threshold: u8,
    /// Key check value of the root key.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub kcv: [u8; 8],
    /// The command key at the time, to check signed records with.
    #[n(4)]
    pub command_key: CommandKey,
    /// A share per operator.
    #[n(5)]
    pub shares: Vec<EncryptedShare>,
}

/// A share that one operator can read.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
pub struct EncryptedShare {
    /// Who.
    #[n(0)]
    pub operator: CallerName,
    /// The age recipient that it is encrypted to, `age1…`.
    #[n(1)]
    pub recipient: String,
    /// An age file that holds the share's text.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub age: Vec<u8>,
}

/// Why a bundle was not made.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Each operator gets one share.
    #[error("{shares} shares for {operators} operators: each gets one")]
    OperatorCount {
        /// Shares that the quorum has.
        shares: u8,
        /// Operators that were named.
        operators: usize,
    },
    /// Not a public key of age.
    #[error("the key of operator {operator} is no age recipient (`age1…`): {reason}")]
    Recipient {
        /// Whose.
        operator: CallerName,
        /// What age says.
        reason: &'static str,
    },
    /// One person would hold two shares.
    #[error("operator {operator} occurs twice, by name or by key")]
    Duplicate {
        /// Who.
        operator: CallerName,
    },
    /// Encryption failed.
    #[error("a share was not encrypted")]
    Encrypt(#[from] age::EncryptError),
    /// No random bytes.
    #[error(transparent)]
    Randomness(#[from] RandomnessFailed),
}

/// Why a bundle does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// The text is no bundle, or damaged.
    #[error("the text is no recovery bundle, or damaged: {0}")]
    Text(&'static str),
    /// Too few of the identities belong to operators of the bundle.
    #[error("{opened} shares open with the keys given, {threshold} are needed")]
    TooFew {
        /// Shares that opened.
        opened: usize,
        /// Shares that are needed.
        threshold: u8,
    },
    /// A share opened to something that is no share of this bundle.
    #[error("what operator {0} can open is no share of this bundle")]
    WrongShare(CallerName),
    /// The shares opened and do not give the root key.
    #[error("the shares do not give the root key that the bundle was made of")]
    WrongKey,
}

/// An operator's private key: an age identity (X25519). [`crate::operator`] has what else it is for.
pub struct Identity(age::x25519::Identity);

impl Identity {
    /// Draws a fresh one.
    #[must_use]
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// Reads the first key of an identity file as `age-keygen` writes it: comments, then
    /// `AGE-SECRET-KEY-1…`. `None` where there is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let key = text.lines().map(str::trim).find(|line| line.starts_with("AGE-SECRET-KEY-1"))?;
        age::x25519::Identity::from_str(key).ok().map(Self)
    }

    /// The public half, `age1…`.
    #[must_use]
    pub fn recipient(&self) -> String {
        self.0.to_public().to_string()
    }

    /// The secret itself, for deriving from it.
    pub(crate) fn secret(&self) -> OpenKey {
        let text = self.0.to_string();
        let decoded = CheckedHrpstring::new::<Bech32>(text.expose_secret());
        let decoded = decoded.expect("age writes its own keys in Bech32");
        let mut bytes = decoded.byte_iter();
        assert_eq!(bytes.len(), OpenKey::LEN, "an X25519 key has 32 bytes");
        OpenKey::build(|key| key.iter_mut().for_each(|to| *to = bytes.next().unwrap_or_default()))
    }

    /// An identity file's text, for a file that its owner alone can read.
    #[must_use]
    pub fn danger_to_text(&self) -> Zeroizing<String> {
        let secret = self.0.to_string();
        let public = self.recipient();
        Zeroizing::new(format!("# public key: {public}\n{}\n", secret.expose_secret()))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.recipient())
    }
}

impl Bundle {
    /// Splits the root key of a keyring among operators.
    pub fn create(
        keyring: &Keyring,
        operators: &[Operator],
        quorum: Quorum,
    ) -> Result<Self, BundleError> {
        let recipients = check_operators(operators, quorum)?;
        let random = SystemRandom::new();
        let set = SealId(draw(&random)?);
        let root = OpenKey::build(|key| key.copy_from_slice(keyring.root().danger_expose()));
        let split = Share::split(&root, set, quorum, &random)?;
        let shares = split
            .iter()
            .zip(operators.iter().zip(&recipients))
            .map(|(share, (operator, recipient))| encrypt(share, operator, recipient))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            cluster: keyring.cluster(),
            set,
            threshold: quorum.threshold(),
            kcv: check_value(&root, set),
            command_key: keyring.command_key(),
            shares,
        })
    }

    /// Writes the file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut content = vec![FORMAT];
        minicbor::encode(self, &mut content).expect("a Vec takes every byte");
        content.extend_from_slice(&checksum(&content));
        let encoded = STANDARD.encode(content);
        let lines = encoded.as_bytes().chunks(LINE_LEN);
        let lines = lines.map(|line| std::str::from_utf8(line).expect("Base64 is ASCII"));
        let all: Vec<_> = once(BEGIN).chain(lines).chain([END, ""]).collect();
        all.join("\n")
    }

    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self, RecoveryError> {
        use RecoveryError::Text;
        if text.len() > TEXT_BYTES_MAX {
            return Err(Text("it is too long"));
        }
        let body = text.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
        let body = body.ok_or(Text("its first or last line is missing"))?;
        let encoded: String = body.split_whitespace().collect();
        let content = STANDARD.decode(encoded).map_err(|_| Text("it is not Base64"))?;
        let (content, sum) =
            content.split_last_chunk::<CHECKSUM_LEN>().ok_or(Text("it is too short"))?;
        if checksum(content) != *sum {
            return Err(Text("its checksum does not fit"));
        }
        match content {
            [FORMAT, cbor @ ..] => minicbor::decode(cbor).map_err(|_| Text("it does not decode")),
            _ => Err(Text("its format is not known")),
        }
    }

    /// Opens the bundle, compares the key check value, and returns whose shares were used. The root key
    /// is wiped again.
    pub fn verify(&self, identities: &[Identity]) -> Result<Vec<CallerName>, RecoveryError> {
        self.open(identities).map(|(_, operators)| operators)
    }

    /// Opens the bundle and returns the root key, for [`Keyring::open_with_root`].
    pub fn recover(&self, identities: &[Identity]) -> Result<OpenKey, RecoveryError> {
        self.open(identities).map(|(root, _)| root)
    }

    fn open(&self, identities: &[Identity]) -> Result<(OpenKey, Vec<CallerName>), RecoveryError> {
        let threshold = usize::from(self.threshold);
        let mut points = Vec::with_capacity(threshold);
        let mut operators = Vec::with_capacity(threshold);
        for encrypted in &self.shares {
            if points.len() == threshold {
                break;
            }
            let Some(text) = decrypt(encrypted, identities) else { continue };
            let wrong = || RecoveryError::WrongShare(encrypted.operator.clone());
            let share = Share::parse(&text).map_err(|_| wrong())?;
            let known = points.iter().any(|point: &crate::shamir::Point| point.x == share.point.x);
            if share.set != self.set || share.threshold != self.threshold || known {
                return Err(wrong());
            }
            points.push(share.point);
            operators.push(encrypted.operator.clone());
        }
        if points.len() < threshold || points.is_empty() {
            return Err(RecoveryError::TooFew { opened: points.len(), threshold: self.threshold });
        }
        let root = combine(&points);
        let same = check_value(&root, self.set).ct_eq(&self.kcv);
        if bool::from(same) { Ok((root, operators)) } else { Err(RecoveryError::WrongKey) }
    }
}

/// Reads the operators' keys; refuses a person who occurs twice.
fn check_operators(
    operators: &[Operator],
    quorum: Quorum,
) -> Result<Vec<age::x25519::Recipient>, BundleError> {
    if operators.len() != usize::from(quorum.shares()) {
        let (shares, operators) = (quorum.shares(), operators.len());
        return Err(BundleError::OperatorCount { shares, operators });
    }
    let mut recipients = Vec::with_capacity(operators.len());
    for (at, operator) in operators.iter().enumerate() {
        let recipient = age::x25519::Recipient::from_str(operator.recipient.trim())
            .map_err(|reason| BundleError::Recipient { operator: operator.name.clone(), reason })?;
        let same = |other: &Operator| {
            other.name == operator.name || other.signing_key == operator.signing_key
        };
        if operators[..at].iter().any(same) || recipients.contains(&recipient) {
            return Err(BundleError::Duplicate { operator: operator.name.clone() });
        }
        recipients.push(recipient);
    }
    Ok(recipients)
}

fn encrypt(
    share: &Share,
    operator: &Operator,
    recipient: &age::x25519::Recipient,
) -> Result<EncryptedShare, BundleError> {
    let age = age::encrypt(recipient, share.to_text().danger_expose().as_bytes())?;
    Ok(EncryptedShare { operator: operator.name.clone(), recipient: recipient.to_string(), age })
}

/// Returns the share's text if one of the identities opens it.
fn decrypt(share: &EncryptedShare, identities: &[Identity]) -> Option<Zeroizing<String>> {
    identities.iter().find_map(|identity| {
        let plaintext = Zeroizing::new(age::decrypt(&identity.0, &share.age).ok()?);
        Some(Zeroizing::new(std::str::from_utf8(&plaintext).unwrap_or_default().to_owned()))
    })
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM_LEN] {
    let sum = digest(&SHA256, content);
    *sum.as_ref().first_chunk().expect("SHA-256 gives 32 bytes")
}
