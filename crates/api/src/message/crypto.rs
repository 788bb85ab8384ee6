//! Messages of the crypto service.

use super::{product, request};

request!(EncryptRequest, |m, a| {
    a.key(&m.key_id);
    a.context(&m.encryption_context, &m.aad);
    a.algorithm(m.algorithm);
    a.input_bytes = m.plaintext.len();
});
product!(EncryptResponse, |m| m.ciphertext.len());

request!(DecryptRequest, |m, a| {
    a.key(&m.key_id);
    a.context(&m.encryption_context, &m.aad);
    a.algorithm(m.algorithm);
    a.input_bytes = m.ciphertext.len();
});
product!(DecryptResponse, |m| m.plaintext.len());

// Of the two contexts the record has the old one, which says what was opened.
request!(ReEncryptRequest, |m, a| {
    a.key(&m.source_key_id);
    a.key(&m.destination_key_id);
    a.context(&m.source_encryption_context, &m.source_aad);
    a.algorithm(m.source_algorithm);
    a.input_bytes = m.ciphertext.len();
});
product!(ReEncryptResponse, |m| m.ciphertext.len());

request!(GenerateDataKeyRequest, |m, a| {
    a.key(&m.key_id);
    a.context(&m.encryption_context, &m.aad);
});
product!(GenerateDataKeyResponse, |m| m.plaintext.len() + m.ciphertext.len());

request!(GenerateDataKeyWithoutPlaintextRequest, |m, a| {
    a.key(&m.key_id);
    a.context(&m.encryption_context, &m.aad);
});
product!(GenerateDataKeyWithoutPlaintextResponse, |m| m.ciphertext.len());

request!(SignRequest, |m, a| {
    a.key(&m.key_id);
    a.algorithm(m.algorithm);
    a.input_bytes = m.message.len();
});
product!(SignResponse, |m| m.signature.len());

request!(VerifyRequest, |m, a| {
    a.key(&m.key_id);
    a.algorithm(m.algorithm);
    a.input_bytes = m.message.len() + m.signature.len();
});
product!(VerifyResponse);

request!(GenerateMacRequest, |m, a| {
    a.key(&m.key_id);
    a.algorithm(m.algorithm);
    a.input_bytes = m.message.len();
});
product!(GenerateMacResponse, |m| m.mac.len());

request!(VerifyMacRequest, |m, a| {
    a.key(&m.key_id);
    a.algorithm(m.algorithm);
    a.input_bytes = m.message.len() + m.mac.len();
});
product!(VerifyMacResponse);

request!(GetPublicKeyRequest, |m, a| a.key(&m.key_id));
product!(GetPublicKeyResponse, |m| m.public_key_der.len());

request!(GenerateRandomRequest, |_m, _a| ());
product!(GenerateRandomResponse, |m| m.data.len());
