//! The calls of a stream that could not be answered at once.
//!
//! Each is a task, so that it goes on while its caller does not read. They are at most
//! [`STREAM_CALLS_MAX`](crate::limits::STREAM_CALLS_MAX): the driver reads no further then. Dropping them
//! all ends the tasks; each leaves its audit record.

use std::collections::HashMap;
use std::task::{Context, Poll};

use futures::future::{AbortHandle, Abortable, Aborted};
use tokio::task::JoinSet;
use tonic::Code;
use twinkeep_proto::v1::CryptoStreamResponse;

use super::dispatch::{self, Begun};
use crate::metrics::Present;

/// The calls that are under way.
#[derive(Default)]
pub(super) struct Open {
    tasks: JoinSet<(u64, Result<CryptoStreamResponse, Aborted>)>,
    handles: HashMap<u64, AbortHandle>,
}

impl Open {
    pub(super) fn len(&self) -> usize {
        self.handles.len()
    }

    pub(super) fn contains(&self, call_id: u64) -> bool {
        self.handles.contains_key(&call_id)
    }

    /// Lets a call go on as a task.
    pub(super) fn spawn(&mut self, call_id: u64, call: Begun, counted: Present) {
        let (handle, registration) = AbortHandle::new_pair();
        let call = Abortable::new(call, registration);
        self.tasks.spawn(async move {
            let _counted = counted;
            (call_id, call.await)
        });
        self.handles.insert(call_id, handle);
    }

    /// Gives a call up, if it is open: it is then answered as cancelled, unless its answer is there already.
    pub(super) fn cancel(&self, call_id: u64) {
        if let Some(handle) = self.handles.get(&call_id) {
            handle.abort();
        }
    }

    /// Returns the next answer. Pending also when no call is open.
    pub(super) fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<CryptoStreamResponse> {
        if self.handles.is_empty() {
            return Poll::Pending;
        }
        match self.tasks.poll_join_next(context) {
            Poll::Ready(Some(ended)) => {
                // `Begun` catches panics, and nobody else ends the tasks.
                let (call_id, result) = ended.expect("a call's task ends with its answer");
                self.handles.remove(&call_id);
                Poll::Ready(result.unwrap_or_else(|_| cancelled(call_id)))
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

fn cancelled(call_id: u64) -> CryptoStreamResponse {
    dispatch::failed(call_id, Code::Cancelled, "the caller gave the call up; it may have been made")
}
