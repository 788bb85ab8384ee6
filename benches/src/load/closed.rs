//! The closed loop: so many calls in flight, each answer followed by the next call.
//!
//! It finds the rate that a server can do. Its latencies flatter a server that stalls, since nothing is sent
//! while it does; [`super::open`] has honest ones.

use std::time::Instant;

use bytes::Bytes;
use futures::future::try_join_all;

use super::tally::Tally;
use super::wire::{CallError, Connection, FRAME_HEADER_BYTES, Prepared};

/// Tells an answer that is a refusal, by code and text.
pub(crate) type Refusal = fn(&[u8]) -> Option<(u32, String)>;

/// A call that is sent again and again.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// `/package.Service/Method`.
    pub(crate) method: &'static str,
    /// Framed requests, sent in turn.
    pub(crate) frames: Vec<Bytes>,
    /// Tells an answer that is a refusal all the same, by code and text: on a stream, and of a batch.
    pub(crate) refusal: Option<Refusal>,
}

impl Call {
    /// A call that always sends the same request.
    pub(crate) fn same(method: &'static str, frame: Bytes) -> Self {
        Self { method, frames: vec![frame], refusal: None }
    }
}

/// Keeps `in_flight` calls in flight over some connections until the window is over.
pub(crate) async fn run(
    connections: &[Connection],
    call: &Call,
    in_flight: usize,
    tally: &Tally<'_>,
) -> anyhow::Result<()> {
    let prepared: Vec<_> = connections
        .iter()
        .map(|connection| connection.prepare(call.method))
        .collect::<anyhow::Result<_>>()?;
    let lanes = (0..in_flight).map(|lane| {
        let prepared = &prepared[lane % prepared.len()];
        let frames = call.frames.iter().cycle().skip(lane).step_by(in_flight);
        one_after_the_other(prepared, call.refusal, frames, tally)
    });
    try_join_all(lanes).await.map(|_| ())
}

async fn one_after_the_other<'a>(
    prepared: &Prepared,
    refusal: Option<Refusal>,
    frames: impl Iterator<Item = &'a Bytes>,
    tally: &Tally<'_>,
) -> anyhow::Result<()> {
    let refused = |answer: Bytes| {
        let refused = refusal.and_then(|refusal| refusal(answer.get(FRAME_HEADER_BYTES..)?));
        refused.map_or(Ok(answer), |(code, message)| Err(CallError::Refused { code, message }))
    };
    for frame in frames {
        if tally.window().is_over() {
            break;
        }
        let sent = Instant::now();
        let outcome = prepared.call(frame.clone()).await.and_then(refused);
        tally.note(sent, sent, outcome)?;
    }
    Ok(())
}
