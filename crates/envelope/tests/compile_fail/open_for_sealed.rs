//! A record takes sealed bytes; open ones do not fit, not even by conversion.

use twinkeep_core::record::SealedBlob;
use twinkeep_envelope::{OpenKey, SecretBytes};

struct Record {
    material: SealedBlob,
}

fn store(key: OpenKey) -> Record {
    Record { material: key }
}

fn store_converted(secret: SecretBytes) -> Record {
    Record { material: secret.into() }
}

fn main() {}
