//! Messages of the crypto service.

use super::{answer, request};

request!(EncryptRequest, |m, a| {
    a.key(&m.key_id);
    a.context(&m.encryption_context, &m.aad);
    a.algorithm(m.algorithm);
    a.input_bytes = m.plaintext.len();
});
answer!(EncryptResponse, |m| m.ciphertext.len());

request!(DecryptRequest, |m, a| {
    a.key(&m.key_id);
    a.context(&m.encryption_context, &m.aad);
    a.algorithm(m.algorithm);
    a.input_bytes = m.ciphertext.len();
});
answer!(DecryptResponse, |m| m.plaintext.len());

// Of the two contexts the record has the old one, which says what was opened.
request!(ReEncryptRequest, |m, a| {
    a.key(&m.source_key_id);
    a.key(&m.destination_key_id);
    a.context(&m.source_encryption_context, &m.source_aad);
    a.algorithm(m.source_algorithm);
    a.input_bytes = m.ciphertext.len();
});
answer!(ReEncryptResponse, |m| m.ciphertext.len());

request!(GenerateDataKeyRequest, |m, a| {
    a.key(&m.key_id);
    a.context(&m.encryption_context, &m.aad);
});
answer!(GenerateDataKeyResponse, |m| m.plaintext.len() + m.ciphertext.len());

request!(GenerateDataKeyWithoutPlaintextRequest, |m, a| {
    a.key(&m.key_id);
    a.context(&m.encryption_context, &m.aad);
});
answer!(GenerateDataKeyWithoutPlaintextResponse, |m| m.ciphertext.len());

request!(SignRequest, |m, a| {
    a.key(&m.key_id);
    a.algorithm(m.algorithm);
    a.input_bytes = m.message.len();
});
answer!(SignResponse, |m| m.signature.len());

request!(VerifyRequest, |m, a| {
    a.key(&m.key_id);
    a.algorithm(m.algorithm);
    a.input_bytes = m.message.len() + m.signature.len();
});
answer!(VerifyResponse);

request!(GenerateMacRequest, |m, a| {
    a.key(&m.key_id);
    a.algorithm(m.algorithm);
    a.input_bytes = m.message.len();
});
answer!(GenerateMacResponse, |m| m.mac.len());

request!(VerifyMacRequest, |m, a| {
    a.key(&m.key_id);
    a.algorithm(m.algorithm);
    a.input_bytes = m.message.len() + m.mac.len();
});
answer!(VerifyMacResponse);

request!(GetPublicKeyRequest, |m, a| a.key(&m.key_id));
answer!(GetPublicKeyResponse, |m| m.public_key_der.len());

request!(GenerateRandomRequest, |_m, _a| ());
answer!(GenerateRandomResponse, |m| m.data.len());
