//! `twinkeep cluster members`.

use std::io::{self, Write};

use serde::Serialize;
use twinkeep_client::{Client, v1};

use super::status::{by_leader, heard};
use crate::names::Named;
use crate::output::{Show, columns};

/// The members, and who of them is heard.
#[derive(Debug, Serialize)]
pub(super) struct Members {
    /// The node that answered; absent where it did not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_node_id: Option<u64>,
    members: Vec<Member>,
}

#[derive(Debug, Serialize)]
struct Member {
    node_id: u64,
    role: &'static str,
    standing: &'static str,
    zone: String,
    vpc: String,
    vswitch: String,
    client_address: String,
    peer_address: String,
    spki_sha256: String,
    /// Whether the node that answered has heard from it lately; `null` if it cannot know.
    reachable: Option<bool>,
    matched_index: u64,
    revision: u64,
}

impl Members {
    /// Asks for the members: the leader, which alone hears all of them, unless the call is bound to a node.
    pub(super) async fn of(client: &Client, pinned: bool) -> anyhow::Result<Self> {
        let client = client.any_state();
        let seen = by_leader(&client, pinned).await?;
        let at_leader = seen.node_id == seen.leader_node_id && !pinned;
        let node = if at_leader { client.at(&seen.leader_address) } else { None };
        let request = v1::ListMembersRequest::default();
        let listed = node.unwrap_or(client).list_members(request).await?.members;
        let members = listed.iter().map(|member| Member::of(member, heard(member, &seen)));
        Ok(Self { asked_node_id: Some(seen.node_id), members: members.collect() })
    }

    /// Shows the members of an answer whose sender is not known: only who is heard says something.
    pub(super) fn told(members: &[v1::Member]) -> Self {
        let of = |member| Member::of(member, member.reachable.then_some(true));
        Self { asked_node_id: None, members: members.iter().map(of).collect() }
    }
}

impl Member {
    fn of(member: &v1::Member, reachable: Option<bool>) -> Self {
        let place = member.placement.clone().unwrap_or_default();
        let removed = member.standing == i32::from(v1::Standing::Removed);
        Self {
            node_id: member.node_id,
            role: v1::NodeRole::name(member.role),
            standing: v1::Standing::name(member.standing),
            zone: place.zone,
            vpc: place.vpc,
            vswitch: place.vswitch,
            client_address: place.client_address,
            peer_address: place.peer_address,
            spki_sha256: hex::encode(&member.spki_sha256),
            reachable: if removed { Some(false) } else { reachable },
            matched_index: member.matched_index,
            revision: member.revision,
        }
    }

    fn row(&self) -> [String; 7] {
        [
            self.node_id.to_string(),
            self.role.to_lowercase(),
            self.standing.to_lowercase(),
            self.zone.clone(),
            self.client_address.clone(),
            self.peer_address.clone(),
            match self.reachable {
                Some(true) => "yes",
                Some(false) => "no",
                None => "not known here",
            }
            .to_owned(),
        ]
    }
}

impl Show for Members {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows: Vec<_> = self.members.iter().map(Member::row).collect();
        let head = ["NODE", "ROLE", "STANDING", "ZONE", "FOR CALLERS", "FOR PEERS", "HEARD"];
        columns(out, head, &rows)
    }
}
