//! Material of the software backend and what a handle of it holds. Everything here runs at once,
//! whatever it takes; who calls decides where.

use twinkeep_core::key::KeySpec;
use twinkeep_envelope::{OpenKey, SecretBytes};

use super::asymmetric::{self, Pair, unfit};
use crate::backend::{Error, Generated, InvalidInput, KeyHandle, KeyTemplate, Material, PublicKey};
use crate::{limits, random};

/// What a handle of this backend holds.
pub(super) enum Key {
    Aes(OpenKey),
    Hmac(SecretBytes),
    Pair(Pair),
}

/// Length of raw material in bytes; `None` for specs of key pairs.
const fn raw_len(spec: KeySpec) -> Option<usize> {
    match spec {
        KeySpec::Aes256 | KeySpec::Hmac256 => Some(32),
        KeySpec::Hmac384 => Some(48),
        KeySpec::Hmac512 => Some(64),
        KeySpec::Rsa2048
        | KeySpec::Rsa3072
        | KeySpec::Rsa4096
        | KeySpec::EcP256
        | KeySpec::EcP384
        | KeySpec::EcP521
        | KeySpec::EcP256k1
        | KeySpec::Ed25519 => None,
    }
}

fn check_raw(spec: KeySpec, expected: usize, material: &SecretBytes) -> Result<(), Error> {
    let (len, algorithm) = (material.len(), spec.as_str());
    if len == expected {
        return Ok(());
    }
    Err(InvalidInput::WrongLength { field: "key material", len, algorithm, expected }.into())
}

fn symmetric(material: SecretBytes) -> Generated {
    Generated { material: Material::Sealable(material), public_key: None }
}

fn asymmetric((pkcs8, public): (SecretBytes, PublicKey)) -> Generated {
    Generated { material: Material::Sealable(pkcs8), public_key: Some(public) }
}

/// Makes material.
pub(super) fn generate(template: &KeyTemplate) -> Result<Generated, Error> {
    template.check_usage()?;
    match raw_len(template.spec) {
        Some(len) => random::secret(len).map(symmetric),
        None => asymmetric::generate(template).map(asymmetric),
    }
}

/// Checks material from elsewhere.
pub(super) fn import(template: &KeyTemplate, material: SecretBytes) -> Result<Generated, Error> {
    template.check_usage()?;
    if let Some(len) = raw_len(template.spec) {
        check_raw(template.spec, len, &material)?;
        return Ok(symmetric(material));
    }
    let way_out = "send one key in PKCS#8 DER";
    limits::check("key material", material.len(), limits::IMPORT_BYTES_MAX, way_out)?;
    asymmetric::import(template, material.danger_expose()).map(asymmetric)
}

/// Makes a handle.
pub(super) fn open(template: &KeyTemplate, material: Material) -> Result<KeyHandle, Error> {
    template.check_usage()?;
    let key = match (material, raw_len(template.spec)) {
        (Material::Sealable(raw), Some(len)) => {
            check_raw(template.spec, len, &raw)?;
            match (template.spec, OpenKey::from_slice(raw.danger_expose())) {
                (KeySpec::Aes256, Some(key)) => Key::Aes(key),
                _ => Key::Hmac(raw),
            }
        }
        (Material::Sealable(pkcs8), None) => {
            Key::Pair(Pair::open(template, pkcs8.danger_expose())?)
        }
        (Material::Public(public), None) => Key::Pair(Pair::open_public(template, public)?),
        (Material::Public(_), Some(_)) => {
            return Err(unfit("key material", "is a public key, and keys of this spec have none"));
        }
        (Material::Kept(_), _) => {
            return Err(unfit("key material", "is the name of a key that another backend keeps"));
        }
    };
    Ok(KeyHandle::new(*template, key))
}
