//! The order to recover a cluster, as the file that people look at, sign and carry to the survivors.
//!
//! TOML; unknown fields are refused. The survivors' public keys travel along, and [`RecoveryOrderFile::parse`] signs
//! for nothing else than what [`RecoveryOrder::message`] covers: their digests.
//!
//! | field               | holds                                                                   |
//! |---------------------|-------------------------------------------------------------------------|
//! | `order`             | `recovery`                                                              |
//! | `cluster`           | `clu-` and 32 hex digits                                                |
//! | `ends-incarnation`  | the life that ends; the next one begins                                 |
//! | `complete-until`    | up to when nothing acknowledged is missing, UTC; absent where unknown   |
//! | `expires`           | date and time in UTC                                                    |
//! | `lost`              | ids of the nodes that are powered off for good                          |
//! | `last`              | `term`, `leader`, `index` of the last entry that is kept                |
//! | `survivor`          | `former` id, new `node` id, `public-key` (SPKI DER, hex) of each        |

use std::fmt;

use serde::{Deserialize, Serialize};
use toml::value::Datetime;
use twinkeep_core::id::{Incarnation, NodeId};
use twinkeep_core::recovery::{LastEntry, RecoveryOrder, Survivor};

use crate::key::PublicKey;
use crate::order::{OrderError, date_time, plain, unix_ms, wrong};

/// An order with the public keys of those that go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryOrderFile {
    order: RecoveryOrder,
    keys: Vec<PublicKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Fields {
    order: String,
    cluster: String,
    ends_incarnation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    complete_until: Option<Datetime>,
    expires: Datetime,
    lost: Vec<u64>,
    last: Last,
    survivor: Vec<Going>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    term: u64,
    leader: u64,
    index: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Going {
    former: u64,
    node: u64,
    public_key: String,
}

impl RecoveryOrderFile {
    /// Longest text, in bytes.
    pub const BYTES_MAX: usize = 64 << 10;

    /// Puts an order and the keys of its survivors together, in the same order.
    ///
    /// # Errors
    /// [`OrderError`] when a key is not the one whose digest the order has, when there are too many nodes, or a time is
    /// beyond the year 9999.
    pub fn new(order: RecoveryOrder, keys: Vec<PublicKey>) -> Result<Self, OrderError> {
        date_time(order.expires_ms)?;
        date_time(order.complete_until_ms)?;
        if order.survivors.len().max(order.lost.len()) > RecoveryOrder::NODES_MAX {
            return Err(wrong("survivor", "more than 255 nodes"));
        }
        let digests = order.survivors.iter().map(|survivor| survivor.spki_sha256);
        if !digests.eq(keys.iter().map(PublicKey::sha256)) {
            return Err(OrderError::OtherKey);
        }
        Ok(Self { order, keys })
    }

    /// Reads an order's text.
    ///
    /// # Errors
    /// [`OrderError`] with the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, OrderError> {
        if text.len() > Self::BYTES_MAX {
            return Err(OrderError::TooLong);
        }
        // The message alone: the parser would show the line, whatever stands in it.
        let fields: Fields =
            toml::from_str(text).map_err(|e| OrderError::Toml(plain(e.message())))?;
        if fields.order != "recovery" {
            return Err(wrong("order", "not `recovery`"));
        }
        let node = |field, id| NodeId::new(id).map_err(|e| wrong(field, e));
        let (mut survivors, mut keys) = (Vec::new(), Vec::new());
        for Going { former, node: new, public_key } in fields.survivor {
            let not_hex = |_| wrong("public-key", "not hex digits");
            let der = hex::decode(public_key).map_err(not_hex)?;
            let key = PublicKey::from_spki(&der).map_err(|e| wrong("public-key", e))?;
            let spki_sha256 = key.sha256();
            let (former, node) = (node("former", former)?, node("node", new)?);
            survivors.push(Survivor { former, node, spki_sha256 });
            keys.push(key);
        }
        let Last { term, leader, index } = fields.last;
        let order = RecoveryOrder {
            cluster: fields.cluster.parse().map_err(|e| wrong("cluster", e))?,
            ends: Incarnation::new(fields.ends_incarnation)
                .map_err(|e| wrong("ends-incarnation", e))?,
            last: LastEntry { term, leader, index },
            complete_until_ms: fields.complete_until.as_ref().map_or(Ok(0), unix_ms)?,
            expires_ms: unix_ms(&fields.expires)?,
            survivors,
            lost: fields.lost.into_iter().map(|id| node("lost", id)).collect::<Result<_, _>>()?,
        };
        Self::new(order, keys)
    }

    /// Writes the text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let order = &self.order;
        let time = |ms| date_time(ms).expect("`new` has written it once");
        let going = order.survivors.iter().zip(&self.keys).map(|(survivor, key)| Going {
            former: survivor.former.get(),
            node: survivor.node.get(),
            public_key: hex::encode(key.spki()),
        });
        let LastEntry { term, leader, index } = order.last;
        let fields = Fields {
            order: "recovery".to_owned(),
            cluster: order.cluster.to_string(),
            ends_incarnation: order.ends.get(),
            complete_until: (order.complete_until_ms > 0).then(|| time(order.complete_until_ms)),
            expires: time(order.expires_ms),
            lost: order.lost.iter().map(|node| node.get()).collect(),
            last: Last { term, leader, index },
            survivor: going.collect(),
        };
        let fields = toml::to_string_pretty(&fields).expect("strings, numbers and dates are TOML");
        let shown: String = self.to_string().lines().map(|line| format!("#   {line}\n")).collect();
        format!(
            "# Recovers a cluster that has lost its quorum for good.\n\
             {shown}\
             # For an operator: be sure that the lost nodes are powered off and stay so, then\n\
             # `twinkeep operator approve --key FILE --name YOU THIS-FILE`.\n\
             {fields}"
        )
    }

    /// Returns what is signed.
    #[must_use]
    pub fn order(&self) -> &RecoveryOrder {
        &self.order
    }

    /// Returns the public keys of those that go on, in the order's order.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }
}

/// Shows what is signed, a line for each field.
impl fmt::Display for RecoveryOrderFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecoveryOrder { cluster, ends, last, complete_until_ms, expires_ms, survivors, lost } =
            &self.order;
        let date = |ms| date_time(ms).map_err(|_| fmt::Error);
        writeln!(f, "cluster      {cluster}: incarnation {ends} ends")?;
        let lost: Vec<_> = lost.iter().map(ToString::to_string).collect();
        match lost.as_slice() {
            [] => writeln!(f, "powered off  no node")?,
            lost => writeln!(f, "powered off  for good: node {}", lost.join(", node "))?,
        }
        for (at, survivor) in survivors.iter().enumerate() {
            let Survivor { former, node, spki_sha256 } = survivor;
            let what = if at == 0 { "brings the state" } else { "joins empty" };
            let key = hex::encode(&spki_sha256[..8]);
            writeln!(
                f,
                "goes on      node {former} as node {node} ({what}; its key is {key}\u{2026})"
            )?;
        }
        writeln!(f, "kept         the log up to entry {} of term {}", last.index, last.term)?;
        match *complete_until_ms {
            0 => writeln!(f, "complete     not known: acknowledged changes may be missing")?,
            ms => writeln!(
                f,
                "complete     every change that was acknowledged up to {} is kept",
                date(ms)?
            )?,
        }
        write!(f, "expires      {}", date(*expires_ms)?)
    }
}

#[cfg(test)]
mod tests {
    use twinkeep_core::id::ClusterId;

    use super::*;
    use crate::key::PrivateKey;

    fn file() -> RecoveryOrderFile {
        let keys = [(); 2].map(|()| PrivateKey::generate().unwrap().public_key());
        let survivor = |at: usize, former, node| Survivor {
            former: NodeId::new(former).unwrap(),
            node: NodeId::new(node).unwrap(),
            spki_sha256: keys[at].sha256(),
        };
        let order = RecoveryOrder {
            cluster: ClusterId::from_bytes([0x10; 16]),
            ends: Incarnation::FIRST,
            last: LastEntry { term: 3, leader: 1, index: 77 },
            complete_until_ms: 1_800_000_000_250,
            expires_ms: 1_800_000_540_000,
            survivors: vec![survivor(0, 3, 101), survivor(1, 4, 102)],
            lost: [1, 2, 5].map(|node| NodeId::new(node).unwrap()).to_vec(),
        };
        RecoveryOrderFile::new(order, keys.to_vec()).unwrap()
    }

    #[test]
    fn order_is_read_as_it_is_written() {
        let file = file();
        assert_eq!(RecoveryOrderFile::parse(&file.to_text()).unwrap(), file);
        let unknown = RecoveryOrder { complete_until_ms: 0, ..file.order.clone() };
        let unknown = RecoveryOrderFile::new(unknown, file.keys).unwrap();
        assert!(!unknown.to_text().contains("complete-until"));
        assert_eq!(RecoveryOrderFile::parse(&unknown.to_text()).unwrap(), unknown);
    }

    #[test]
    fn people_are_shown_every_field_that_is_signed() {
        let file = file();
        let key = |at: usize| hex::encode(&file.order.survivors[at].spki_sha256[..8]);
        assert_eq!(
            file.to_string(),
            format!(
                "cluster      clu-10101010101010101010101010101010: incarnation 1 ends\n\
                 powered off  for good: node 1, node 2, node 5\n\
                 goes on      node 3 as node 101 (brings the state; its key is {}\u{2026})\n\
                 goes on      node 4 as node 102 (joins empty; its key is {}\u{2026})\n\
                 kept         the log up to entry 77 of term 3\n\
                 complete     every change that was acknowledged up to 2027-01-15T08:00:00.25Z is kept\n\
                 expires      2027-01-15T08:09:00Z",
                key(0),
                key(1)
            )
        );
    }

    #[test]
    fn text_that_is_not_exactly_an_order_is_refused_by_its_field() {
        let text = file().to_text();
        for (from, to, part) in [
            ("order = \"recovery\"", "order = \"admission\"", "order: "),
            ("ends-incarnation = 1\n", "ends-incarnation = 0\n", "ends-incarnation: "),
            (
                "ends-incarnation = 1\n",
                "ends-incarnation = 1\nforce = true\n",
                "the text is no order",
            ),
            ("former = 3", "former = 0", "former: "),
            ("public-key = \"", "public-key = \"00", "public-key: "),
            ("public-key = \"", "public-key = \"zz", "public-key: "),
            ("expires = ", "expires = 12 #", "the text is no order"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            let error = RecoveryOrderFile::parse(&changed).unwrap_err().to_string();
            assert!(error.starts_with(part), "{from} to {to}: {error}");
        }
        let long = "#".repeat(RecoveryOrderFile::BYTES_MAX + 1);
        assert!(matches!(RecoveryOrderFile::parse(&long), Err(OrderError::TooLong)));
    }

    #[test]
    fn keys_that_are_not_those_of_the_survivors_are_refused() {
        let RecoveryOrderFile { order, mut keys } = file();
        keys.swap(0, 1);
        assert!(matches!(RecoveryOrderFile::new(order, keys), Err(OrderError::OtherKey)));
    }
}
