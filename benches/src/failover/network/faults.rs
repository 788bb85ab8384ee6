//! What goes wrong on the way: packet filters in the router, which drop without a word.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context, ensure};

use super::namespace::{Namespace, output_of};
use super::subnet;

/// The only table in the router. It is named before it is deleted, so that it need not be there.
const CLEAR: &str = "table inet faults\ndelete table inet faults\n";

/// Packets that do not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault<'a> {
    /// All to and from a zone. Its nodes still hear each other.
    Silent(&'a str),
    /// Those between two zones. Everybody else sees both.
    Cut(&'a str, &'a str),
}

impl Fault<'_> {
    fn rules(self) -> anyhow::Result<[String; 2]> {
        Ok(match self {
            Self::Silent(zone) => {
                let net = subnet(zone)?;
                [format!("ip saddr {net}"), format!("ip daddr {net}")]
            }
            Self::Cut(one, other) => {
                let (one, other) = (subnet(one)?, subnet(other)?);
                [
                    format!("ip saddr {one} ip daddr {other}"),
                    format!("ip saddr {other} ip daddr {one}"),
                ]
            }
        })
    }

    fn table(self) -> anyhow::Result<String> {
        let [there, back] = self.rules()?;
        Ok(format!(
            "{CLEAR}table inet faults {{\n chain forward {{\n  type filter hook forward priority 0; policy accept;\n  \
             {there} counter drop\n  {back} counter drop\n }}\n}}\n"
        ))
    }
}

/// Injects a fault; the one before ends.
pub(super) fn inject(router: &Namespace, fault: Fault<'_>) -> anyhow::Result<()> {
    nft(router, &fault.table()?)
}

/// Ends the fault and returns how many packets it dropped.
pub(super) fn heal(router: &Namespace) -> anyhow::Result<u64> {
    // Everything: the table need not be there.
    let listed = output_of(router.command("nft").args(["list", "ruleset"]))?;
    nft(router, CLEAR)?;
    Ok(dropped(&listed))
}

/// Adds up the counters of a table as `nft list` prints it.
fn dropped(listed: &str) -> u64 {
    let counts = listed.split("packets ").skip(1);
    counts.filter_map(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).sum()
}

fn nft(router: &Namespace, script: &str) -> anyhow::Result<()> {
    let mut command = router.command("nft");
    let mut child = command
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run nft: `scripts/setup bench` installs it")?;
    // Dropped at the end of the statement, which closes it.
    child.stdin.take().context("nft has no standard input")?.write_all(script.as_bytes())?;
    let output = child.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft refused the packet filters: {}", complaint.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_zone_neither_sends_nor_receives_and_a_cut_leaves_the_witness_alone() {
        let silent = Fault::Silent("a").table().unwrap();
        assert!(silent.contains("ip saddr 10.66.1.0/24 counter drop"), "{silent}");
        assert!(silent.contains("ip daddr 10.66.1.0/24 counter drop"), "{silent}");
        let cut = Fault::Cut("a", "b").table().unwrap();
        assert!(cut.contains("ip saddr 10.66.1.0/24 ip daddr 10.66.2.0/24 counter drop"), "{cut}");
        assert!(cut.contains("ip saddr 10.66.2.0/24 ip daddr 10.66.1.0/24 counter drop"), "{cut}");
        assert!(!cut.contains("10.66.3.0"), "{cut}");
        assert!(Fault::Silent("c").table().is_err());
    }

    #[test]
    fn dropped_packets_of_both_directions_are_added_up() {
        let listed = "ip saddr 10.66.1.0/24 counter packets 12 bytes 700 drop\n\
                      ip daddr 10.66.1.0/24 counter packets 3 bytes 180 drop\n";
        assert_eq!(dropped(listed), 15);
        assert_eq!(dropped(""), 0);
    }
}
