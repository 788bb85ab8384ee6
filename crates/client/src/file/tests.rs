//! The pump without a service: slow, failing and abandoned readers and writers.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, duplex, repeat};
use twinkeep_envelope::OpenKey;
use twinkeep_envelope::file::{BadChunk, ChunkSize, Metadata, Opener, Preface, Sealer};

use super::pump::{Broken, pump};

const CHUNK: usize = 1 << 16;
const SEALED: usize = CHUNK + 16;

fn cipher() -> (Sealer, Opener, usize) {
    let key = OpenKey::build(|bytes| bytes.fill(7));
    let begun = Sealer::begin(&key, &[1; 132], ChunkSize::MIN, &Metadata::default());
    let (sealer, preface) = begun.unwrap();
    let preface = Preface::parse(preface).unwrap();
    let at = usize::try_from(preface.chunks_at()).unwrap();
    (sealer, preface.open(&key).unwrap().0, at)
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + (i >> 8)).to_le_bytes()[0]).collect()
}

/// Gives few bytes at a time, and then an error or the end.
struct Slow<'a> {
    bytes: &'a [u8],
    at_once: usize,
    fails: bool,
}

impl AsyncRead for Slow<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        cx.waker().wake_by_ref();
        if self.bytes.is_empty() && self.fails {
            return Poll::Ready(Err(io::Error::other("the disk is gone")));
        }
        let count = self.at_once.min(self.bytes.len()).min(buf.remaining());
        let (now, later) = self.bytes.split_at(count);
        buf.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

/// Takes few bytes at a time, and a certain number in all.
#[derive(Clone, Default)]
struct Narrow {
    taken: Arc<Mutex<Vec<u8>>>,
    room: Option<usize>,
    flushed: Arc<Mutex<bool>>,
}

impl AsyncWrite for Narrow {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut taken = self.taken.lock().unwrap();
        if self.room.is_some_and(|room| taken.len() >= room) {
            return Poll::Ready(Err(io::ErrorKind::StorageFull.into()));
        }
        let count = buf.len().min(10_007);
        taken.extend_from_slice(&buf[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        *self.flushed.lock().unwrap() = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Narrow {
    fn taken(&self) -> Vec<u8> {
        self.taken.lock().unwrap().clone()
    }
}

async fn sealed(sealer: Sealer, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let bytes = pump(sealer, &mut &content[..], &mut out, &mut |_| ()).await.unwrap();
    assert_eq!(bytes, content.len() as u64);
    out
}

#[tokio::test]
async fn all_sizes_come_back_through_slow_readers_and_narrow_writers() {
    for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 5 * CHUNK + 3] {
        let (sealer, opener, _) = cipher();
        let content = content(len);
        let mut told = Vec::new();
        let mut file = Narrow::default();
        let mut slow = Slow { bytes: &content, at_once: 1009, fails: false };
        pump(sealer, &mut slow, &mut file, &mut |bytes| told.push(bytes)).await.unwrap();
        assert!(*file.flushed.lock().unwrap(), "{len} bytes");
        assert_eq!(told.last(), Some(&(len as u64)), "{len} bytes");
        assert!(told.is_sorted());

        let file = file.taken();
        let mut slow = Slow { bytes: &file, at_once: 4099, fails: false };
        let mut out = Narrow::default();
        let bytes = pump(opener, &mut slow, &mut out, &mut |_| ()).await.unwrap();
        assert_eq!(bytes, len as u64);
        assert!(out.taken() == content, "{len} bytes");
    }
}

#[tokio::test]
async fn damaged_chunk_is_named_and_only_chunks_before_it_are_written() {
    let content = content(6 * CHUNK);
    for damaged in 0..6 {
        let (sealer, opener, at) = cipher();
        let mut file = sealed(sealer, &content).await;
        file[damaged * SEALED + 5] ^= 1;
        let mut out = Vec::new();
        let broken = pump(opener, &mut file.as_slice(), &mut out, &mut |_| ()).await.unwrap_err();
        let (chunk, offset) = (damaged as u64, (at + damaged * SEALED) as u64);
        let expected = match damaged {
            5 => BadChunk::End { chunk, offset },
            _ => BadChunk::Damaged { chunk, offset },
        };
        assert!(matches!(broken, Broken::Refused(bad) if bad == expected), "{broken:?}");
        assert!(out == content[..damaged * CHUNK], "chunk {damaged}");
    }
}

#[tokio::test]
async fn reader_that_fails_leaves_no_file_that_opens() {
    for good in [0, 100, CHUNK, 2 * CHUNK + 5] {
        let (sealer, opener, _) = cipher();
        let content = content(good);
        let mut failing = Slow { bytes: &content, at_once: CHUNK, fails: true };
        let mut file = Vec::new();
        let broken = pump(sealer, &mut failing, &mut file, &mut |_| ()).await.unwrap_err();
        assert!(matches!(broken, Broken::Read(_)), "{broken:?}");
        let mut out = Vec::new();
        let opened = pump(opener, &mut file.as_slice(), &mut out, &mut |_| ()).await;
        assert!(matches!(opened, Err(Broken::Refused(_))), "{good} bytes");
    }
}

#[tokio::test]
async fn writer_that_is_full_is_said_to_be() {
    let (sealer, _, _) = cipher();
    let mut full = Narrow { room: Some(CHUNK), ..Narrow::default() };
    let content = content(4 * CHUNK);
    let broken = pump(sealer, &mut content.as_slice(), &mut full, &mut |_| ()).await.unwrap_err();
    assert!(
        matches!(&broken, Broken::Write(error) if error.kind() == io::ErrorKind::StorageFull),
        "{broken:?}"
    );
}

#[tokio::test]
async fn abandoned_call_has_written_verified_plaintext_alone() {
    let content = content(8 * CHUNK);
    let (sealer, opener, _) = cipher();
    let file = sealed(sealer, &content).await;
    let out = Narrow::default();
    let mut writer = out.clone();
    // The reader stalls in the middle of a chunk, and the caller gives up.
    let (mut stalled, mut feeder) = duplex(64);
    let mut quiet = |_| ();
    let pumping = pump(opener, &mut stalled, &mut writer, &mut quiet);
    let feeding = async {
        tokio::io::AsyncWriteExt::write_all(&mut feeder, &file[..4 * SEALED + 9]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    tokio::select! {
        _ = pumping => panic!("it cannot have ended"),
        () = feeding => {}
    }
    let written = out.taken();
    assert!(written == content[..written.len()]);
    assert!(written.len() <= 4 * CHUNK);
    assert_eq!(written.len() % CHUNK, 0);
}

#[tokio::test]
async fn runtime_of_one_thread_goes_on_beside_the_pump() {
    let (sealer, _, _) = cipher();
    let ticks = async {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    // Endless input into nothing: only the ticks end this.
    let (mut endless, mut nothing, mut quiet) = (repeat(7), tokio::io::sink(), |_| ());
    tokio::select! {
        _ = pump(sealer, &mut endless, &mut nothing, &mut quiet) => panic!("no end"),
        () = ticks => {}
    }
}
