//! From a message of the stream to the operation that it asks for, and back.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::CatchUnwind;
use tonic::Code;
use twinkeep_core::id::RequestId;
use twinkeep_proto::v1;
use twinkeep_proto::v1::crypto_stream_request::Body;
use twinkeep_proto::v1::crypto_stream_response::Result as Answer;

use super::Shared;
use crate::authorize::{Handle, Terms};
use crate::crypto::Crypto;
use crate::operation::{self as op, Operation};

/// A call that has begun. Never panics: a bug in one call is that call's failure.
pub(super) struct Begun {
    call_id: u64,
    answering: CatchUnwind<AssertUnwindSafe<Answering>>,
}

type Answering = Pin<Box<dyn Future<Output = v1::CryptoStreamResponse> + Send>>;

impl Future for Begun {
    type Output = v1::CryptoStreamResponse;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let call_id = self.call_id;
        let failed = |_| failed(call_id, Code::Internal, "the service failed; its log says how");
        self.answering.poll_unpin(context).map(|ended| ended.unwrap_or_else(failed))
    }
}

/// Refuses a call that never became one.
pub(super) fn failed(call_id: u64, code: Code, message: &str) -> v1::CryptoStreamResponse {
    let error = v1::CallError { code: code as i32, message: message.to_owned(), retry_after_ms: 0 };
    respond(call_id, None, Answer::Error(error))
}

fn respond(call_id: u64, id: Option<RequestId>, result: Answer) -> v1::CryptoStreamResponse {
    let request_id = id.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(id.as_bytes()));
    v1::CryptoStreamResponse { call_id, request_id, result: Some(result) }
}

/// Answers the call of one message. Boxed here, where the operation is known: a future that could be any of
/// them would be as large as the largest, and would be copied at each turn of the way.
fn call<O>(
    shared: &Arc<Shared>,
    call_id: u64,
    terms: Terms,
    message: O::Request,
    answer: fn(O::Answer) -> Answer,
) -> Answering
where
    O: Operation,
    Crypto: Handle<O>,
{
    let shared = Arc::clone(shared);
    Box::pin(async move {
        let Shared { session, crypto, .. } = &*shared;
        let (id, result) = session.call::<O, _>(crypto, terms, message).await;
        respond(call_id, Some(id), result.map_or_else(Answer::Error, answer))
    })
}

macro_rules! dispatch {
    ($($operation:ident)+) => {
        /// Begins the call of one message.
        pub(super) fn begin(
            shared: &Arc<Shared>,
            call_id: u64,
            terms: Terms,
            body: Option<Body>,
        ) -> Begun {
            let answering = match body {
                $(Some(Body::$operation(message)) => {
                    call::<op::$operation>(shared, call_id, terms, message, Answer::$operation)
                })+
                // Cancellations are not calls and do not get here.
                Some(Body::Cancel(_)) | None => {
                    Box::pin(std::future::ready(respond(call_id, None, unknown())))
                }
            };
            Begun { call_id, answering: AssertUnwindSafe(answering).catch_unwind() }
        }
    };
}

dispatch! {
    Encrypt Decrypt ReEncrypt GenerateDataKey GenerateDataKeyWithoutPlaintext Sign Verify
    GenerateMac VerifyMac GetPublicKey GenerateRandom
}

/// What a newer client asks for, an older node does not see.
fn unknown() -> Answer {
    let message = "the message holds no call that this node knows; set one field of `body`, or call a node of \
                   the client's version";
    let code = Code::Unimplemented as i32;
    Answer::Error(v1::CallError { code, message: message.to_owned(), retry_after_ms: 0 })
}
