//! The moments that stand out in a picture, and where their names are written.

use twinkeep_client::v1::ReplicationMode;

use super::story::Story;
use crate::dev::load::ms;
use crate::dev::loss::How;

/// Width of a letter of a name, roughly, in pixels.
const LETTER: f64 = 6.3;
/// Room between two names of a row, and between a name and its line.
const GAP: f64 = 14.0;
const INDENT: f64 = 5.0;

/// A moment with a name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mark {
    /// Seconds since the loss.
    pub(super) at_s: f64,
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// What a mark says by its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Something was lost, or failed.
    Bad,
    /// Something works again.
    Good,
    /// Something is otherwise than before.
    Change,
}

/// Where a name is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place {
    /// The row, 0 is the highest.
    pub(super) row: usize,
    /// Whether the name stands to the right of its line, or else ends at it.
    pub(super) right: bool,
}

/// Returns the moments of a story, in order.
pub(super) fn marks(story: &Story) -> Vec<Mark> {
    let (lost, _) = story.lost;
    let zone = &story.zone;
    let at_s = |at: std::time::Instant| {
        at.saturating_duration_since(lost).as_secs_f64()
            - lost.saturating_duration_since(at).as_secs_f64()
    };
    let mut marks = Vec::new();
    let mut mark = |at: Option<std::time::Instant>, kind, name: String| {
        let after = |at_s: f64| match at_s >= 0.005 {
            true => format!("{name} +{at_s:.2} s"),
            false => name.clone(),
        };
        marks.extend(at.map(at_s).map(|at_s| Mark { at_s, name: after(at_s), kind }));
    };
    let what = match story.how {
        How::Kill => "killed",
        How::Silent => "silent",
    };
    mark(Some(lost), Kind::Bad, format!("zone {zone} {what}"));
    if let Some(call) = story.first_failed() {
        mark(Some(call.ended()), Kind::Bad, "first failed call".to_owned());
    }
    if let Some(call) = story.first_slow() {
        let name = format!("first slow call, {:.0} ms", ms(call.took));
        mark(Some(call.due.max(lost)), Kind::Change, name);
    }
    if let Some((at, node)) = story.new_leader() {
        mark(Some(at), Kind::Good, format!("{node} leads"));
    }
    mark(story.writes_again(), Kind::Good, "first control write".to_owned());
    mark(story.reached(ReplicationMode::Degraded, lost), Kind::Change, "mode Degraded".to_owned());
    let back = match story.how {
        How::Kill => format!("zone {zone} started"),
        How::Silent => format!("zone {zone} goes on"),
    };
    mark(Some(story.back), Kind::Good, back);
    mark(story.in_sync(), Kind::Good, "mode Sync".to_owned());
    marks.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    marks
}

/// Finds places for names beside lines at `xs`, which are in order, so that none is written over another one or over the
/// right edge. A name stands in the highest row that has room.
pub(super) fn places(xs: &[f64], names: &[&str], edge: f64) -> Vec<Place> {
    // Where each row is free from.
    let mut rows: Vec<f64> = Vec::new();
    let place = |(x, name): (&f64, &&str)| {
        let width = f64::from(u32::try_from(name.chars().count()).unwrap_or(u32::MAX)) * LETTER;
        let right = x + INDENT + width <= edge;
        let (from, to) = match right {
            true => (*x, x + INDENT + width + GAP),
            false => (x - INDENT - width, x + GAP),
        };
        let row = rows.iter().position(|free| *free <= from).unwrap_or(rows.len());
        match rows.get_mut(row) {
            Some(free) => *free = to,
            None => rows.push(to),
        }
        Place { row, right }
    };
    xs.iter().zip(names).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::super::story::tests::story;
    use super::*;

    #[test]
    fn every_moment_has_its_mark_in_order() {
        let names: Vec<_> = marks(&story()).into_iter().map(|mark| mark.name).collect();
        assert_eq!(
            names,
            [
                "zone a silent",
                "first slow call, 23 ms",
                "b1 leads +0.53 s",
                "first control write +0.54 s",
                "mode Degraded +0.55 s",
                "zone a goes on +5.00 s",
                "mode Sync +5.70 s",
            ]
        );
        let mut failing = story();
        failing.calls[3100].failed = Some("no node".to_owned());
        assert!(marks(&failing).iter().any(|mark| mark.name.starts_with("first failed call +0.1")));
    }

    #[test]
    fn names_beside_each_other_get_rows_of_their_own_and_stay_within_the_edge() {
        let places = places(
            &[10.0, 12.0, 300.0, 390.0],
            &["a long name", "second", "third", "at the end"],
            400.0,
        );
        let rows: Vec<_> = places.iter().map(|place| place.row).collect();
        assert_eq!(rows, [0, 1, 0, 1]);
        assert_eq!(
            places.iter().map(|place| place.right).collect::<Vec<_>>(),
            [true, true, true, false]
        );
    }
}
