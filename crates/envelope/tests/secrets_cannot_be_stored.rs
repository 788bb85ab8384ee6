//! What the secret types must not be able to do does not compile.

#[test]
fn open_secrets_cannot_be_cloned_compared_printed_or_stored() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
