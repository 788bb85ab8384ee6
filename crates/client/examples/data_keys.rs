//! Seals many messages under a few data keys: a call to the cluster for each data key, none for a message.

use std::error::Error;
use std::time::Instant;

use twinkeep_client::{Context, DataKeyOptions};

mod common;

const MESSAGES: u32 = 10_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (client, key_id) = common::connect()?;
    let options =
        DataKeyOptions::default().messages_max(4_000).encryption_context([("table", "customers")]);
    let keys = client.data_keys(key_id, options.clone());

    let began = Instant::now();
    let mut sealed = Vec::new();
    for row in 0..MESSAGES {
        // Each message is bound to its row: exchanged with another's, it does not open.
        let place = row.to_be_bytes();
        sealed.push(keys.seal(b"name, address, number", &Context::from_raw(&place)?).await?);
    }
    println!("sealed {MESSAGES} messages in {:?}", began.elapsed());

    // Another process: it has the blobs, and the permission to decrypt.
    let elsewhere = client.data_keys(keys.key_id(), options);
    for (row, blob) in (0u32..).zip(&sealed) {
        let place = row.to_be_bytes();
        let plaintext = elsewhere.open(blob, &Context::from_raw(&place)?).await?;
        if *plaintext != b"name, address, number" {
            return Err("this is another message".into());
        }
    }
    println!("opened all of them");

    let moved = elsewhere.open(&sealed[0], &Context::from_raw(&1u32.to_be_bytes())?).await;
    println!("in another's place: {}", moved.err().ok_or("a moved message was opened")?);
    Ok(())
}
