//! From `cargo new` to a ciphertext, against the cluster of `make run`.
use std::{env, fs};

use anyhow::Context as _;
use twinkeep_client::{Client, v1};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // What `make run` wrote: certificates, and the id of the first key.
    let home = env::var("TWINKEEP_HOME").unwrap_or_else(|_| ".dev".to_owned());
    let key_id = fs::read_to_string(format!("{home}/first-key"))
        .with_context(|| format!("TWINKEEP_HOME is to be the `.dev` of `make run`, not {home}"))?;
    // One node is enough: the client learns the others from it.
    let client = Client::builder()
        .endpoint(env::args().nth(1).unwrap_or_else(|| "127.0.1.1:7100".to_owned()))
        .root_file(format!("{home}/callers/endpoint-root.pem"))
        .identity_files(format!("{home}/callers/app.pem"), format!("{home}/callers/app.key"))
        .build()?;

    let plaintext = "a secret".into();
    let request = v1::EncryptRequest { key_id, plaintext, ..Default::default() };
    let ciphertext = client.encrypt(request).await?.ciphertext;
    println!("{} bytes of ciphertext", ciphertext.len());

    let request = v1::DecryptRequest { ciphertext, ..Default::default() };
    let plaintext = client.decrypt(request).await?.plaintext;
    println!("{}", String::from_utf8_lossy(&plaintext));
    Ok(())
}
