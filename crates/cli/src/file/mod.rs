//! Files in and out: which ones, under which names, and never half of one.
//!
//! - A name is made from the name that was given or found in a folder, never from the one that is stored in an
//!   encrypted file: whoever made that file could have written anything.
//! - Output is written to a hidden file beside its place, synced, and moved there when it is whole. What is
//!   there already is replaced with `--force` alone. Ctrl-C removes the hidden file; only SIGKILL or a power
//!   cut leaves one, `.twinkeep-*.tmp`.
//! - A file that fails is reported and the others go on; a service that cannot be called ends the command.
//! - On a terminal standard error shows how far it is; in a pipe nothing is said but errors.

mod attributes;
mod decrypt;
mod draft;
mod encrypt;
mod interrupt;
mod names;
mod places;
mod progress;
pub(crate) mod raw;
mod stream;
mod walk;

use anyhow::bail;
use serde::Serialize;
use twinkeep_client::v1;

use crate::context::Context;
use crate::output::{Format, line};
use names::Direction;
pub(crate) use places::Places;
use places::{Source, Target};
use walk::{Found, Walk};

/// What was done with one file.
#[derive(Debug, Serialize)]
struct Done {
    input: String,
    output: String,
    /// Bytes of plaintext.
    bytes: u64,
    key_id: String,
    key_version_id: String,
    /// What the file was called when it was encrypted; said by whoever encrypted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_name: Option<String>,
}

/// Encrypts files and folders, or standard input.
pub(crate) async fn encrypt(
    context: &Context,
    key_id: &str,
    pairs: &[v1::ContextPair],
    places: Places,
) -> anyhow::Result<()> {
    let client = context.client()?;
    let one = async |source: Source, target: Target, force: bool| {
        encrypt::one(&client, key_id, pairs, source, target, force).await
    };
    each(context, places, Direction::Encrypt, one).await
}

/// Decrypts files and folders, or standard input.
pub(crate) async fn decrypt(
    context: &Context,
    key_id: &str,
    pairs: &[v1::ContextPair],
    places: Places,
) -> anyhow::Result<()> {
    let client = context.client()?;
    let one = async |source: Source, target: Target, force: bool| {
        decrypt::one(&client, key_id, pairs, source, target, force).await
    };
    each(context, places, Direction::Decrypt, one).await
}

/// Does the same with each file; removes what is unfinished when it is interrupted.
async fn each(
    context: &Context,
    places: Places,
    direction: Direction,
    one: impl AsyncFn(Source, Target, bool) -> anyhow::Result<Done>,
) -> anyhow::Result<()> {
    let json = context.format() == Format::Json;
    let report = |done: Done| match json {
        true => line(&serde_json::to_string(&done)?),
        false => Ok(()),
    };
    if let Some((source, target)) = places.only(direction)? {
        target.check(direction, json)?;
        return report(interrupt::until(one(source, target, places.force())).await?);
    }
    interrupt::until(all(&places, direction, one, report)).await
}

async fn all(
    places: &Places,
    direction: Direction,
    one: impl AsyncFn(Source, Target, bool) -> anyhow::Result<Done>,
    report: impl Fn(Done) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (mut taken, mut failed) = (0_u64, 0_u64);
    for found in Walk::new(places, direction) {
        taken += 1;
        let result = match found {
            Found::File { path, followed, target } => {
                let source = Source::File { path: path.clone(), followed };
                let result = one(source, Target::File(target), places.force()).await;
                result.map_err(|error| error.context(names::shown(&path)))
            }
            Found::Left(note) => {
                eprintln!("twinkeep: {note}");
                taken -= 1;
                continue;
            }
            Found::Failed(error) => Err(error),
        };
        match result {
            Ok(done) => report(done)?,
            // The next file would fare no better.
            Err(error) if called(&error) => return Err(error),
            Err(error) => {
                eprintln!("twinkeep: {error:#}");
                failed += 1;
            }
        }
    }
    let done = direction.done();
    match (taken, failed) {
        (0, _) => bail!("nothing was {done}: {}", direction.expects()),
        (_, 0) => Ok(()),
        (taken, failed) => bail!("{failed} of {taken} files were not {done}"),
    }
}

/// Tells whether the service refused, or could not be reached.
fn called(error: &anyhow::Error) -> bool {
    use twinkeep_client::Error;
    let refused = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    // `Invalid` is about this very file: its data key is damaged, or bound to other words.
    refused.is_some_and(|error| !matches!(error, Error::Invalid(_)))
}
