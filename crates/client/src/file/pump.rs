//! Pieces from a reader, through a cipher, to a writer; in order, in constant memory.
//!
//! Three buffers go round: one is filled, one is with the cipher on a thread for blocking work, one is
//! written. They never grow, since a buffer that grows leaves a copy behind, and are wiped when dropped.

use std::io;
use std::panic::resume_unwind;

use futures::try_join;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::{JoinHandle, spawn_blocking};
use twinkeep_envelope::file::{BadChunk, Opener, SealError, Sealer, TAG_LEN};
use zeroize::Zeroizing;

/// What is done to each piece, in place. Consumed by the last one.
pub(super) trait Cipher: Sized + Send + 'static {
    /// Why a piece is refused; nothing of it is written then.
    type Refused: Send + 'static;

    /// Bytes that are written with a piece and are not plaintext.
    const ADDED_BYTES: usize;

    /// Bytes of a full piece as it is read.
    fn piece_bytes(&self) -> usize;
    /// A full piece that others follow.
    fn next(&mut self, piece: &mut Vec<u8>) -> Result<(), Self::Refused>;
    /// The last piece.
    fn last(self, piece: &mut Vec<u8>) -> Result<(), Self::Refused>;
}

impl Cipher for Sealer {
    type Refused = SealError;
    const ADDED_BYTES: usize = TAG_LEN;

    fn piece_bytes(&self) -> usize {
        self.chunk_size().bytes()
    }

    fn next(&mut self, piece: &mut Vec<u8>) -> Result<(), SealError> {
        Sealer::next(self, piece)
    }

    fn last(self, piece: &mut Vec<u8>) -> Result<(), SealError> {
        Sealer::last(self, piece)
    }
}

impl Cipher for Opener {
    type Refused = BadChunk;
    const ADDED_BYTES: usize = 0;

    fn piece_bytes(&self) -> usize {
        self.chunk_size().sealed_bytes()
    }

    fn next(&mut self, piece: &mut Vec<u8>) -> Result<(), BadChunk> {
        Opener::next(self, piece)
    }

    fn last(self, piece: &mut Vec<u8>) -> Result<(), BadChunk> {
        Opener::last(self, piece)
    }
}

/// Why the pump stopped.
#[derive(Debug)]
pub(super) enum Broken<E> {
    Read(io::Error),
    Write(io::Error),
    Refused(E),
    Stopped,
}

type Piece = Zeroizing<Vec<u8>>;

/// A piece with the cipher. The cipher comes back unless it was the last piece.
type Job<C> = JoinHandle<Result<(Option<C>, Piece), <C as Cipher>::Refused>>;

/// Pumps everything and flushes the writer. Returns the bytes of plaintext.
pub(super) async fn pump<C, R, W>(
    cipher: C,
    reader: &mut R,
    writer: &mut W,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<u64, Broken<C::Refused>>
where
    C: Cipher,
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    let full = cipher.piece_bytes();
    let room = || Zeroizing::new(Vec::with_capacity(full + TAG_LEN));
    let mut drain = Drain { writer, progress, bytes: 0 };
    let mut piece = fill(reader, room(), full).await.map_err(Broken::Read)?;
    let mut ahead = fill_behind(reader, &piece, room(), full).await.map_err(Broken::Read)?;
    let mut cipher = Some(cipher);
    let mut spare = room();
    // A piece is known to be the last one when there is nothing behind it.
    while !ahead.is_empty() {
        let job = begin(cipher.take().expect("it came back"), piece, false);
        let filling =
            async { fill_behind(reader, &ahead, spare, full).await.map_err(Broken::Read) };
        let (behind, (returned, written)) = try_join!(filling, drain.finish(job))?;
        (piece, ahead, spare, cipher) = (ahead, behind, written, returned);
    }
    drain.finish(begin(cipher.take().expect("it came back"), piece, true)).await?;
    drain.writer.flush().await.map_err(Broken::Write)?;
    Ok(drain.bytes)
}

/// Fills a piece, or as much of it as there is.
async fn fill<R>(reader: &mut R, mut piece: Piece, full: usize) -> io::Result<Piece>
where
    R: AsyncRead + Unpin,
{
    piece.resize(full, 0);
    let mut len = 0;
    while len < full {
        match reader.read(&mut piece[len..]).await? {
            0 => break,
            count => len += count,
        }
    }
    piece.truncate(len);
    Ok(piece)
}

/// Fills the piece behind another: empty behind a short one, which has met the end.
async fn fill_behind<R>(
    reader: &mut R,
    before: &Piece,
    mut piece: Piece,
    full: usize,
) -> io::Result<Piece>
where
    R: AsyncRead + Unpin,
{
    if before.len() < full {
        piece.clear();
        return Ok(piece);
    }
    fill(reader, piece, full).await
}

/// Gives a piece to the cipher, on another thread.
fn begin<C: Cipher>(mut cipher: C, mut piece: Piece, last: bool) -> Job<C> {
    spawn_blocking(move || {
        if last {
            cipher.last(&mut piece)?;
            return Ok((None, piece));
        }
        cipher.next(&mut piece)?;
        Ok((Some(cipher), piece))
    })
}

/// Where pieces go.
struct Drain<'a, W> {
    writer: &'a mut W,
    progress: &'a mut (dyn FnMut(u64) + Send),
    bytes: u64,
}

impl<W: AsyncWrite + Unpin> Drain<'_, W> {
    /// Waits for the cipher and writes what it made; gives cipher and buffer back.
    async fn finish<C: Cipher>(
        &mut self,
        job: Job<C>,
    ) -> Result<(Option<C>, Piece), Broken<C::Refused>> {
        let (cipher, piece) = match job.await {
            Ok(done) => done.map_err(Broken::Refused)?,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => return Err(Broken::Stopped),
            },
        };
        self.writer.write_all(&piece).await.map_err(Broken::Write)?;
        self.bytes += piece.len().saturating_sub(C::ADDED_BYTES) as u64;
        (self.progress)(self.bytes);
        Ok((cipher, piece))
    }
}
