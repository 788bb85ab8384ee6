//! CRC-32C of what is sent and received (`proto/twinkeep/v1/options.proto`, conventions).
//!
//! The client sums each field that is not empty, checks that the service says it verified the sum, and
//! sums what comes back. TLS guards the wire; these guard the buffers on both sides of it.

use twinkeep_proto::v1;

use crate::message::{Answer, Ask, Mismatch, common};

fn sum_of(bytes: &[u8]) -> Option<u32> {
    (!bytes.is_empty()).then(|| crc32c::crc32c(bytes))
}

/// `Request { field: its sum: what says that it was verified } => Response { field: its sum }`, and the
/// batch form behind it.
macro_rules! sums {
    ($(
        $ask:ident { $($sent:ident: $sum:ident: $verified:ident),* }
            => $answer:ident { $($received:ident: $received_sum:ident),* }
        in $batch:ident => $batch_answer:ident: $result:ident;
    )*) => {$(
        common! {
            $ask => $answer {
                fn prepare(&mut self) {
                    $(self.$sum = sum_of(&self.$sent);)*
                }

                fn check(&self, answer: &v1::$answer) -> Result<(), Mismatch> {
                    $(if self.$sum.is_some() && !answer.$verified {
                        return Err(Mismatch(stringify!($sent)));
                    })*
                    $(if crc32c::crc32c(&answer.$received) != answer.$received_sum {
                        return Err(Mismatch(stringify!($received)));
                    })*
                    let _ = answer;
                    Ok(())
                }
            };
            $batch => $batch_answer {
                fn prepare(&mut self) {
                    self.items.iter_mut().for_each(Ask::prepare);
                }

                fn check(&self, answer: &v1::$batch_answer) -> Result<(), Mismatch> {
                    if self.items.len() != answer.results.len() {
                        return Err(Mismatch("results"));
                    }
                    for (item, result) in self.items.iter().zip(&answer.results) {
                        match &result.result {
                            Some(v1::$result::Result::Ok(answer)) => item.check(answer)?,
                            Some(v1::$result::Result::Error(_)) => {}
                            None => return Err(Mismatch("result")),
                        }
                    }
                    Ok(())
                }
            };
        }
    )*};
}

sums! {
    EncryptRequest {
        plaintext: plaintext_crc32c: verified_plaintext_crc32c,
        aad: aad_crc32c: verified_aad_crc32c
    } => EncryptResponse { ciphertext: ciphertext_crc32c }
    in EncryptBatchRequest => EncryptBatchResponse: encrypt_result;

    DecryptRequest {
        ciphertext: ciphertext_crc32c: verified_ciphertext_crc32c,
        aad: aad_crc32c: verified_aad_crc32c
    } => DecryptResponse { plaintext: plaintext_crc32c }
    in DecryptBatchRequest => DecryptBatchResponse: decrypt_result;

    ReEncryptRequest { ciphertext: ciphertext_crc32c: verified_ciphertext_crc32c }
        => ReEncryptResponse { ciphertext: ciphertext_crc32c }
    in ReEncryptBatchRequest => ReEncryptBatchResponse: re_encrypt_result;

    GenerateDataKeyRequest { aad: aad_crc32c: verified_aad_crc32c }
        => GenerateDataKeyResponse { plaintext: plaintext_crc32c, ciphertext: ciphertext_crc32c }
    in GenerateDataKeyBatchRequest => GenerateDataKeyBatchResponse: generate_data_key_result;

    GenerateDataKeyWithoutPlaintextRequest { aad: aad_crc32c: verified_aad_crc32c }
        => GenerateDataKeyWithoutPlaintextResponse { ciphertext: ciphertext_crc32c }
    in GenerateDataKeyWithoutPlaintextBatchRequest => GenerateDataKeyWithoutPlaintextBatchResponse:
        generate_data_key_without_plaintext_result;

    SignRequest { message: message_crc32c: verified_message_crc32c }
        => SignResponse { signature: signature_crc32c }
    in SignBatchRequest => SignBatchResponse: sign_result;

    VerifyRequest {
        message: message_crc32c: verified_message_crc32c,
        signature: signature_crc32c: verified_signature_crc32c
    } => VerifyResponse {}
    in VerifyBatchRequest => VerifyBatchResponse: verify_result;

    GenerateMacRequest { message: message_crc32c: verified_message_crc32c }
        => GenerateMacResponse { mac: mac_crc32c }
    in GenerateMacBatchRequest => GenerateMacBatchResponse: generate_mac_result;

    VerifyMacRequest {
        message: message_crc32c: verified_message_crc32c,
        mac: mac_crc32c: verified_mac_crc32c
    } => VerifyMacResponse {}
    in VerifyMacBatchRequest => VerifyMacBatchResponse: verify_mac_result;

    GetPublicKeyRequest {} => GetPublicKeyResponse { public_key_der: public_key_der_crc32c }
    in GetPublicKeyBatchRequest => GetPublicKeyBatchResponse: get_public_key_result;

    GenerateRandomRequest {} => GenerateRandomResponse { data: data_crc32c }
    in GenerateRandomBatchRequest => GenerateRandomBatchResponse: generate_random_result;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> v1::EncryptRequest {
        let mut ask = v1::EncryptRequest { plaintext: "123456789".into(), ..Default::default() };
        ask.prepare();
        ask
    }

    fn answered() -> v1::EncryptResponse {
        v1::EncryptResponse {
            ciphertext: "123456789".into(),
            ciphertext_crc32c: 0xe306_9283,
            verified_plaintext_crc32c: true,
            ..Default::default()
        }
    }

    #[test]
    fn sums_are_the_published_ones() {
        // RFC 3720, B.4, and the check value of CRC-32C.
        assert_eq!(asked().plaintext_crc32c, Some(0xe306_9283));
        assert_eq!(sum_of(&[0; 32]), Some(0x8a91_36aa));
        assert_eq!(asked().aad_crc32c, None);
    }

    #[test]
    fn damage_in_either_direction_is_seen() {
        assert_eq!(asked().check(&answered()), Ok(()));
        let unverified = v1::EncryptResponse { verified_plaintext_crc32c: false, ..answered() };
        assert_eq!(asked().check(&unverified), Err(Mismatch("plaintext")));
        let damaged = v1::EncryptResponse { ciphertext: "123456788".into(), ..answered() };
        assert_eq!(asked().check(&damaged), Err(Mismatch("ciphertext")));
    }

    #[test]
    fn batch_with_a_damaged_or_missing_item_is_seen() {
        use v1::encrypt_result::Result::{Error, Ok as Done};
        let ask = v1::EncryptBatchRequest { items: vec![asked(); 2], ..Default::default() };
        let check = |results: &[Option<v1::encrypt_result::Result>]| {
            let results = results.iter().map(|r| v1::EncryptResult { result: r.clone() }).collect();
            ask.check(&v1::EncryptBatchResponse { results, state_index: 1 })
        };
        let (good, refused) = (Some(Done(answered())), Some(Error(v1::ItemError::default())));
        let damaged = Some(Done(v1::EncryptResponse { ciphertext_crc32c: 1, ..answered() }));
        assert_eq!(check(&[good.clone(), refused]), Ok(()));
        assert_eq!(check(&[good.clone(), damaged]), Err(Mismatch("ciphertext")));
        assert_eq!(check(&[good.clone(), None]), Err(Mismatch("result")));
        assert_eq!(check(&[good]), Err(Mismatch("results")));
    }
}
