//! Where something that was taken away may still be used.

use std::io::{self, Write};

use serde::Serialize;
use twinkeep_client::v1;

use crate::output::time;

/// What a disable or a revocation has come to.
#[derive(Debug, Serialize)]
pub(crate) struct Effect {
    effective_everywhere: bool,
    /// Empty when effective everywhere: a document has the same fields whatever the cluster is doing.
    pending_in: Vec<Pending>,
}

#[derive(Debug, Serialize)]
struct Pending {
    zone: String,
    until: String,
}

impl Effect {
    pub(crate) fn of(effective_everywhere: bool, pending_in: Vec<v1::PendingZone>) -> Self {
        let pending = |pending: v1::PendingZone| Pending {
            zone: pending.zone,
            until: time(pending.until_unix_ms),
        };
        let pending_in = pending_in.into_iter().map(pending).collect();
        Self { effective_everywhere, pending_in }
    }

    /// Writes it as lines of a table.
    pub(crate) fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.effective_everywhere {
            return writeln!(out, "effective    everywhere");
        }
        for Pending { zone, until } in &self.pending_in {
            writeln!(
                out,
                "effective    NOT in {zone}: a node there hears nothing and may go on until {until} at the latest"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(effect: &Effect) -> String {
        let mut out = Vec::new();
        effect.table(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn zone_that_may_go_on_is_named_with_its_end() {
        assert_eq!(table(&Effect::of(true, Vec::new())), "effective    everywhere\n");
        let until_unix_ms = 1_800_000_000_000;
        let pending = vec![v1::PendingZone { zone: "zone-b".to_owned(), until_unix_ms }];
        assert_eq!(
            table(&Effect::of(false, pending)),
            "effective    NOT in zone-b: a node there hears nothing and may go on until 2027-01-15T08:00:00Z at \
             the latest\n"
        );
    }
}
