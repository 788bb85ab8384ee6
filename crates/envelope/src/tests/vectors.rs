//! Vectors V1 to V5 and R1, frozen in `tests/vectors`.

use ring::digest;
use serde::Deserialize;
use twinkeep_core::id::{ClusterId, InstanceId, KeyId, KeyVersionNumber, Revision};
use twinkeep_core::record::{RecordKind, SealedBlob};

use super::aws_lc;
use crate::ciphertext::{self, Header};
use crate::frame::Draw;
use crate::kdf;
use crate::record::{self, RecordBinding, Wrap, WrapLevel};
use crate::{Context, OpenKey};

/// Bytes written as hex.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hex(pub(crate) Vec<u8>);

impl Hex {
    pub(crate) fn array<const N: usize>(&self) -> [u8; N] {
        self.0.as_slice().try_into().unwrap()
    }

    pub(crate) fn key(&self) -> OpenKey {
        OpenKey::from_slice(&self.0).unwrap()
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        hex::decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

#[derive(Deserialize)]
pub(super) struct Ciphertexts {
    pub(super) key: Hex,
    key_id: Hex,
    key_version: u32,
    salt: Hex,
    iv: Hex,
    pub(super) messages: Vec<Message>,
    pub(super) accumulated: Accumulated,
    #[serde(rename = "bit_flips_of_V2")]
    pub(super) bit_flips: BitFlips,
}

#[derive(Deserialize)]
pub(super) struct Message {
    name: String,
    context: GivenContext,
    pub(super) plaintext: Hex,
    encoded: Hex,
    hash: Option<Hex>,
    message_key: Option<Hex>,
    commitment: Hex,
    pub(super) blob: Hex,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum GivenContext {
    None,
    EmptyMap,
    Pairs(Vec<(String, String)>),
    Raw(Hex),
}

#[derive(Deserialize)]
pub(super) struct Accumulated {
    pub(super) sums: Vec<Sum>,
}

#[derive(Deserialize)]
pub(super) struct Sum {
    pub(super) iterations: u32,
    pub(super) sha256: Hex,
}

#[derive(Deserialize)]
pub(super) struct BitFlips {
    pub(super) format: usize,
    pub(super) commitment: usize,
    pub(super) tag: usize,
}

#[derive(Deserialize)]
pub(super) struct Record {
    pub(super) key: Hex,
    wrap_level: u8,
    wrapping_key_id: Hex,
    epoch: u32,
    cluster: Hex,
    kind: u16,
    instance: Hex,
    pub(super) record_key: Hex,
    revision: u64,
    schema: u16,
    salt: Hex,
    iv: Hex,
    pub(super) plaintext: Hex,
    commitment: Hex,
    pub(super) blob: Hex,
}

impl Ciphertexts {
    pub(super) fn load() -> Self {
        serde_json::from_str(include_str!("../../tests/vectors/ciphertext.json")).unwrap()
    }

    pub(super) fn header(&self) -> Header {
        let version = KeyVersionNumber::new(self.key_version).unwrap();
        Header::new(KeyId::from_bytes(self.key_id.array()), version)
    }

    pub(super) fn draw(&self) -> Draw {
        Draw { salt: self.salt.array(), iv: self.iv.array() }
    }
}

impl Message {
    pub(super) fn context(&self) -> Context<'_> {
        match &self.context {
            GivenContext::None => Context::NONE,
            GivenContext::EmptyMap => Context::EMPTY_MAP,
            GivenContext::Pairs(pairs) => {
                Context::from_pairs(pairs.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes())))
                    .unwrap()
            }
            GivenContext::Raw(bytes) => Context::from_raw(&bytes.0).unwrap(),
        }
    }
}

impl Record {
    pub(super) fn load() -> Self {
        serde_json::from_str(include_str!("../../tests/vectors/record.json")).unwrap()
    }

    pub(super) fn wrap(&self) -> Wrap {
        assert_eq!(self.wrap_level, WrapLevel::Instance as u8);
        let key = self.wrapping_key_id.array();
        Wrap { level: WrapLevel::Instance, key, version: self.epoch }
    }

    pub(super) fn sealed(&self) -> SealedBlob {
        SealedBlob::from_envelope(self.blob.0.clone())
    }

    pub(super) fn binding(&self) -> RecordBinding<'_> {
        assert_eq!(self.kind, RecordKind::KeyMaterial as u16);
        RecordBinding {
            cluster: ClusterId::from_bytes(self.cluster.array()),
            kind: RecordKind::KeyMaterial,
            instance: InstanceId::from_bytes(self.instance.array()),
            record_key: &self.record_key.0,
            revision: Revision::new(self.revision).unwrap(),
            schema: self.schema,
        }
    }
}

#[test]
fn messages_seal_to_the_published_bytes_and_open() {
    let vectors = Ciphertexts::load();
    let key = vectors.key.key();
    for message in &vectors.messages {
        let context = message.context();
        let mut encoded = Vec::new();
        context.encode(|bytes| encoded.extend_from_slice(bytes));
        assert_eq!(encoded, message.encoded.0, "{}", message.name);
        if let Some(hash) = &message.hash {
            assert_eq!(context.hash(), hash.0.as_slice(), "{}", message.name);
        }
        let blob = ciphertext::seal_with(
            &key,
            &vectors.header(),
            &context,
            &message.plaintext.0,
            vectors.draw(),
        )
        .unwrap();
        assert_eq!(hex::encode(&blob), hex::encode(&message.blob.0), "{}", message.name);
        assert_eq!(blob.capacity(), blob.len(), "sealing allocates once");
        assert_eq!(blob[40..72], message.commitment.0, "{}", message.name);
        assert_eq!(Header::parse(&blob), Ok(vectors.header()));
        let opened = ciphertext::open(&key, &context, &blob).unwrap();
        assert_eq!(*opened, message.plaintext.0, "{}", message.name);
    }
}

#[test]
fn message_keys_are_the_published_ones() {
    let vectors = Ciphertexts::load();
    let key = vectors.key.key();
    for message in &vectors.messages {
        let mut okm = [0; 64];
        let parts: [&[u8]; 2] = [&message.blob.0[..40], &message.context().hash()];
        kdf::expand(&key, "kms-ciphertext-v1", &parts, &mut okm);
        if let Some(message_key) = &message.message_key {
            assert_eq!(okm[..32], message_key.0, "{}", message.name);
        }
        assert_eq!(okm[32..], message.commitment.0, "{}", message.name);
    }
}

#[test]
fn aws_lc_gives_the_same_messages() {
    let vectors = Ciphertexts::load();
    for message in &vectors.messages {
        let hash = digest::digest(&digest::SHA256, &message.encoded.0);
        let draw = vectors.draw();
        let blob = aws_lc::seal(
            &vectors.key.0,
            b"kms-ciphertext-v1",
            &message.blob.0[..24],
            hash.as_ref(),
            (&draw.salt, &draw.iv),
            &message.plaintext.0,
        );
        assert_eq!(hex::encode(blob), hex::encode(&message.blob.0), "{}", message.name);
    }
}

#[test]
fn record_seals_to_the_published_bytes_and_opens() {
    let vector = Record::load();
    let key = vector.key.key();
    let draw = Draw { salt: vector.salt.array(), iv: vector.iv.array() };
    let sealed =
        record::seal_with(&key, &vector.wrap(), &vector.binding(), &vector.plaintext.0, draw)
            .unwrap();
    assert_eq!(hex::encode(sealed.as_bytes()), hex::encode(&vector.blob.0));
    assert_eq!(sealed.as_bytes()[40..72], vector.commitment.0);
    assert_eq!(Wrap::parse(&sealed), Ok(vector.wrap()));
    let opened = record::open(&key, &vector.wrap(), &vector.binding(), &sealed).unwrap();
    assert_eq!(opened.danger_expose(), vector.plaintext.0);
}

#[test]
fn aws_lc_gives_the_same_record() {
    let vector = Record::load();
    let encoded = [
        &[0x03],
        vector.cluster.0.as_slice(),
        &vector.kind.to_be_bytes(),
        &vector.instance.0,
        &[0, 20],
        &vector.record_key.0,
        &vector.revision.to_be_bytes(),
        &vector.schema.to_be_bytes(),
    ]
    .concat();
    let blob = aws_lc::seal(
        &vector.key.0,
        b"kms-record-v1",
        &vector.blob.0[..24],
        digest::digest(&digest::SHA256, &encoded).as_ref(),
        (&vector.salt.array(), &vector.iv.array()),
        &vector.plaintext.0,
    );
    assert_eq!(hex::encode(blob), hex::encode(&vector.blob.0));
}

#[test]
fn two_messages_never_share_salt_and_iv() {
    let vectors = Ciphertexts::load();
    let key = vectors.key.key();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..10_000 {
        let blob = ciphertext::seal(&key, &vectors.header(), &Context::NONE, b"").unwrap();
        let drawn: Vec<u8> = [&blob[24..40], &blob[72..84]].concat();
        assert!(seen.insert(drawn));
    }
}
