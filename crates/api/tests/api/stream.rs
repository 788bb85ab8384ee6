//! The crypto stream: many calls over one, each let in, audited and answered on its own.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use twinkeep_core::access::{Grant, Role, Scope};
use twinkeep_proto::v1;
use v1::crypto_stream_request::Body;
use v1::crypto_stream_response::Result as Answer;
use v1::{KeySpec, KeyUsage};

use crate::node::{MAIN, TestNode};

/// Longest time that any answer here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream as a client holds it.
struct Calls {
    outgoing: Option<mpsc::Sender<v1::CryptoStreamRequest>>,
    answers: Streaming<v1::CryptoStreamResponse>,
}

impl Calls {
    async fn open(node: &TestNode, caller: &str) -> Result<Self, Status> {
        let (outgoing, incoming) = mpsc::channel(2000);
        let opened = node.crypto(caller).crypto_stream(ReceiverStream::new(incoming)).await?;
        Ok(Self { outgoing: Some(outgoing), answers: opened.into_inner() })
    }

    async fn send(&self, call_id: u64, timeout_ms: u32, body: Body) {
        let (traceparent, body) = (format!("trace-{call_id}"), Some(body));
        let message = v1::CryptoStreamRequest { call_id, timeout_ms, traceparent, body };
        self.outgoing.as_ref().unwrap().send(message).await.unwrap();
    }

    async fn next(&mut self) -> Result<Option<v1::CryptoStreamResponse>, Status> {
        timeout(PATIENCE, self.answers.message()).await.expect("an answer in time")
    }

    async fn answer(&mut self) -> (u64, Answer) {
        let answer = self.next().await.unwrap().expect("the stream goes on");
        (answer.call_id, answer.result.unwrap())
    }

    async fn exchange(&mut self, body: Body) -> Answer {
        self.send(1, 0, body).await;
        self.answer().await.1
    }
}

fn encrypt(key_id: &str) -> Body {
    Body::Encrypt(v1::EncryptRequest {
        key_id: key_id.to_owned(),
        plaintext: b"hello"[..].into(),
        ..Default::default()
    })
}

/// An Encrypt that waits for a state that never comes.
fn waiting(key_id: &str) -> Body {
    let key_id = key_id.to_owned();
    Body::Encrypt(v1::EncryptRequest { key_id, min_state_index: 1 << 40, ..Default::default() })
}

fn sign(key_id: &str) -> Body {
    let message = b"message"[..].into();
    Body::Sign(v1::SignRequest { key_id: key_id.to_owned(), message, ..Default::default() })
}

fn code(answer: &Answer) -> Code {
    match answer {
        Answer::Error(error) => Code::from_i32(error.code),
        _ => Code::Ok,
    }
}

#[tokio::test]
async fn every_call_has_its_place_on_the_stream() {
    let node = TestNode::start().await;
    let aes = node.key(KeySpec::Aes256).await.key_id;
    let pair = node.key(KeySpec::EcP256).await.key_id;
    let hmac = node.key(KeySpec::Hmac256).await.key_id;
    let mut calls = Calls::open(&node, "key-user").await.unwrap();

    let Answer::Encrypt(sealed) = calls.exchange(encrypt(&aes)).await else { panic!() };
    let ciphertext = sealed.ciphertext;
    let decrypt = v1::DecryptRequest { ciphertext: ciphertext.clone(), ..Default::default() };
    let Answer::Decrypt(opened) = calls.exchange(Body::Decrypt(decrypt)).await else { panic!() };
    assert_eq!(opened.plaintext, b"hello"[..]);
    let destination_key_id = aes.clone();
    let moving = v1::ReEncryptRequest { ciphertext, destination_key_id, ..Default::default() };
    let moved = calls.exchange(Body::ReEncrypt(moving)).await;
    assert!(matches!(moved, Answer::ReEncrypt(_)));

    let ask = v1::GenerateDataKeyRequest { key_id: aes.clone(), ..Default::default() };
    let Answer::GenerateDataKey(data_key) = calls.exchange(Body::GenerateDataKey(ask)).await else {
        panic!()
    };
    assert_eq!(data_key.plaintext.len(), 32);
    let ask = v1::GenerateDataKeyWithoutPlaintextRequest { key_id: aes, ..Default::default() };
    let wrapped = calls.exchange(Body::GenerateDataKeyWithoutPlaintext(ask)).await;
    assert!(matches!(wrapped, Answer::GenerateDataKeyWithoutPlaintext(_)));

    let Answer::Sign(signed) = calls.exchange(sign(&pair)).await else { panic!() };
    let (message, signature) = (b"message"[..].into(), signed.signature);
    let ask = v1::VerifyRequest { key_id: pair.clone(), message, signature, ..Default::default() };
    let Answer::Verify(verified) = calls.exchange(Body::Verify(ask)).await else { panic!() };
    assert!(verified.valid);
    let ask = v1::GetPublicKeyRequest { key_id: pair, ..Default::default() };
    let public = calls.exchange(Body::GetPublicKey(ask)).await;
    assert!(matches!(public, Answer::GetPublicKey(_)));

    let message: bytes::Bytes = b"message"[..].into();
    let ask = v1::GenerateMacRequest {
        key_id: hmac.clone(),
        message: message.clone(),
        ..Default::default()
    };
    let Answer::GenerateMac(code) = calls.exchange(Body::GenerateMac(ask)).await else { panic!() };
    let ask = v1::VerifyMacRequest { key_id: hmac, message, mac: code.mac, ..Default::default() };
    let Answer::VerifyMac(verified) = calls.exchange(Body::VerifyMac(ask)).await else { panic!() };
    assert!(verified.valid);
    let ask = v1::GenerateRandomRequest { length_bytes: 16, ..Default::default() };
    let Answer::GenerateRandom(drawn) = calls.exchange(Body::GenerateRandom(ask)).await else {
        panic!()
    };
    assert_eq!(drawn.data.len(), 16);
}

#[tokio::test]
async fn quick_call_does_not_wait_behind_a_slow_one() {
    let node = TestNode::start().await;
    let slow = node.key_in(MAIN, KeySpec::Rsa4096, KeyUsage::SignVerify).await.key_id;
    let quick = node.key(KeySpec::Aes256).await.key_id;
    let mut calls = Calls::open(&node, "key-user").await.unwrap();
    for call_id in 0..20 {
        calls.send(call_id, 0, sign(&slow)).await;
    }
    calls.send(100, 0, encrypt(&quick)).await;
    let mut order = Vec::new();
    for _ in 0..21 {
        let (call_id, answer) = calls.answer().await;
        assert_eq!(code(&answer), Code::Ok);
        order.push(call_id);
    }
    let place = order.iter().position(|call_id| *call_id == 100).unwrap();
    assert!(place < 10, "the quick call was answered as number {place} of {order:?}");
}

#[tokio::test]
async fn each_call_demands_its_own_permission_and_leaves_its_own_record() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let before = node.recorded().len();
    let mut calls = Calls::open(&node, "key-admin").await.unwrap();
    calls.send(7, 0, encrypt(&key_id)).await;
    let refused = calls.next().await.unwrap().unwrap();
    assert_eq!(code(&refused.result.unwrap()), Code::PermissionDenied);

    node.bind("key-admin", &[Grant { role: Role::KeyUser, scope: Scope::Cluster }]);
    calls.send(8, 0, encrypt(&key_id)).await;
    let allowed = calls.next().await.unwrap().unwrap();
    assert_eq!(code(&allowed.result.unwrap()), Code::Ok);
    node.bind("key-admin", &[]);
    calls.send(9, 0, encrypt(&key_id)).await;
    assert_eq!(code(&calls.answer().await.1), Code::PermissionDenied);

    let records = node.recorded().split_off(before);
    let told: Vec<_> =
        records.iter().map(|call| (call.operation.as_str(), call.outcome.as_str())).collect();
    let denied = ("Encrypt", "PERMISSION_DENIED");
    assert_eq!(told, [("CryptoStream", "OK"), denied, ("Encrypt", "OK"), denied]);
    assert_eq!(records[1].client_trace.as_ref().unwrap().as_str(), "trace-7");
    assert_eq!(records[1].request.as_bytes()[..], refused.request_id[..]);
    assert_eq!(records[2].request.as_bytes()[..], allowed.request_id[..]);
}

#[tokio::test]
async fn who_may_not_use_keys_opens_no_stream() {
    let node = TestNode::start().await;
    for (caller, expected) in [("admin", Code::PermissionDenied), ("", Code::Unauthenticated)] {
        let refused = Calls::open(&node, caller).await.err().unwrap();
        assert_eq!(refused.code(), expected, "{caller}");
    }
    let last = node.recorded().pop().unwrap();
    assert_eq!(
        (last.operation.as_str(), last.outcome.as_str()),
        ("CryptoStream", "UNAUTHENTICATED")
    );
}

#[tokio::test]
async fn cancelled_call_is_answered_and_recorded_as_cancelled() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut calls = Calls::open(&node, "key-user").await.unwrap();
    calls.send(1, 60_000, waiting(&key_id)).await;
    calls.send(2, 60_000, encrypt(&key_id)).await;
    assert_eq!(calls.answer().await.0, 2);
    // A call that was answered, and one that never was, are not there to be cancelled.
    for call_id in [2, 77, 1] {
        calls.send(call_id, 0, Body::Cancel(v1::CancelCall {})).await;
    }
    let (call_id, answer) = calls.answer().await;
    assert_eq!((call_id, code(&answer)), (1, Code::Cancelled));
    calls.outgoing = None;
    assert!(calls.next().await.unwrap().is_none(), "each call has one answer");
    assert_eq!(node.recorded().pop().unwrap().outcome.as_str(), "CANCELLED");
}

#[tokio::test]
async fn each_call_has_its_own_deadline() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut calls = Calls::open(&node, "key-user").await.unwrap();
    calls.send(1, 60_000, waiting(&key_id)).await;
    calls.send(2, 50, waiting(&key_id)).await;
    let (call_id, answer) = calls.answer().await;
    assert_eq!((call_id, code(&answer)), (2, Code::Unavailable));
}

#[tokio::test]
async fn node_reads_no_further_than_the_calls_it_works_on() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut calls = Calls::open(&node, "key-user").await.unwrap();
    for call_id in 0..256 {
        calls.send(call_id, 1500, waiting(&key_id)).await;
    }
    calls.send(1000, 0, encrypt(&key_id)).await;
    let early = timeout(Duration::from_millis(300), calls.answers.message()).await;
    assert!(early.is_err(), "a call beyond the bound was read");
    let mut answered = Vec::new();
    for _ in 0..257 {
        answered.push(calls.answer().await.0);
    }
    answered.sort_unstable();
    assert!(answered.into_iter().eq((0..256).chain([1000])), "each call has one answer");
}

/// Calls that are given up make room for others, also when as many are open as may be.
#[tokio::test]
async fn full_stream_still_reads_cancellations() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut calls = Calls::open(&node, "key-user").await.unwrap();
    for call_id in 0..256 {
        calls.send(call_id, 60_000, waiting(&key_id)).await;
    }
    for call_id in 0..256 {
        calls.send(call_id, 0, Body::Cancel(v1::CancelCall {})).await;
    }
    calls.send(1000, 0, encrypt(&key_id)).await;
    let mut ended = Vec::new();
    for _ in 0..257 {
        let (call_id, answer) = calls.answer().await;
        ended.push((call_id, code(&answer)));
    }
    ended.sort_unstable_by_key(|(call_id, _)| *call_id);
    assert!(ended[..256].iter().all(|(_, code)| *code == Code::Cancelled));
    assert_eq!(ended[256], (1000, Code::Ok));
}

#[tokio::test]
async fn name_of_an_open_call_given_again_ends_the_stream_after_the_open_answers() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut calls = Calls::open(&node, "key-user").await.unwrap();
    calls.send(1, 200, waiting(&key_id)).await;
    calls.send(1, 200, waiting(&key_id)).await;
    assert_eq!(calls.answer().await.0, 1);
    let ended = calls.next().await.unwrap_err();
    assert_eq!(ended.code(), Code::InvalidArgument);
    assert!(ended.message().contains("call_id 1"), "{}", ended.message());
}

#[tokio::test]
async fn message_without_a_call_is_refused_alone() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut calls = Calls::open(&node, "key-user").await.unwrap();
    let empty = v1::CryptoStreamRequest { call_id: 5, ..Default::default() };
    calls.outgoing.as_ref().unwrap().send(empty).await.unwrap();
    assert_eq!(code(&calls.answer().await.1), Code::Unimplemented);
    assert_eq!(code(&calls.exchange(encrypt(&key_id)).await), Code::Ok);
}

#[tokio::test]
async fn stream_ends_when_the_certificate_does() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut calls = Calls::open(&node, "key-user").await.unwrap();
    assert_eq!(code(&calls.exchange(encrypt(&key_id)).await), Code::Ok);
    node.clock.advance(Duration::from_hours(2));
    assert_eq!(code(&calls.exchange(encrypt(&key_id)).await), Code::Unauthenticated);
    assert_eq!(calls.next().await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn idle_stream_ends_when_the_certificate_does() {
    let node = TestNode::start().await;
    let mut calls = Calls::open(&node, "key-user").await.unwrap();
    node.clock.advance(Duration::from_hours(2));
    assert_eq!(calls.next().await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn stopping_node_answers_what_it_has_read_and_ends_the_stream() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut calls = Calls::open(&node, "key-user").await.unwrap();
    calls.send(1, 500, waiting(&key_id)).await;
    assert_eq!(
        code(&{
            calls.send(2, 0, encrypt(&key_id)).await;
            calls.answer().await.1
        }),
        Code::Ok
    );
    node.stop.cancel();
    assert_eq!(calls.answer().await.0, 1);
    let ended = calls.next().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(ended.message().contains("shutting down"), "{}", ended.message());
}

#[tokio::test]
async fn client_that_goes_away_leaves_a_record_of_each_open_call() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut calls = Calls::open(&node, "key-user").await.unwrap();
    for call_id in 0..10 {
        calls.send(call_id, 60_000, waiting(&key_id)).await;
    }
    calls.send(10, 0, encrypt(&key_id)).await;
    assert_eq!(calls.answer().await.0, 10);
    let before = node.recorded().len();
    drop(calls);
    let began = std::time::Instant::now();
    while node.recorded().len() < before + 10 && began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let records = node.recorded().split_off(before);
    assert!(records.iter().all(|call| call.outcome.as_str() == "CANCELLED"));
    assert_eq!(records.len(), 10);
}

#[tokio::test]
async fn one_callers_open_calls_are_bounded_over_all_streams_and_others_are_served() {
    let node = TestNode::start().await;
    let key_id = node.key(KeySpec::Aes256).await.key_id;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let calls = Calls::open(&node, "key-user").await.unwrap();
        for call_id in 0..256 {
            calls.send(call_id, 20_000, waiting(&key_id)).await;
        }
        streams.push(calls);
    }
    let mut last = Calls::open(&node, "key-user").await.unwrap();
    let mut call_id = 0;
    // The streams are read side by side; once all calls are open, the next is refused.
    let refused = loop {
        call_id += 1;
        last.send(call_id, 0, encrypt(&key_id)).await;
        if let (_, Answer::Error(error)) = last.answer().await {
            break error;
        }
    };
    assert_eq!(Code::from_i32(refused.code), Code::ResourceExhausted);
    assert!(refused.retry_after_ms > 0 && refused.message.contains("1024"), "{refused:?}");
    let request = v1::EncryptRequest { key_id: key_id.clone(), ..Default::default() };
    let single = node.crypto("key-user").encrypt(request).await.unwrap_err();
    assert_eq!(single.code(), Code::ResourceExhausted);
    assert!(single.metadata().contains_key("grpc-retry-pushback-ms"));

    node.bind("other", &[Grant { role: Role::KeyUser, scope: Scope::Cluster }]);
    let mut other = Calls::open(&node, "other").await.unwrap();
    assert_eq!(code(&other.exchange(encrypt(&key_id)).await), Code::Ok);
    streams.pop();
    loop {
        call_id += 1;
        last.send(call_id, 0, encrypt(&key_id)).await;
        if code(&last.answer().await.1) == Code::Ok {
            break;
        }
    }
}
