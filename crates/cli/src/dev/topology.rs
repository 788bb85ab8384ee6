//! How many voters stand where: `2+2+1`, `3+3+1`, `2+1`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most data nodes of a zone: so many of its addresses are looked after.
const ZONE_NODES_MAX: u8 = 4;

/// Voters in zone a, in zone b, and the witness in a third place, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Topology {
    a: u8,
    b: u8,
    has_witness: bool,
}

impl Default for Topology {
    fn default() -> Self {
        Self { a: 2, b: 2, has_witness: true }
    }
}

impl Topology {
    /// Returns the nodes: name, zone, number of the zone's address range, number of the node in it.
    pub(super) fn nodes(self) -> Vec<(String, &'static str, u8, u8)> {
        let zone = |zone: &'static str, net, count: u8| {
            (1..=count).map(move |host| (format!("{zone}{host}"), zone, net, host))
        };
        let witness = self.has_witness.then(|| ("w".to_owned(), "w", 3, 1));
        zone("a", 1, self.a).chain(zone("b", 2, self.b)).chain(witness).collect()
    }

    /// Returns the zone that holds a majority of the voters, which has to be said: without a third place one has to.
    pub(crate) fn preferred_zone(self) -> Option<&'static str> {
        (!self.has_witness).then_some(if self.a > self.b { "a" } else { "b" })
    }
}

impl FromStr for Topology {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let counts: Result<Vec<u8>, _> = text.split('+').map(str::parse).collect();
        let counts =
            counts.map_err(|_| format!("`{text}` is no topology such as 2+2+1, 3+3+1 or 2+1"))?;
        let (a, b, has_witness) =
            match counts[..] {
                [a, b] => (a, b, false),
                [a, b, 1] => (a, b, true),
                [_, _, 0] => {
                    return Err("leave the 0 out: without a witness it is two numbers".to_owned());
                }
                [_, _, _] => return Err("there is one witness: the third number is 1".to_owned()),
                _ => return Err(
                    "name the voters in zone a, in zone b, and 1 for a witness, if there is one"
                        .to_owned(),
                ),
            };
        if !(1..=ZONE_NODES_MAX).contains(&a) || !(1..=ZONE_NODES_MAX).contains(&b) {
            return Err(format!("a zone has 1 to {ZONE_NODES_MAX} data nodes"));
        }
        if has_witness && a != b {
            let zone = if a > b { "a" } else { "b" };
            return Err(format!(
                "losing zone {zone} would leave no majority of the voters, and so stop all changes although there is a \
                 witness: give the zones as many voters each"
            ));
        }
        if !has_witness && a == b {
            return Err(
                "without a witness, equal zones stop changes when either is lost: give the preferred zone one voter more"
                    .to_owned(),
            );
        }
        Ok(Self { a, b, has_witness })
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.a, self.b)?;
        if self.has_witness { f.write_str("+1") } else { Ok(()) }
    }
}

impl TryFrom<String> for Topology {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Topology> for String {
    fn from(topology: Topology) -> Self {
        topology.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Topology {
        text.parse().unwrap()
    }

    #[test]
    fn topologies_are_laid_out_as_they_are_written() {
        let names = |text: &str| {
            parsed(text).nodes().into_iter().map(|(name, ..)| name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names("2+2+1"), "a1 a2 b1 b2 w");
        assert_eq!(names("1+1+1"), "a1 b1 w");
        assert_eq!(names("3+3+1"), "a1 a2 a3 b1 b2 b3 w");
        assert_eq!(names("2+1"), "a1 a2 b1");
        for text in ["2+2+1", "1+1+1", "3+3+1", "2+1", "1+2"] {
            assert_eq!(parsed(text).to_string(), text);
        }
    }

    #[test]
    fn majority_in_one_zone_is_said_where_there_is_no_third_place() {
        assert_eq!(parsed("2+1").preferred_zone(), Some("a"));
        assert_eq!(parsed("1+2").preferred_zone(), Some("b"));
        assert_eq!(parsed("2+2+1").preferred_zone(), None);
    }

    #[test]
    fn topology_that_no_zone_could_be_lost_in_is_refused_with_the_reason() {
        let refused = |text: &str| text.parse::<Topology>().unwrap_err();
        assert!(refused("3+1+1").contains("losing zone a would leave no majority"));
        assert!(refused("2+1+1").contains("losing zone a would leave no majority"));
        assert!(refused("1+2+1").contains("losing zone b would leave no majority"));
        assert!(refused("2+2").contains("equal zones stop changes"));
        assert!(refused("2+2+2").contains("one witness"));
        assert!(refused("2+2+0").contains("two numbers"));
        assert!(refused("5+5+1").contains("1 to 4 data nodes"));
        assert!(refused("0+1").contains("1 to 4 data nodes"));
        for text in ["", "2", "x+y", "2+2+1+1"] {
            assert!(text.parse::<Topology>().is_err(), "{text}");
        }
    }
}
