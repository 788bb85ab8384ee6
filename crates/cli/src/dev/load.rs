//! Load on a development cluster, through the client library: applications that use a key at a steady pace, and a
//! writer that makes one key after another.
//!
//! Calls are due at fixed times whatever became of those before, and their time counts from when they were due: a
//! stall shows as late calls and not as fewer calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{self, MissedTickBehavior, interval, sleep, timeout};
use twinkeep_client::{Client, v1};

/// What applications encrypt.
const PLAINTEXT: [u8; 1024] = [0x5a; 1024];
/// What is encrypted with a new key, once.
const FIRST_USE: &[u8] = b"the first use of a key";
/// Time of one control write, from beginning to end.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// Pause after a control write that failed.
const RETRY_PACE: Duration = Duration::from_millis(10);
/// A write that was under way when a zone was lost, and is answered within this time, had reached the disks before.
const DECIDED_MAX: Duration = Duration::from_millis(100);

/// One use of a key.
#[derive(Debug, Clone)]
pub(crate) struct Call {
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
    task: JoinHandle<Vec<Call>>,
    stop: StopOnDrop,
}

/// One control write: a key that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) sent: Instant,
    pub(crate) ended: Instant,
    /// The key, or why there is none.
    pub(crate) made: Result<Made, String>,
}

/// A key that was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) key_id: String,
    /// Where it was on disk then.
    pub(crate) durability: v1::Durability,
    /// The state that holds it.
    pub(crate) state_index: u64,
    /// What was encrypted with it at once, or why nothing was.
    pub(crate) ciphertext: Result<Bytes, String>,
}

/// A writer at work.
#[derive(Debug)]
pub(crate) struct Writer {
    task: JoinHandle<Vec<Write>>,
    stop: StopOnDrop,
    /// When the last write was sent that was acknowledged.
    last: watch::Receiver<Option<Instant>>,
}

#[derive(Debug)]
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Call {
    /// When it ended.
    pub(crate) fn ended(&self) -> Instant {
        self.due + self.took
    }
}

impl Write {
    /// Why there is no key, or none that can be used.
    pub(crate) fn failed(&self) -> Option<&str> {
        match &self.made {
            Err(why) => Some(why),
            Ok(made) => made.ciphertext.as_ref().err().map(String::as_str),
        }
    }
}

impl Application {
    /// Begins to call, so many times a second: Encrypt and Decrypt of 1 KiB in turn.
    pub(crate) async fn start(client: &Client, key_id: &str, rate: u32) -> anyhow::Result<Self> {
        let ciphertext = encrypt(client, key_id, Bytes::from_static(&PLAINTEXT)).await;
        let ciphertext = ciphertext.context("the application cannot use its key")?;
        let work = Work { client: client.clone(), key_id: key_id.to_owned(), ciphertext };
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(work.run(Duration::from_secs(1) / rate, Arc::clone(&stop)));
        Ok(Self { task, stop: StopOnDrop(stop) })
    }

    /// Ends it, waits for all answers and returns all calls in the order in which they were due.
    pub(crate) async fn stop(self) -> anyhow::Result<Vec<Call>> {
        drop(self.stop);
        let mut calls = self.task.await.context("an application has ended by itself")?;
        calls.sort_unstable_by_key(|call| call.due);
        Ok(calls)
    }
}

struct Work {
    client: Client,
    key_id: String,
    ciphertext: Bytes,
}

impl Work {
    async fn run(self, pace: Duration, stop: Arc<AtomicBool>) -> Vec<Call> {
        let work = Arc::new(self);
        let (done, mut answers) = mpsc::unbounded_channel();
        let mut pace = interval(pace);
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

    async fn call(&self, encrypts: bool, due: time::Instant) -> Call {
        let (operation, result) = match encrypts {
            true => ("encrypt", self.encrypt().await),
            false => ("decrypt", self.decrypt().await),
        };
        let failed = result.err().map(|error| format!("{operation}: {error:#}"));
        Call { due: due.into_std(), took: due.elapsed(), failed }
    }

    async fn encrypt(&self) -> anyhow::Result<()> {
        let plaintext = Bytes::from_static(&PLAINTEXT);
        Ok(encrypt(&self.client, &self.key_id, plaintext).await.map(drop)?)
    }

    async fn decrypt(&self) -> anyhow::Result<()> {
        let plaintext = decrypt(&self.client, self.ciphertext.clone()).await?;
        ensure!(plaintext[..] == PLAINTEXT[..], "another plaintext came back");
        Ok(())
    }
}

impl Writer {
    /// Begins to make keys, one after the other, and uses each once. The next one is sent so long after the last one
    /// was, or as soon as that has ended.
    pub(crate) fn start(client: &Client, request: v1::CreateKeyRequest, pace: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, last) = watch::channel(None);
        let client = client.with_deadline(WRITE_MAX);
        let task = tokio::spawn(write(client, request, pace, Arc::clone(&stop), tell));
        Self { task, stop: StopOnDrop(stop), last }
    }

    /// Waits until a write that was sent after a moment is acknowledged; tells whether one was in time.
    pub(crate) async fn until_acknowledged(&mut self, after: Instant, within: Duration) -> bool {
        let is_after = |last: &Option<Instant>| last.is_some_and(|sent| sent >= after);
        matches!(timeout(within, self.last.wait_for(is_after)).await, Ok(Ok(_)))
    }

    /// Ends it after the write that is open.
    pub(crate) async fn stop(self) -> anyhow::Result<Vec<Write>> {
        drop(self.stop);
        self.task.await.context("the writer has ended by itself")
    }
}

async fn write(
    client: Client,
    request: v1::CreateKeyRequest,
    pace: Duration,
    stop: Arc<AtomicBool>,
    tell: watch::Sender<Option<Instant>>,
) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut pace = interval(pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let sent = Instant::now();
        let answer = client.create_key(request.clone()).await;
        let ended = Instant::now();
        let made = match answer {
            Ok(answer) => {
                tell.send_replace(Some(sent));
                used(&client, answer).await
            }
            Err(error) => Err(format!("{error:#}")),
        };
        if made.is_err() {
            sleep(RETRY_PACE).await;
        }
        writes.push(Write { sent, ended, made });
    }
    writes
}

async fn used(client: &Client, answer: v1::CreateKeyResponse) -> Result<Made, String> {
    let (durability, state_index) = (answer.durability(), answer.state_index);
    let key_id = answer.key.ok_or("the answer has no key")?.key_id;
    let ciphertext = encrypt(client, &key_id, Bytes::from_static(FIRST_USE)).await;
    let ciphertext = ciphertext.map_err(|error| format!("the new key cannot be used: {error:#}"));
    Ok(Made { key_id, durability, state_index, ciphertext })
}

/// Tells whether a key opens what was encrypted with it when it was made, or, where that failed, works now.
pub(crate) async fn still_works(client: &Client, made: &Made) -> anyhow::Result<()> {
    let ciphertext = match &made.ciphertext {
        Ok(ciphertext) => ciphertext.clone(),
        Err(_) => encrypt(client, &made.key_id, Bytes::from_static(FIRST_USE)).await?,
    };
    let plaintext = decrypt(client, ciphertext).await?;
    ensure!(plaintext == FIRST_USE, "another plaintext came back");
    Ok(())
}

/// Encrypts with a key.
pub(crate) async fn encrypt(
    client: &Client,
    key_id: &str,
    plaintext: Bytes,
) -> Result<Bytes, twinkeep_client::Error> {
    let key_id = key_id.to_owned();
    let request = v1::EncryptRequest { key_id, plaintext, ..v1::EncryptRequest::default() };
    Ok(client.encrypt(request).await?.ciphertext)
}

/// Decrypts with the key that the ciphertext names.
pub(crate) async fn decrypt(
    client: &Client,
    ciphertext: Bytes,
) -> Result<Bytes, twinkeep_client::Error> {
    let request = v1::DecryptRequest { ciphertext, ..v1::DecryptRequest::default() };
    Ok(client.decrypt(request).await?.plaintext)
}

/// Returns a request for a new AES-256 key.
pub(crate) fn new_key(instance_id: &str, description: &str) -> v1::CreateKeyRequest {
    v1::CreateKeyRequest {
        instance_id: instance_id.to_owned(),
        spec: v1::KeySpec::Aes256.into(),
        usage: v1::KeyUsage::EncryptDecrypt.into(),
        description: description.to_owned(),
        ..v1::CreateKeyRequest::default()
    }
}

/// Returns when the first control write was acknowledged after a loss that was begun and then in force: one that was
/// sent after it, or was under way and cannot have been decided before it.
pub(crate) fn writes_again(
    writes: &[Write],
    (begun, in_force): (Instant, Instant),
) -> Option<Instant> {
    let counts = |write: &&Write| {
        let after = write.ended.saturating_duration_since(begun);
        write.made.is_ok() && (write.sent >= in_force || after > DECIDED_MAX)
    };
    writes.iter().filter(counts).map(|write| write.ended).min()
}

/// Returns the smallest time, in milliseconds, that so many of a thousand do not exceed; no number if there is none, or
/// if it is one of those that never came.
pub(crate) fn percentile_ms(
    times: impl IntoIterator<Item = Option<Duration>>,
    per_mille: usize,
) -> f64 {
    let mut times: Vec<_> = times.into_iter().map(|time| time.unwrap_or(Duration::MAX)).collect();
    times.sort_unstable();
    let rank = (per_mille * times.len()).div_ceil(1000).max(1);
    times.get(rank - 1).filter(|time| **time < Duration::MAX).map_or(f64::NAN, |time| ms(*time))
}

/// Milliseconds, to a microsecond.
pub(crate) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn made() -> Result<Made, String> {
        let durability = v1::Durability::EveryZone;
        Ok(Made { key_id: String::new(), durability, state_index: 1, ciphertext: Ok(Bytes::new()) })
    }

    #[test]
    fn percentiles_are_those_of_the_nearest_rank_and_what_never_came_is_no_number() {
        let times = || (1..=100_u32).rev().map(|n| Some(n * MS));
        assert_eq!(percentile_ms(times(), 500), 50.0);
        assert_eq!(percentile_ms(times(), 990), 99.0);
        assert_eq!(percentile_ms(times(), 999), 100.0);
        assert_eq!(percentile_ms([Some(MS), None], 500), 1.0);
        assert!(percentile_ms([Some(MS), None], 990).is_nan());
        assert!(percentile_ms([], 500).is_nan());
    }

    #[test]
    fn write_that_was_decided_before_the_loss_does_not_count_as_recovery() {
        let begun = Instant::now();
        let in_force = begun + MS;
        let write = |sent, ended, made| Write { sent, ended, made };
        let before = write(begun - 5 * MS, begun + 2 * MS, made());
        let failed = write(in_force, begun + 200 * MS, Err("no leader".to_owned()));
        let waited = write(begun - MS, begun + 540 * MS, made());
        let after = write(begun + 541 * MS, begun + 545 * MS, made());
        let again = |writes: &[Write]| writes_again(writes, (begun, in_force));
        assert_eq!(again(&[before.clone(), failed.clone()]), None);
        let all = [before.clone(), failed.clone(), waited, after.clone()];
        assert_eq!(again(&all), Some(begun + 540 * MS));
        assert_eq!(again(&[before, failed, after]), Some(begun + 545 * MS));
    }
}
