//! GenerateRandom.

use std::path::PathBuf;

use twinkeep_client::v1;

use super::item::each;
use super::product::{Facts, Kind, Out, Product};
use crate::context::Context;

/// Most bytes of one call.
const CALL_MAX: u32 = 65_536;
/// Most bytes of one command.
const LENGTH_MAX: i64 = 16 << 20;

/// Draws random bytes.
#[derive(Debug, clap::Args)]
pub(crate) struct Random {
    /// How many bytes.
    #[arg(value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=LENGTH_MAX))]
    length: u32,
    /// Writes base64 text.
    #[arg(long)]
    base64: bool,
    #[command(flatten)]
    out: Out,
}

impl Random {
    /// Draws the bytes and writes them: more than one call gives are drawn in batches.
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let kind = Kind {
            what: "random number",
            ending: "bin",
            secret: true,
            text: false,
            base64: self.base64,
        };
        self.out.check(context, kind, &[])?;
        let full = std::iter::repeat_n(CALL_MAX, (self.length / CALL_MAX) as usize);
        let lengths = full.chain(Some(self.length % CALL_MAX).filter(|&rest| rest > 0));
        let request =
            |length_bytes| v1::GenerateRandomRequest { length_bytes, ..Default::default() };
        let answers = each(&context.client()?, lengths.map(request).collect()).await;
        let bytes = answers.into_iter().try_fold(
            bytes::BytesMut::with_capacity(self.length as usize),
            |mut all, answer| {
                all.extend_from_slice(&answer?.data);
                Ok(all)
            },
        );
        let product = bytes.map(|bytes| Product { facts: Facts::default(), bytes: bytes.freeze() });
        self.out.deliver(context, kind, vec![(PathBuf::from("random"), product)])
    }
}
