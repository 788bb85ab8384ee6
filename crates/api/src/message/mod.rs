//! What the gate has to know of every message, whatever its service.

mod control;
mod crypto;

use std::ops::Deref;

use twinkeep_audit::Text;
use twinkeep_audit::call::{Context, Resource};
use twinkeep_core::id::{InstanceId, KeyId, KeyVersionNumber, NodeId};
use twinkeep_core::key::Algorithm;
use twinkeep_core::name::CallerName;
use twinkeep_proto::v1::ContextPair;

use crate::convert::Wire as _;

/// A request as the gate sees it.
pub(crate) trait RequestMessage: prost::Message + 'static {
    /// Returns the state that the answering node must have seen.
    fn min_state_index(&self) -> u64;

    /// Tells the audit record what the request is about: ids that are ids, sizes, the context. Never a
    /// payload, and no text that has not been checked to be what it should be.
    fn tell(&self, about: &mut About);

    /// Wipes what must not stay in memory after the call.
    fn wipe(&mut self) {}
}

/// A request that is wiped when it goes, also when its caller goes away first.
pub(crate) struct Wiped<M: RequestMessage>(pub(crate) M);

impl<M: RequestMessage> Deref for Wiped<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.0
    }
}

impl<M: RequestMessage> Drop for Wiped<M> {
    fn drop(&mut self) {
        self.0.wipe();
    }
}

/// An answer as the gate sees it.
pub(crate) trait AnswerMessage: Send + 'static {
    /// Returns the field for the state that the answer rests on.
    fn state_index(&mut self) -> &mut u64;

    /// Returns the field for the age of that state, of answers that rest on a freshness lease.
    fn state_age_ms(&mut self) -> Option<&mut u64> {
        None
    }

    /// Returns the size of the payload.
    fn output_bytes(&self) -> usize {
        0
    }
}

/// What a call is about, for its audit record.
#[derive(Debug, Default)]
pub(crate) struct About {
    /// What it names.
    pub(crate) resources: Vec<Resource>,
    /// The instance that it touches.
    pub(crate) instance: Option<InstanceId>,
    /// The algorithm asked for or used.
    pub(crate) algorithm: Option<Algorithm>,
    /// The encryption context.
    pub(crate) context: Option<Context>,
    /// The size of the request's payload.
    pub(crate) input_bytes: usize,
    /// The backend that worked.
    pub(crate) backend: Option<&'static str>,
}

impl About {
    fn key(&mut self, id: &str) {
        if let Ok(id) = id.parse() {
            self.resources.push(Resource::Key { id, version: None });
        }
    }

    fn instance(&mut self, id: &str) {
        if let Ok(id) = id.parse() {
            self.instance = Some(id);
            self.resources.push(Resource::Instance { id });
        }
    }

    fn node(&mut self, id: u64) {
        if let Ok(id) = NodeId::new(id) {
            self.resources.push(Resource::Node { id });
        }
    }

    fn caller(&mut self, name: &str) {
        if let Ok(name) = CallerName::parse(name) {
            let name = Text::new(name.as_str().to_owned());
            self.resources.push(Resource::Named { kind: Text::new("caller"), name });
        }
    }

    fn algorithm(&mut self, number: i32) {
        self.algorithm = Algorithm::optional("algorithm", number).ok().flatten();
    }

    fn context(&mut self, pairs: &[ContextPair], aad: &[u8]) {
        if !aad.is_empty() {
            self.context = Some(Context::from_bytes(aad));
        } else if !pairs.is_empty() {
            let pairs = pairs.iter().map(|pair| (pair.key.as_str(), pair.value.as_str()));
            self.context = Some(Context::from_pairs(pairs));
        }
    }

    /// Notes which version of a key is used.
    pub(crate) fn version(&mut self, key: KeyId, number: KeyVersionNumber) {
        let named = self.resources.iter_mut().find_map(|resource| match resource {
            Resource::Key { id, version } if *id == key => Some(version),
            _ => None,
        });
        match named {
            Some(version) => *version = Some(number),
            None => self.resources.push(Resource::Key { id: key, version: Some(number) }),
        }
    }
}

macro_rules! request {
    ($name:ident, |$message:ident, $about:ident| $tell:expr $(, wiping $($secret:ident),+)?) => {
        impl super::RequestMessage for twinkeep_proto::v1::$name {
            fn min_state_index(&self) -> u64 {
                self.min_state_index
            }

            fn tell(&self, $about: &mut super::About) {
                let $message = self;
                $tell
            }

            $(fn wipe(&mut self) {
                $(zeroize::Zeroize::zeroize(&mut self.$secret);)+
            })?
        }
    };
}

macro_rules! answer {
    ($name:ident) => {
        impl super::AnswerMessage for twinkeep_proto::v1::$name {
            fn state_index(&mut self) -> &mut u64 {
                &mut self.state_index
            }
        }
    };
}

/// An answer of the crypto service: it has a payload, and rests on a freshness lease.
macro_rules! product {
    ($name:ident) => {
        product!($name, |_answer| 0);
    };
    ($name:ident, |$message:ident| $bytes:expr) => {
        impl super::AnswerMessage for twinkeep_proto::v1::$name {
            fn state_index(&mut self) -> &mut u64 {
                &mut self.state_index
            }

            fn state_age_ms(&mut self) -> Option<&mut u64> {
                Some(&mut self.state_age_ms)
            }

            fn output_bytes(&self) -> usize {
                let $message = self;
                $bytes
            }
        }
    };
}

use {answer, product, request};

#[cfg(test)]
mod tests {
    use twinkeep_proto::v1::UnsealRequest;

    use super::*;

    #[test]
    fn share_and_passphrase_are_wiped_with_their_request() {
        let (share, passphrase) = ("tkshare1".to_owned(), "secret".to_owned());
        let mut request = UnsealRequest { share, passphrase, ..Default::default() };
        request.wipe();
        assert_eq!(request, UnsealRequest::default());
    }
}
