//! One input, one call; several inputs, batches. Each input has a result of its own.

use std::path::PathBuf;

use tonic::Code;
use twinkeep_client::{Client, Error, Outcome, v1};

use super::input::Input;
use crate::context::Context;

/// Items of one batch: so many of the largest payloads and contexts stay below the service's 1 MiB, and so
/// many RSA-4096 signatures below its limit of work.
const ITEMS_MAX: usize = 12;

/// A request that has a batch form.
pub(super) trait Item: Sized {
    type Answer;

    /// Makes one call.
    async fn one(self, client: &Client) -> Result<Self::Answer, Error>;

    /// Makes one batch call.
    async fn batch(
        items: Vec<Self>,
        client: &Client,
    ) -> Result<Vec<Result<Self::Answer, Error>>, Error>;
}

/// Makes a request of each input and a product of its answer; returns the products with their inputs' names.
pub(super) async fn by_input<I: Item, P>(
    context: &Context,
    inputs: Vec<Input>,
    request: impl Fn(&Input) -> anyhow::Result<I>,
    product: impl Fn(I::Answer) -> P,
) -> anyhow::Result<Vec<(PathBuf, Result<P, Error>)>> {
    let requests = inputs.iter().map(request).collect::<Result<_, _>>()?;
    let answers = each(&context.client()?, requests).await;
    let products = answers.into_iter().map(|answer| answer.map(&product));
    Ok(inputs.into_iter().map(|input| input.name).zip(products).collect())
}

/// Makes the calls for all items, and returns a result for each, in their order.
pub(super) async fn each<I: Item>(client: &Client, items: Vec<I>) -> Vec<Result<I::Answer, Error>> {
    let count = items.len();
    let mut items = items.into_iter();
    let mut results = Vec::with_capacity(count);
    while results.len() < count {
        let mut some: Vec<I> = items.by_ref().take(ITEMS_MAX).collect();
        let answers = match (some.len(), some.pop()) {
            (1, Some(last)) => last.one(client).await.map(|answer| vec![Ok(answer)]),
            (len, last) => {
                some.extend(last);
                I::batch(some, client).await.and_then(|answers| as_many(answers, len))
            }
        };
        match answers {
            Ok(answers) => results.extend(answers),
            Err(error) => {
                // What stopped this batch would stop the next ones too.
                let left = count - results.len();
                results.extend((0..left).map(|_| Err(error.clone())));
            }
        }
    }
    results
}

/// An answer with too few or too many results cannot be told apart by input.
fn as_many<A>(answers: Vec<A>, count: usize) -> Result<Vec<A>, Error> {
    if answers.len() != count {
        let outcome = Outcome::NotDone;
        let text = format!("the answer holds {} results for {count} items", answers.len());
        return Err(Error::Internal { message: text, outcome });
    }
    Ok(answers)
}

/// What the same call would have failed with alone.
fn failed(error: v1::ItemError) -> Error {
    let v1::ItemError { code, message } = error;
    // Using a key changes nothing.
    let outcome = Outcome::NotDone;
    match Code::from_i32(code) {
        Code::InvalidArgument | Code::OutOfRange => Error::Invalid(message),
        Code::Unauthenticated => Error::Unauthenticated(message),
        Code::PermissionDenied => Error::Denied(message),
        Code::NotFound => Error::NotFound(message),
        Code::FailedPrecondition => Error::Precondition(message),
        Code::Aborted => Error::Aborted(message),
        Code::ResourceExhausted => Error::Exhausted { message, retry_after: None },
        Code::DataLoss => Error::Damaged { message, outcome },
        Code::Internal => Error::Internal { message, outcome },
        code => Error::Other { code, message, outcome },
    }
}

macro_rules! items {
    ($($ask:ident $one:ident, $batch_ask:ident $batch:ident, $result:ident -> $answer:ident;)*) => {$(
        impl Item for v1::$ask {
            type Answer = v1::$answer;

            async fn one(self, client: &Client) -> Result<Self::Answer, Error> {
                client.$one(self).await
            }

            async fn batch(
                items: Vec<Self>,
                client: &Client,
            ) -> Result<Vec<Result<Self::Answer, Error>>, Error> {
                let request = v1::$batch_ask { items, ..Default::default() };
                let results = client.$batch(request).await?.results.into_iter();
                Ok(results.map(|result| match result.result {
                    Some(v1::$result::Result::Ok(answer)) => Ok(answer),
                    Some(v1::$result::Result::Error(error)) => Err(failed(error)),
                    None => Err(Error::Internal {
                        message: "an item has no result".to_owned(),
                        outcome: Outcome::NotDone,
                    }),
                }).collect())
            }
        }
    )*};
}

items! {
    EncryptRequest encrypt, EncryptBatchRequest encrypt_batch, encrypt_result -> EncryptResponse;
    DecryptRequest decrypt, DecryptBatchRequest decrypt_batch, decrypt_result -> DecryptResponse;
    ReEncryptRequest re_encrypt, ReEncryptBatchRequest re_encrypt_batch,
        re_encrypt_result -> ReEncryptResponse;
    GenerateDataKeyRequest generate_data_key, GenerateDataKeyBatchRequest generate_data_key_batch,
        generate_data_key_result -> GenerateDataKeyResponse;
    GenerateDataKeyWithoutPlaintextRequest generate_data_key_without_plaintext,
        GenerateDataKeyWithoutPlaintextBatchRequest generate_data_key_without_plaintext_batch,
        generate_data_key_without_plaintext_result -> GenerateDataKeyWithoutPlaintextResponse;
    SignRequest sign, SignBatchRequest sign_batch, sign_result -> SignResponse;
    VerifyRequest verify, VerifyBatchRequest verify_batch, verify_result -> VerifyResponse;
    GenerateMacRequest generate_mac, GenerateMacBatchRequest generate_mac_batch,
        generate_mac_result -> GenerateMacResponse;
    VerifyMacRequest verify_mac, VerifyMacBatchRequest verify_mac_batch,
        verify_mac_result -> VerifyMacResponse;
    GetPublicKeyRequest get_public_key, GetPublicKeyBatchRequest get_public_key_batch,
        get_public_key_result -> GetPublicKeyResponse;
    GenerateRandomRequest generate_random, GenerateRandomBatchRequest generate_random_batch,
        generate_random_result -> GenerateRandomResponse;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request that counts its batches in the answers.
    struct Fake(usize);

    impl Item for Fake {
        type Answer = (usize, usize);

        async fn one(self, _: &Client) -> Result<Self::Answer, Error> {
            Ok((self.0, 1))
        }

        async fn batch(
            items: Vec<Self>,
            _: &Client,
        ) -> Result<Vec<Result<Self::Answer, Error>>, Error> {
            let len = items.len();
            if items[0].0 == 24 {
                return Err(Error::Invalid("stop".to_owned()));
            }
            Ok(items.into_iter().map(|item| Ok((item.0, len))).collect())
        }
    }

    fn client() -> Client {
        let authority = twinkeep_pki::Authority::<twinkeep_pki::Endpoints>::create(
            twinkeep_core::id::ClusterId::from_bytes([7; 16]),
            twinkeep_pki::Validity::starting(
                rustls_pki_types::UnixTime::now().as_secs(),
                std::time::Duration::from_secs(3600),
            ),
        )
        .unwrap();
        let root = twinkeep_pki::pem::certificates(std::slice::from_ref(authority.root()));
        Client::builder().endpoint("127.0.0.1:1").root(root).build().unwrap()
    }

    #[tokio::test]
    async fn one_item_is_a_call_and_many_are_batches_in_their_order() {
        let client = client();
        let one = each(&client, vec![Fake(7)]).await;
        assert_eq!(one[0].as_ref().unwrap(), &(7, 1));
        let many = each(&client, (0..15).map(Fake).collect()).await;
        let many: Vec<_> = many.into_iter().map(Result::unwrap).collect();
        let expected: Vec<_> = (0..15).map(|n| (n, if n < 12 { 12 } else { 3 })).collect();
        assert_eq!(many, expected);
    }

    #[tokio::test]
    async fn failed_batch_fails_its_items_and_those_behind_it() {
        let results = each(&client(), (0..40).map(Fake).collect()).await;
        assert_eq!(results.len(), 40);
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 24);
        assert!(as_many(vec![1, 2], 3).is_err());
    }

    #[tokio::test]
    async fn no_item_is_no_call() {
        assert!(each(&client(), Vec::<Fake>::new()).await.is_empty());
    }
}
