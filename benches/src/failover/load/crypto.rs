//! The load: two applications, one in each zone, that encrypt and decrypt at a steady pace.
//!
//! Calls are due at fixed times whatever became of those before, and their time counts from when they were due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use twinkeep_client::{Client, v1};

/// Calls a second of one application.
pub(crate) const RATE: u32 = 500;
/// What is encrypted.
const PLAINTEXT: [u8; 1024] = [0x5a; 1024];

/// One call and what became of it.
#[derive(Debug)]
pub(crate) struct Sent {
    /// The zone that the application stands in.
    pub(crate) zone: String,
    /// `encrypt` or `decrypt`.
    pub(crate) operation: &'static str,
    /// When it was to be sent.
    pub(crate) due: Instant,
    /// Time from then to its end.
    pub(crate) took: Duration,
    /// Why it failed.
    pub(crate) failed: Option<String>,
}

/// An application at work.
#[derive(Debug)]
pub(crate) struct Application {
    task: JoinHandle<Vec<Sent>>,
    stop: Arc<AtomicBool>,
}

impl Application {
    /// Begins to call.
    pub(crate) async fn start(client: Client, zone: &str, key_id: String) -> anyhow::Result<Self> {
        let ciphertext = encrypt(&client, &key_id).await;
        let ciphertext = ciphertext.with_context(|| format!("nothing works in zone {zone} yet"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let work = Work { client, zone: zone.to_owned(), key_id, ciphertext };
        let task = tokio::spawn(work.run(Arc::clone(&stop)));
        Ok(Self { task, stop })
    }

    /// Ends it and waits for all answers.
    pub(crate) async fn stop(self) -> anyhow::Result<Vec<Sent>> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.context("an application has ended by itself")
    }
}

#[derive(Clone)]
struct Work {
    client: Client,
    zone: String,
    key_id: String,
    ciphertext: Bytes,
}

impl Work {
    async fn run(self, stop: Arc<AtomicBool>) -> Vec<Sent> {
        let work = Arc::new(self);
        let (done, mut answers) = mpsc::unbounded_channel();
        let mut pace = interval(Duration::from_secs(1) / RATE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut encrypts = false;
        while !stop.load(Ordering::Relaxed) {
            let due = pace.tick().await;
            encrypts = !encrypts;
            let (work, done) = (Arc::clone(&work), done.clone());
            tokio::spawn(async move {
                // Nobody waits for it after the end.
                let _ = done.send(work.call(encrypts, due).await);
            });
        }
        drop(done);
        let mut calls = Vec::new();
        while let Some(call) = answers.recv().await {
            calls.push(call);
        }
        calls
    }

    async fn call(&self, encrypts: bool, due: Instant) -> Sent {
        let (operation, result) = match encrypts {
            true => ("encrypt", encrypt(&self.client, &self.key_id).await.map(drop)),
            false => ("decrypt", self.decrypt().await),
        };
        let failed = result.err().map(|error| format!("{error:#}"));
        Sent { zone: self.zone.clone(), operation, due, took: due.elapsed(), failed }
    }

    async fn decrypt(&self) -> anyhow::Result<()> {
        let ciphertext = self.ciphertext.clone();
        let request = v1::DecryptRequest { ciphertext, ..v1::DecryptRequest::default() };
        let answer = self.client.decrypt(request).await?;
        anyhow::ensure!(answer.plaintext[..] == PLAINTEXT[..], "another plaintext came back");
        Ok(())
    }
}

/// Encrypts the payload with a key.
pub(crate) async fn encrypt(client: &Client, key_id: &str) -> anyhow::Result<Bytes> {
    let request = v1::EncryptRequest {
        key_id: key_id.to_owned(),
        plaintext: Bytes::from_static(&PLAINTEXT),
        ..v1::EncryptRequest::default()
    };
    Ok(client.encrypt(request).await?.ciphertext)
}
