//! Which call travels as which message.

use tonic::{Code, Status};
use twinkeep_proto::v1;
use twinkeep_proto::v1::crypto_stream_request::Body;
use twinkeep_proto::v1::crypto_stream_response::Result as Given;

use crate::error::with_retry_after;
use crate::message::Ask;

/// A call that a stream carries.
pub(crate) trait Streamed: Ask {
    /// Makes the message.
    fn into_body(self) -> Body;

    /// Takes the answer out, if it is one to such a call.
    fn of(given: Given) -> Option<Self::Answer>;
}

/// Returns the answer, or what the single call would have been refused with.
pub(crate) fn answer_of<R: Streamed>(given: Option<Given>) -> Result<R::Answer, Status> {
    match given {
        Some(Given::Error(error)) => Err(refusal(error)),
        given => given
            .and_then(R::of)
            .ok_or_else(|| Status::internal("the node gave the answer to another call")),
    }
}

fn refusal(error: v1::CallError) -> Status {
    // OK is no error, and a status with it would be none either.
    let code = match Code::from_i32(error.code) {
        Code::Ok => Code::Unknown,
        code => code,
    };
    with_retry_after(Status::new(code, error.message), error.retry_after_ms)
}

macro_rules! kinds {
    ($($ask:ident: $kind:ident;)*) => {$(
        impl Streamed for v1::$ask {
            fn into_body(self) -> Body {
                Body::$kind(self)
            }

            fn of(given: Given) -> Option<Self::Answer> {
                match given {
                    Given::$kind(answer) => Some(answer),
                    _ => None,
                }
            }
        }
    )*};
}

kinds! {
    EncryptRequest: Encrypt;
    DecryptRequest: Decrypt;
    ReEncryptRequest: ReEncrypt;
    GenerateDataKeyRequest: GenerateDataKey;
    GenerateDataKeyWithoutPlaintextRequest: GenerateDataKeyWithoutPlaintext;
    SignRequest: Sign;
    VerifyRequest: Verify;
    GenerateMacRequest: GenerateMac;
    VerifyMacRequest: VerifyMac;
    GetPublicKeyRequest: GetPublicKey;
    GenerateRandomRequest: GenerateRandom;
}
