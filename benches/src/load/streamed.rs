//! Messages over one bidirectional stream: so many in flight, each batch of answers followed by as many
//! messages, in one write.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::Context;
use bytes::{Bytes, BytesMut};

use super::closed::Call;
use super::tally::Tally;
use super::wire::{CallError, Connection, FRAME_HEADER_BYTES};

/// Keeps `in_flight` messages in flight on one stream until the window is over.
///
/// Latencies assume that answers come in the order of the messages, or nearly.
pub(crate) async fn run(
    connection: &Connection,
    call: &Call,
    in_flight: usize,
    tally: &Tally<'_>,
) -> anyhow::Result<()> {
    let (mut send, mut answers) = connection.prepare(call.method)?.stream().await?;
    let mut messages = call.frames.iter().cycle();
    let mut sent = VecDeque::with_capacity(in_flight);
    let mut unread = BytesMut::new();
    let mut missing = in_flight;
    while !tally.window().is_over() {
        let mut piece = BytesMut::new();
        for message in messages.by_ref().take(missing) {
            piece.extend_from_slice(message);
        }
        sent.extend(std::iter::repeat_n(Instant::now(), missing));
        send.send_data(piece.freeze(), false)?;
        missing = 0;
        while missing == 0 {
            let piece = answers.data().await.context("the server ended the stream")??;
            answers.flow_control().release_capacity(piece.len())?;
            unread.extend_from_slice(&piece);
            while let Some(message) = next_message(&mut unread) {
                let at = sent.pop_front().context("more answers than messages")?;
                tally.note(at, at, outcome(call, &message))?;
                missing += 1;
            }
        }
    }
    send.send_data(Bytes::new(), true)?;
    Ok(())
}

fn outcome(call: &Call, message: &[u8]) -> Result<(), CallError> {
    match call.refusal.and_then(|refusal| refusal(message)) {
        None => Ok(()),
        Some((code, message)) => Err(CallError::Refused { code, message }),
    }
}

/// Takes a whole message off the front, without its frame header.
fn next_message(unread: &mut BytesMut) -> Option<BytesMut> {
    let header: &[u8; 4] = unread.get(1..FRAME_HEADER_BYTES)?.try_into().ok()?;
    let len = usize::try_from(u32::from_be_bytes(*header)).ok()?;
    if unread.len() < FRAME_HEADER_BYTES + len {
        return None;
    }
    let mut message = unread.split_to(FRAME_HEADER_BYTES + len);
    Some(message.split_off(FRAME_HEADER_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_message_waits_for_its_rest() {
        let mut unread = BytesMut::from(&[0, 0, 0, 0, 2, 7, 7, 0, 0, 0, 0, 3, 9][..]);
        assert_eq!(next_message(&mut unread).unwrap(), [7, 7][..]);
        assert!(next_message(&mut unread).is_none());
        unread.extend_from_slice(&[9, 9]);
        assert_eq!(next_message(&mut unread).unwrap(), [9, 9, 9][..]);
        assert!(unread.is_empty());
    }
}
