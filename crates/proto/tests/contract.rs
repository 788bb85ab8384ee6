//! What the proto files promise as a whole.

#![expect(clippy::unwrap_used, reason = "an unwrap that fails is a test that fails")]

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};
use twinkeep_proto::{FILE_DESCRIPTOR_SET, v1};

fn ours() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    set.file.into_iter().filter(|file| file.package() == "twinkeep.v1").collect()
}

fn has_comment(file: &FileDescriptorProto, path: &[i32]) -> bool {
    let info = file.source_code_info.as_ref().unwrap();
    info.location.iter().any(|at| at.path == path && !at.leading_comments().trim().is_empty())
}

fn uncommented(file: &FileDescriptorProto) -> Vec<String> {
    let mut bare = Vec::new();
    let mut check = |path: &[i32], name: String| {
        if !has_comment(file, path) {
            bare.push(name);
        }
    };
    for (m, message) in (0..).zip(&file.message_type) {
        check(&[4, m], message.name().to_owned());
        for (f, field) in (0..).zip(&message.field) {
            check(&[4, m, 2, f], format!("{}.{}", message.name(), field.name()));
        }
    }
    for (e, set) in (0..).zip(&file.enum_type) {
        check(&[5, e], set.name().to_owned());
        for (v, value) in (0..).zip(&set.value) {
            check(&[5, e, 2, v], value.name().to_owned());
        }
    }
    for (s, service) in (0..).zip(&file.service) {
        check(&[6, s], service.name().to_owned());
        for (m, method) in (0..).zip(&service.method) {
            check(&[6, s, 2, m], method.name().to_owned());
        }
    }
    bare
}

#[test]
fn every_service_call_message_field_and_value_has_a_comment() {
    let bare: Vec<_> = ours().iter().flat_map(uncommented).collect();
    assert!(bare.is_empty(), "without a comment: {bare:?}");
}

#[test]
fn zero_of_every_enum_is_unspecified() {
    for set in ours().iter().flat_map(|file| &file.enum_type) {
        let zero = set.value.iter().find(|value| value.number() == 0).unwrap();
        assert!(zero.name().ends_with("_UNSPECIFIED"), "{}", zero.name());
    }
}

fn field_number(message: &DescriptorProto, name: &str) -> Option<i32> {
    message.field.iter().find(|field| field.name() == name).map(|field| field.number())
}

#[test]
fn every_request_and_answer_carries_the_state_index() {
    for file in ours() {
        let message = |full: &str| {
            let name = full.trim_start_matches(".twinkeep.v1.");
            file.message_type.iter().find(|message| message.name() == name).unwrap()
        };
        let methods = file.service.iter().flat_map(|service| &service.method);
        // On the crypto stream the single messages carry it.
        for method in methods.filter(|method| !method.client_streaming()) {
            let (request, answer) = (message(method.input_type()), message(method.output_type()));
            assert_eq!(field_number(request, "min_state_index"), Some(15), "{}", request.name());
            assert_eq!(field_number(answer, "state_index"), Some(15), "{}", answer.name());
        }
    }
}

#[test]
fn every_crypto_call_has_a_batch_form_of_the_same_permission() {
    let calls = || v1::method::ALL.iter().filter(|method| !method.client_streaming);
    let crypto = || calls().filter(|method| method.service == "CryptoService");
    let single: Vec<_> = crypto().filter(|method| !method.name.ends_with("Batch")).collect();
    assert_eq!(single.len() * 2, crypto().count());
    for method in single {
        let batch = crypto().find(|other| other.name == format!("{}Batch", method.name));
        assert_eq!(batch.map(|other| other.permission), Some(method.permission), "{}", method.name);
    }
}

#[test]
fn crypto_stream_takes_every_single_crypto_call_under_its_own_name() {
    let single = v1::method::ALL.iter().filter(|method| {
        let streaming = method.client_streaming || method.name.ends_with("Batch");
        method.service == "CryptoService" && !streaming
    });
    let calls: Vec<_> = single.map(|method| method.name).collect();
    for (message, suffix, last) in [
        ("CryptoStreamRequest", "Request", "CancelCall"),
        ("CryptoStreamResponse", "Response", "CallError"),
    ] {
        let files = ours();
        let message =
            files.iter().flat_map(|file| &file.message_type).find(|one| one.name() == message);
        let choices = message.unwrap().field.iter().filter(|field| field.oneof_index.is_some());
        let types: Vec<_> =
            choices.map(|field| field.type_name().trim_start_matches(".twinkeep.v1.")).collect();
        let expected: Vec<_> = calls.iter().map(|call| format!("{call}{suffix}")).collect();
        assert_eq!(types[..types.len() - 1], expected);
        assert_eq!(types.last(), Some(&last));
    }
}

#[test]
fn outside_batches_no_two_calls_share_a_permission() {
    let single = v1::method::ALL.iter().filter(|method| !method.name.ends_with("Batch"));
    let mut seen = std::collections::BTreeMap::new();
    for method in single {
        assert_eq!(seen.insert(method.permission as i32, method.name), None, "{}", method.name);
    }
}

#[test]
fn peer_services_are_not_shown_by_reflection() {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    assert!(set.file.iter().all(|file| !file.package().starts_with("twinkeep.peer")));
}

/// Planted in every secret field; never to be seen in a debug text.
const CANARY: &str = "canary-7f3a";

#[test]
fn debug_text_of_a_message_with_secrets_shows_lengths_alone() {
    let plaintext = || bytes::Bytes::from_static(CANARY.as_bytes());
    let encrypt = v1::EncryptRequest {
        key_id: "key-1".to_owned(),
        plaintext: plaintext(),
        plaintext_crc32c: Some(0x1234_5678),
        ..Default::default()
    };
    let batch = v1::EncryptBatchRequest { items: vec![encrypt], min_state_index: 7 };
    let texts = [
        format!("{batch:?}"),
        format!("{batch:#?}"),
        format!("{:?}", v1::DecryptResponse { plaintext: plaintext(), ..Default::default() }),
        format!(
            "{:?}",
            v1::GenerateDataKeyResponse { plaintext: plaintext(), ..Default::default() }
        ),
        format!("{:?}", v1::GenerateRandomResponse { data: plaintext(), ..Default::default() }),
        format!("{:?}", v1::SignRequest { message: plaintext(), ..Default::default() }),
        format!("{:?}", v1::UnsealRequest { share: CANARY.into(), ..Default::default() }),
        format!("{:?}", v1::UnsealRequest { passphrase: CANARY.into(), ..Default::default() }),
    ];
    for text in texts {
        assert!(!text.contains(CANARY) && !text.contains("305419896"), "{text}");
        assert!(text.contains("<11 secret bytes>"), "{text}");
    }
}
