//! Derived keys: the published ones, and ours against AWS-LC's.

use proptest::prelude::*;
use serde::Deserialize;

use super::aws_lc;
use super::vectors::Hex;
use crate::OpenKey;
use crate::kdf::derive;

#[derive(Deserialize)]
struct Vectors {
    parent: Hex,
    derived: Vec<Derived>,
}

#[derive(Deserialize)]
struct Derived {
    label: String,
    context: Hex,
    begins: Hex,
}

#[test]
fn derived_keys_are_the_published_ones() {
    let vectors: Vectors =
        serde_json::from_str(include_str!("../../tests/vectors/derive.json")).unwrap();
    assert_eq!(vectors.derived.len(), 2);
    for vector in &vectors.derived {
        let label = vector.label.clone().leak();
        let derived = derive(&vectors.parent.key(), label, &vector.context.0);
        let begins = &derived.danger_expose()[..vector.begins.0.len()];
        assert_eq!(hex::encode(begins), hex::encode(&vector.begins.0), "{label}");
    }
}

proptest! {
    #[test]
    fn aws_lc_derives_the_same_key(parent: [u8; 32], context: Vec<u8>) {
        const LABEL: &str = "twinkeep-request-v1";
        let ours = derive(&OpenKey::from_slice(&parent).unwrap(), LABEL, &context);
        let fixed_input = [LABEL.as_bytes(), &[0], &context, &256u32.to_be_bytes()].concat();
        let mut theirs = [0; 32];
        aws_lc::derive(&parent, &fixed_input, &mut theirs);
        prop_assert_eq!(ours.danger_expose(), &theirs);
    }

    #[test]
    fn every_part_of_the_input_counts(parent: [u8; 32], context: [u8; 16], bit in 0..128usize) {
        let parent = OpenKey::from_slice(&parent).unwrap();
        let one = derive(&parent, "twinkeep-kcv-v1", &context);
        let mut other_context = context;
        other_context[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!one.same_as(&derive(&parent, "twinkeep-kcv-v1", &other_context)));
        prop_assert!(!one.same_as(&derive(&parent, "twinkeep-kcv-v2", &context)));
        prop_assert!(!one.same_as(&derive(&one, "twinkeep-kcv-v1", &context)));
    }
}
