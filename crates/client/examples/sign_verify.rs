//! Signs with a key that never leaves the cluster, and verifies there and with the public key alone.

use std::error::Error;
use std::{env, fs};

use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use twinkeep_client::v1;

mod common;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (client, _) = common::connect()?;
    let home = env::var("TWINKEEP_HOME").unwrap_or_else(|_| ".dev".to_owned());
    let request = v1::CreateKeyRequest {
        instance_id: fs::read_to_string(format!("{home}/first-instance"))?,
        spec: v1::KeySpec::EcP256.into(),
        usage: v1::KeyUsage::SignVerify.into(),
        ..Default::default()
    };
    let key = client.create_key(request).await?.key.ok_or("the answer has no key")?;
    println!("made {}", key.key_id);

    let message = bytes::Bytes::from_static(b"pay 7 to Alice");
    let request = v1::SignRequest {
        key_id: key.key_id.clone(),
        message: message.clone(),
        message_type: v1::MessageType::Raw.into(),
        ..Default::default()
    };
    let signature = client.sign(request).await?.signature;

    for message in [message.clone(), "pay 9 to Mallory".into()] {
        let request = v1::VerifyRequest {
            key_id: key.key_id.clone(),
            message: message.clone(),
            message_type: v1::MessageType::Raw.into(),
            signature: signature.clone(),
            ..Default::default()
        };
        // A wrong signature is an answer, not an error.
        let valid = client.verify(request).await?.valid;
        println!(
            "{}: {}",
            String::from_utf8_lossy(&message),
            if valid { "valid" } else { "not valid" }
        );
    }

    let request = v1::GetPublicKeyRequest { key_id: key.key_id, ..Default::default() };
    let spki = client.get_public_key(request).await?.public_key_der;
    // Of a P-256 key the last 65 bytes are the point, which is what ring wants.
    let point = spki.len().checked_sub(65).map(|at| spki.slice(at..)).ok_or("no P-256 key")?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point)
        .verify(&message, &signature)
        .map_err(|_| "the public key says otherwise")?;
    println!("the public key agrees");
    Ok(())
}
