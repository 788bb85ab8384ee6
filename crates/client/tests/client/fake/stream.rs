//! The crypto streams of a node that behaves as a test tells it to.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use twinkeep_client::v1;
use twinkeep_client::v1::crypto_stream_request::Body;
use twinkeep_client::v1::crypto_stream_response::Result as Given;
use twinkeep_proto::metadata;

use super::{Seen, State, Way, busy, data_key, decrypted, encrypted};

pub(crate) type CallAnswers =
    Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::CryptoStreamResponse, Status>> + Send>>;

/// What a node does with streams; what it does with the calls on them is its way.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Streams {
    /// Takes them.
    Take,
    /// Takes none.
    Refuse(Code),
    /// Takes none now, and says in how many milliseconds to come again, if not 0.
    Busy(u32),
    /// Opens them and never answers.
    Mute,
    /// Gathers so many calls and answers them last first.
    Backwards(usize),
    /// Answers each call twice, and another one that was not made.
    Twice,
    /// Ends them after so many calls, none of which it answers.
    BreakAfter(usize),
}

/// What came and went.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) opened: AtomicUsize,
    pub(crate) closed: AtomicUsize,
    pub(crate) calls: AtomicUsize,
    pub(crate) cancelled: AtomicUsize,
    pub(crate) open: AtomicUsize,
    pub(crate) open_most: AtomicUsize,
    pub(crate) probes: AtomicUsize,
}

impl Tally {
    fn begin(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.open_most.fetch_max(open, Ordering::SeqCst);
    }
}

pub(crate) fn count(number: &AtomicUsize) -> usize {
    number.load(Ordering::SeqCst)
}

type Sender = mpsc::Sender<Result<v1::CryptoStreamResponse, Status>>;
type Calls = Streaming<v1::CryptoStreamRequest>;

/// Begins to serve a stream.
pub(super) fn serve(state: Arc<State>, calls: Calls) -> Result<CallAnswers, Status> {
    state.tally.opened.fetch_add(1, Ordering::SeqCst);
    let streams = *state.streams.lock().unwrap();
    match streams {
        Streams::Refuse(code) => return Err(Status::new(code, "no streams, as the test says")),
        Streams::Busy(after_ms) => return Err(busy(after_ms)),
        _ => {}
    }
    let (sender, receiver) = mpsc::channel(256);
    tokio::spawn(async move {
        let server = Server { state: Arc::clone(&state), sender, open: HashMap::new() };
        server.run(streams, calls).await;
        state.tally.closed.fetch_add(1, Ordering::SeqCst);
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

struct Server {
    state: Arc<State>,
    sender: Sender,
    open: HashMap<u64, oneshot::Sender<()>>,
}

impl Server {
    async fn run(mut self, streams: Streams, mut calls: Calls) {
        let mut gathered = Vec::new();
        while let Ok(Some(call)) = calls.message().await {
            let id = call.call_id;
            match (call.body.clone().unwrap(), streams) {
                (Body::Cancel(_), _) => self.cancel(id),
                (_, Streams::Mute) => {}
                (_, Streams::BreakAfter(number)) => {
                    gathered.push(call);
                    if gathered.len() == number {
                        let status = Status::unavailable("broken, as the test says");
                        self.sender.send(Err(status)).await.unwrap();
                        return;
                    }
                }
                (_, Streams::Backwards(number)) => {
                    gathered.push(call);
                    if gathered.len() == number {
                        for call in gathered.drain(..).rev() {
                            let given = answer(call.body.unwrap(), Way::Answer);
                            self.sender.send(Ok(respond(call.call_id, given))).await.unwrap();
                        }
                    }
                }
                (body, Streams::Twice) => {
                    let given = answer(body, Way::Answer);
                    for id in [id, id, id + (1 << 40)] {
                        self.sender.send(Ok(respond(id, given.clone()))).await.unwrap();
                    }
                }
                (_, Streams::Take | Streams::Refuse(_) | Streams::Busy(_)) => self.take(call),
            }
        }
    }

    fn take(&mut self, call: v1::CryptoStreamRequest) {
        let (state, sender) = (Arc::clone(&self.state), self.sender.clone());
        state.tally.begin();
        let (cancel, cancelled) = oneshot::channel();
        let id = call.call_id;
        tokio::spawn(async move {
            let body = call.body.unwrap();
            let given = tokio::select! {
                biased;
                taken = state.take(seen(&body, call.traceparent)) => match taken {
                    Ok(way) => with_index(answer(body, way), state.state_index()),
                    Err(status) => refused(&status),
                },
                Ok(()) = cancelled => refused(&Status::cancelled("given up")),
            };
            state.tally.open.fetch_sub(1, Ordering::SeqCst);
            sender.send(Ok(respond(id, given))).await.ok();
        });
        self.open.retain(|_, cancel| !cancel.is_closed());
        self.open.insert(id, cancel);
    }

    fn cancel(&mut self, id: u64) {
        self.state.tally.cancelled.fetch_add(1, Ordering::SeqCst);
        // A call that was answered meanwhile stays answered.
        if let Some(cancel) = self.open.remove(&id) {
            cancel.send(()).ok();
        }
    }
}

fn respond(call_id: u64, given: Given) -> v1::CryptoStreamResponse {
    v1::CryptoStreamResponse { call_id, request_id: vec![7; 16].into(), result: Some(given) }
}

fn refused(status: &Status) -> Given {
    let after = status.metadata().get(metadata::PUSHBACK_MS);
    Given::Error(v1::CallError {
        code: status.code() as i32,
        message: status.message().to_owned(),
        retry_after_ms: after.map_or(0, |after| after.to_str().unwrap().parse().unwrap()),
    })
}

fn answer(body: Body, way: Way) -> Given {
    match body {
        Body::Encrypt(ask) => Given::Encrypt(encrypted(ask, way)),
        Body::Decrypt(ask) => Given::Decrypt(decrypted(ask)),
        Body::GenerateDataKey(_) => Given::GenerateDataKey(data_key()),
        _ => refused(&Status::unimplemented("not in these tests")),
    }
}

fn with_index(given: Given, state_index: u64) -> Given {
    match given {
        Given::Encrypt(answer) => Given::Encrypt(v1::EncryptResponse { state_index, ..answer }),
        other => other,
    }
}

fn seen(body: &Body, traceparent: String) -> Seen {
    let (method, min_state_index) = match body {
        Body::Encrypt(ask) => ("encrypt", ask.min_state_index),
        Body::Decrypt(ask) => ("decrypt", ask.min_state_index),
        Body::GenerateDataKey(ask) => ("generate_data_key", ask.min_state_index),
        _ => ("other", 0),
    };
    Seen { method, streamed: true, traceparent, min_state_index, token: Vec::new() }
}
