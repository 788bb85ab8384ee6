//! The keys that a drill makes: whether they are all there afterwards, how long it takes to disable some, and what
//! becomes of them.

use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use futures::future::join_all;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use twinkeep_client::{Client, v1};

use crate::dev::layout::{DevNode, Layout};
use crate::dev::load::{self, Made};
use crate::dev::up;

/// The description of every key that a drill makes.
pub(super) const DESCRIPTION: &str = "made by twinkeep drill";
/// Keys that are looked at, or disabled, together.
const TOGETHER: usize = 16;
/// Time of one look at a key: it includes what a node that has just come back has to catch up with.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// Keys of one page of a list.
const PAGE: u32 = 1000;

/// What disabling keys one after the other came to.
#[derive(Debug, Default)]
pub(super) struct Disabled {
    /// Time to the answer that says that the key is used nowhere any more; `None` where it says otherwise.
    pub(super) took: Vec<Option<Duration>>,
    /// Calls that nodes answered with the key afterwards.
    pub(super) used_after: usize,
}

/// Uses every key that was acknowledged on every data node; returns those that do not work, with the reason.
pub(super) async fn lost(layout: &Layout, keys: &[&Made]) -> anyhow::Result<Vec<String>> {
    let mut lost = Vec::new();
    for (node, client) in each_node(layout)? {
        let client = client.with_deadline(LOOK_MAX);
        // A node that has not applied all of it yet waits until it has.
        client.require_state_index(keys.iter().map(|made| made.state_index).max().unwrap_or(0));
        let looks = stream::iter(keys).map(|made| {
            let client = &client;
            async move { (&made.key_id, load::still_works(client, made).await.err()) }
        });
        let mut looks = looks.buffer_unordered(TOGETHER);
        while let Some((key_id, error)) = looks.next().await {
            lost.extend(error.map(|error| format!("{key_id} at node {}: {error:#}", node.name)));
        }
    }
    Ok(lost)
}

/// Disables keys, one after the other, and after each answer tries the key on every data node.
pub(super) async fn disable(
    layout: &Layout,
    client: &Client,
    keys: &[&Made],
) -> anyhow::Result<Disabled> {
    let nodes = each_node(layout)?;
    let mut disabled = Disabled::default();
    for made in keys {
        let sent = Instant::now();
        let request = v1::DisableKeyRequest { key_id: made.key_id.clone(), ..Default::default() };
        let answer = client.disable_key(request).await.context("a key was not disabled")?;
        let took = sent.elapsed();
        disabled.took.push(answer.effective_everywhere.then_some(took));
        let uses = nodes.iter().map(|(_, at_node)| {
            load::encrypt(at_node, &made.key_id, Bytes::from_static(b"after the answer"))
        });
        let uses = join_all(uses).await;
        disabled.used_after += uses.iter().filter(|used| used.is_ok()).count();
    }
    Ok(disabled)
}

/// Disables whatever keys drills have made and left; returns their number.
///
/// A write whose answer was lost may have made a key too, and so may a drill that was killed: they are known by their
/// description.
pub(super) async fn clean_up(client: &Client, instance_id: &str) -> anyhow::Result<usize> {
    let mut request = v1::ListKeysRequest {
        instance_id: instance_id.to_owned(),
        state: v1::KeyState::Enabled.into(),
        page_size: PAGE,
        ..Default::default()
    };
    let mut left = Vec::new();
    loop {
        let page = client.list_keys(request.clone()).await?;
        let ours = page.keys.into_iter().filter(|key| key.description == DESCRIPTION);
        left.extend(ours.map(|key| key.key_id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let count = left.len();
    let disabling = stream::iter(left).map(|key_id| {
        let request = v1::DisableKeyRequest { key_id, ..Default::default() };
        client.disable_key(request)
    });
    disabling.buffer_unordered(TOGETHER).try_for_each(|_| async { Ok(()) }).await?;
    Ok(count)
}

/// Returns the data nodes, each with an application that knows it alone.
fn each_node(layout: &Layout) -> anyhow::Result<Vec<(&DevNode, Client)>> {
    let nodes = layout.nodes().iter().filter(|node| !node.witness);
    nodes.map(|node| Ok((node, up::client_of(layout, up::CALLER, [node], &node.zone)?))).collect()
}
