//! What the cluster promises of changes now: the replication mode, in words.

use serde::Serialize;
use twinkeep_client::v1;

use crate::names::Named;
use crate::output::time;

/// The replication mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Replication {
    pub(super) mode: &'static str,
    /// The zone that is lost or catches up.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) zone: String,
    /// Since when; absent in a cluster that never lost a zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<String>,
}

impl Replication {
    pub(super) fn of(wire: &v1::Replication) -> Self {
        Self {
            mode: v1::ReplicationMode::name(wire.mode),
            zone: wire.zone.clone(),
            since: (wire.since_unix_ms > 0).then(|| time(wire.since_unix_ms)),
        }
    }

    /// What is wrong; `None` while every zone holds what is acknowledged.
    pub(super) fn trouble(&self) -> Option<String> {
        let Self { mode, zone, since } = self;
        let since = since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
        match *mode {
            "DEGRADED" => Some(format!("changes are kept without {zone}{since}")),
            "RECOVERING" => Some(format!("{zone} catches up{since}")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replication(mode: v1::ReplicationMode, zone: &str) -> Replication {
        let zone = zone.to_owned();
        Replication::of(&v1::Replication { mode: mode.into(), zone, ..Default::default() })
    }

    #[test]
    fn lost_zone_is_named_until_it_has_caught_up() {
        let trouble = |mode| replication(mode, "zone-b").trouble();
        assert_eq!(
            trouble(v1::ReplicationMode::Degraded).as_deref(),
            Some("changes are kept without zone-b")
        );
        assert_eq!(trouble(v1::ReplicationMode::Recovering).as_deref(), Some("zone-b catches up"));
        assert_eq!(replication(v1::ReplicationMode::Sync, "").trouble(), None);
    }
}
