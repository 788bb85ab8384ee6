use serde::Deserialize;

use super::*;
use crate::OpenKey;

#[derive(Deserialize)]
struct Vectors {
    data_key: String,
    wrapped_key: String,
    salt: String,
    iv: String,
    messages: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    context: String,
    plaintext: String,
    blob: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../tests/vectors/message.json")).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

fn key() -> OpenKey {
    OpenKey::from_slice(&bytes(&vectors().data_key)).unwrap()
}

fn sealed() -> Vec<u8> {
    let wrapped = bytes(&vectors().wrapped_key);
    let wrapped = Wrapped::new(&wrapped).unwrap();
    seal(&key(), &wrapped, &Context::from_raw(b"order 7").unwrap(), b"a message").unwrap()
}

fn opened(blob: &[u8]) -> Option<Vec<u8>> {
    let context = Context::from_raw(b"order 7").unwrap();
    let message = Message::parse(blob).ok()?;
    message.open(&key(), &context).ok().map(|mut plaintext| std::mem::take(&mut *plaintext))
}

#[test]
fn published_vectors_hold_in_both_directions() {
    let given = vectors();
    let wrapped = bytes(&given.wrapped_key);
    for vector in given.messages {
        let context = bytes(&vector.context);
        let context = Context::from_raw(&context).unwrap();
        let draw = Draw {
            salt: bytes(&given.salt).try_into().unwrap(),
            iv: bytes(&given.iv).try_into().unwrap(),
        };
        let plaintext = bytes(&vector.plaintext);
        let blob = seal_with(&key(), &Wrapped::new(&wrapped).unwrap(), &context, &plaintext, draw)
            .unwrap();
        assert_eq!(hex::encode(&blob), vector.blob, "{}", vector.name);
        let message = Message::parse(&blob).unwrap();
        assert_eq!(message.wrapped_key(), wrapped, "{}", vector.name);
        assert_eq!(*message.open(&key(), &context).unwrap(), plaintext, "{}", vector.name);
    }
}

#[test]
fn every_bit_flip_and_every_cut_is_refused() {
    let blob = sealed();
    assert_eq!(opened(&blob).as_deref(), Some(b"a message".as_slice()));
    for bit in 0..blob.len() * 8 {
        let mut damaged = blob.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(opened(&damaged), None, "bit {bit}");
    }
    for len in 0..blob.len() {
        assert_eq!(opened(&blob[..len]), None, "cut to {len}");
    }
    assert_eq!(opened(&[&*blob, &[0]].concat()), None);
}

#[test]
fn message_does_not_open_with_another_key_or_context() {
    let blob = sealed();
    let message = Message::parse(&blob).unwrap();
    let right = Context::from_raw(b"order 7").unwrap();
    let other = OpenKey::from_slice(&[9; 32]).unwrap();
    assert_eq!(message.open(&other, &right), Err(InvalidMessage));
    assert_eq!(message.open(&key(), &Context::NONE), Err(InvalidMessage));
}

#[test]
fn wrapped_key_of_another_message_is_refused_before_any_key_is_used() {
    let mut blob = sealed();
    let len = vectors().wrapped_key.len() / 2;
    let at = blob.len() - len;
    blob[at..].fill(7);
    assert_eq!(Message::parse(&blob).err(), Some(NoMessage::WrappedKey));
}

#[test]
fn customer_ciphertext_is_no_message() {
    let mut blob = sealed();
    blob[0] = 0xcb;
    assert_eq!(Message::parse(&blob).err(), Some(NoMessage::Prefix(Malformed::Magic)));
}

#[test]
fn wrapped_key_without_bytes_or_over_the_limit_is_refused() {
    assert!(Wrapped::new(&[]).is_none());
    assert!(Wrapped::new(&[0; WRAPPED_BYTES_MAX]).is_some());
    assert!(Wrapped::new(&[0; WRAPPED_BYTES_MAX + 1]).is_none());
}
