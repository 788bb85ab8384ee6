//! The format written a second time, on AWS-LC and without our code.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::kdf::{KbkdfCtrHmacAlgorithmId, get_kbkdf_ctr_hmac_algorithm, kbkdf_ctr_hmac};

pub(super) fn derive(key: &[u8], fixed_input: &[u8], out: &mut [u8]) {
    let algorithm = get_kbkdf_ctr_hmac_algorithm(KbkdfCtrHmacAlgorithmId::Sha256).unwrap();
    kbkdf_ctr_hmac(algorithm, key, fixed_input, out).unwrap();
}

pub(super) fn seal(
    key: &[u8],
    label: &[u8],
    prefix: &[u8],
    bound_to: &[u8],
    (salt, iv): (&[u8; 16], &[u8; 12]),
    plaintext: &[u8],
) -> Vec<u8> {
    let info = [label, &[0], prefix, salt, bound_to, &512u32.to_be_bytes()].concat();
    let mut okm = [0; 64];
    derive(key, &info, &mut okm);
    let header = [prefix, salt, &okm[32..]].concat();
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &okm[..32]).unwrap());
    let mut body = plaintext.to_vec();
    let aad = Aad::from([header.as_slice(), bound_to].concat());
    cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(*iv), aad, &mut body).unwrap();
    [header.as_slice(), iv, &body].concat()
}
