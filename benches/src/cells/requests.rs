//! The requests that are measured, with the checksums that the client library sends.

use bytes::Bytes;
use prost::Message as _;
use twinkeep_client::v1;
use v1::crypto_stream_request::Body;
use v1::crypto_stream_response::Result as Answer;

use crate::load::closed::Call;
use crate::load::wire::frame;
use crate::servers::bare::MESSAGE;

/// Methods as the wire names them.
pub(crate) const ENCRYPT: &str = "/twinkeep.v1.CryptoService/Encrypt";
pub(crate) const ENCRYPT_BATCH: &str = "/twinkeep.v1.CryptoService/EncryptBatch";
pub(crate) const DECRYPT: &str = "/twinkeep.v1.CryptoService/Decrypt";
pub(crate) const SIGN: &str = "/twinkeep.v1.CryptoService/Sign";
pub(crate) const GENERATE_DATA_KEY: &str = "/twinkeep.v1.CryptoService/GenerateDataKey";
pub(crate) const CRYPTO_STREAM: &str = "/twinkeep.v1.CryptoService/CryptoStream";
pub(crate) const CREATE_KEY: &str = "/twinkeep.v1.KeyService/CreateKey";

/// Names for calls on a stream: more than can be open, so that none is given again too soon.
const CALL_IDS: u64 = 4096;
/// What the field with an error opens with: number 15, a message.
const ERROR_TAG: u8 = 0x7a;
/// What a result of a batch opens with, and an answer within it.
const RESULT_TAG: u8 = 0x0a;

/// Asks to encrypt so many bytes.
pub(crate) fn encrypt(key_id: &str, bytes: usize) -> v1::EncryptRequest {
    let plaintext = Bytes::from(vec![0x5a; bytes]);
    v1::EncryptRequest {
        key_id: key_id.to_owned(),
        plaintext_crc32c: Some(crc32c::crc32c(&plaintext)),
        plaintext,
        ..v1::EncryptRequest::default()
    }
}

/// Asks to encrypt so many bytes, so many times.
pub(crate) fn encrypt_batch(key_id: &str, bytes: usize, items: usize) -> v1::EncryptBatchRequest {
    let items = std::iter::repeat_with(|| encrypt(key_id, bytes)).take(items).collect();
    v1::EncryptBatchRequest { items, ..v1::EncryptBatchRequest::default() }
}

/// Asks to decrypt.
pub(crate) fn decrypt(ciphertext: Bytes) -> v1::DecryptRequest {
    v1::DecryptRequest {
        ciphertext_crc32c: Some(crc32c::crc32c(&ciphertext)),
        ciphertext,
        ..v1::DecryptRequest::default()
    }
}

/// Asks to sign 32 bytes.
pub(crate) fn sign(key_id: &str, algorithm: v1::Algorithm) -> v1::SignRequest {
    v1::SignRequest {
        key_id: key_id.to_owned(),
        message: Bytes::from_static(MESSAGE),
        message_crc32c: Some(crc32c::crc32c(MESSAGE)),
        algorithm: algorithm.into(),
        ..v1::SignRequest::default()
    }
}

/// Asks for a data key of 32 bytes.
pub(crate) fn generate_data_key(key_id: &str) -> v1::GenerateDataKeyRequest {
    v1::GenerateDataKeyRequest {
        key_id: key_id.to_owned(),
        length_bytes: 32,
        ..v1::GenerateDataKeyRequest::default()
    }
}

/// A call that is made over and over on one stream. There are more names for calls than calls can be open.
pub(crate) fn on_stream(body: &Body) -> Call {
    let message = |call_id| v1::CryptoStreamRequest {
        call_id,
        body: Some(body.clone()),
        ..v1::CryptoStreamRequest::default()
    };
    let frames = (1..=CALL_IDS).map(|call_id| frame(&message(call_id))).collect();
    Call { method: CRYPTO_STREAM, frames, refusal: Some(stream_refusal) }
}

/// Tells an answer on a stream that is an error, by its code and text.
///
/// Fields come in the order of their numbers, so a look at the third one is enough.
pub(crate) fn stream_refusal(message: &[u8]) -> Option<(u32, String)> {
    let mut rest = message;
    if let Some(call_id) = rest.strip_prefix(&[0x08]) {
        let len = call_id.iter().position(|byte| byte & 0x80 == 0)? + 1;
        rest = call_id.get(len..)?;
    }
    if let Some(request_id) = rest.strip_prefix(&[0x12]) {
        rest = request_id.get(1 + usize::from(*request_id.first()?)..)?;
    }
    if rest.first() != Some(&ERROR_TAG) {
        return None;
    }
    let answer = v1::CryptoStreamResponse::decode(message).ok()?;
    match answer.result? {
        Answer::Error(error) => Some((u32::try_from(error.code).unwrap_or(2), error.message)),
        _ => None,
    }
}

/// Tells an answer to a batch in which an item was refused, by the code and text of the first one.
///
/// Decoding all items would cost the load generator as much as sending them: only their first bytes are looked at.
pub(crate) fn batch_refusal(message: &[u8]) -> Option<(u32, String)> {
    let mut rest = message;
    // Results have the number 1 and are messages; so has the answer within a result, and an error the number 2.
    while let Some(result) = rest.strip_prefix(&[RESULT_TAG]) {
        let (len, body) = length(result)?;
        if body.first() != Some(&RESULT_TAG) {
            return Some(first_error(message));
        }
        rest = body.get(len..)?;
    }
    None
}

/// Reads a length, as protobuf writes it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut rest = bytes;
    let len = prost::encoding::decode_varint(&mut rest).ok()?;
    Some((usize::try_from(len).ok()?, rest))
}

fn first_error(message: &[u8]) -> (u32, String) {
    use v1::encrypt_result::Result as Item;
    let answer = v1::EncryptBatchResponse::decode(message).unwrap_or_default();
    let error = answer.results.into_iter().find_map(|result| match result.result {
        Some(Item::Error(error)) => Some((u32::try_from(error.code).unwrap_or(2), error.message)),
        _ => None,
    });
    error.unwrap_or((2, "an item has no result".to_owned()))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn error_on_a_stream_is_told_from_an_answer() {
        let answer = |result| v1::CryptoStreamResponse {
            call_id: 300,
            request_id: Bytes::from_static(&[7; 16]),
            result: Some(result),
        };
        let sealed = answer(Answer::Encrypt(v1::EncryptResponse::default()));
        assert_eq!(stream_refusal(&sealed.encode_to_vec()), None);
        let error = v1::CallError { code: 8, message: "busy".to_owned(), retry_after_ms: 1 };
        let refused = answer(Answer::Error(error)).encode_to_vec();
        assert_eq!(stream_refusal(&refused), Some((8, "busy".to_owned())));
    }

    #[test]
    fn refused_item_of_a_batch_is_told_from_answers() {
        use v1::encrypt_result::Result as Item;
        let batch = |results: Vec<Option<Item>>| {
            let results = results.into_iter().map(|result| v1::EncryptResult { result }).collect();
            v1::EncryptBatchResponse { results, state_index: 7 }.encode_to_vec()
        };
        let ciphertext = Bytes::from(vec![1; 200]);
        let sealed = || {
            Some(Item::Ok(v1::EncryptResponse {
                ciphertext: ciphertext.clone(),
                ..Default::default()
            }))
        };
        assert_eq!(batch_refusal(&batch(vec![sealed(), sealed()])), None);
        let busy = v1::ItemError { code: 8, message: "busy".to_owned() };
        let refused = batch(vec![sealed(), Some(Item::Error(busy)), sealed()]);
        assert_eq!(batch_refusal(&refused), Some((8, "busy".to_owned())));
        assert!(batch_refusal(&batch(vec![sealed(), None])).is_some());
    }
}
