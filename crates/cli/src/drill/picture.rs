//! A drill as a picture: promises, moments, and panels over one axis of time. Plain SVG, drawn for a white page.
//!
//! Each tenth of a second is a column: how many calls were answered in it, and how long those took that were due in it.

use std::time::{Duration, Instant};

use twinkeep_client::v1::{Durability, ReplicationMode};
use twinkeep_report::Report;

use super::figures::Promise;
use super::marks::{self, Kind, Mark};
use super::story::Story;
use super::svg::{AMBER, BAD, CALLS, FAINT, GOOD, INK, LATE};
use super::svg::{LEFT, PANEL, RIGHT, Svg, WIDTH, ms_height};
use crate::dev::load::{ms, percentile_ms};
use crate::dev::loss::How;

/// Width of a column.
const COLUMN: Duration = Duration::from_millis(100);
/// Sizes in pixels.
const TILES_TOP: f64 = 72.0;
const TILES_HEIGHT: f64 = 72.0;
const MARKS_TOP: f64 = 168.0;
const MARK_ROW: f64 = 17.0;
const STRIP: f64 = 20.0;
const SPACE: f64 = 26.0;
/// Least room between two names of an axis.
const GRID_MIN: f64 = 14.0;
/// The promise of 99.9 % of the calls.
const CALLS_MS: f64 = 60.0;

/// Draws a drill.
pub(super) fn draw(story: &Story, promises: &[Promise], report: &Report) -> String {
    let axis = Axis::of(story);
    let all = marks::marks(story);
    let xs: Vec<f64> = all.iter().map(|mark| axis.x(mark.at_s)).collect();
    let names: Vec<&str> = all.iter().map(|mark| mark.name.as_str()).collect();
    let places = marks::places(&xs, &names, RIGHT);
    let rows = places.iter().map(|place| place.row + 1).max().unwrap_or(0);
    let strips = MARKS_TOP + MARK_ROW * f64::from(u32::try_from(rows).unwrap_or(0)) + 10.0;
    let rate = strips + 2.0 * (STRIP + 6.0) + SPACE;
    let (late, writes) = (rate + PANEL + SPACE, rate + 2.0 * (PANEL + SPACE));
    let bottom = writes + PANEL;
    let height = bottom + 58.0;

    let mut svg = Svg::new(height);
    head(&mut svg, story, report);
    tiles(&mut svg, promises);
    let (from, to) = (axis.x(0.0), axis.x(axis.seconds(story.back)));
    svg.rect((from, strips), (to - from, bottom - strips), BAD, 0.06);
    who_and_mode(&mut svg, story, &axis, strips);
    answered(&mut svg, story, &axis, rate);
    times(&mut svg, story, &axis, late);
    control_writes(&mut svg, story, &axis, writes);
    for ((mark, x), place) in all.iter().zip(&xs).zip(&places) {
        let y = MARKS_TOP + MARK_ROW * f64::from(u32::try_from(place.row).unwrap_or(0));
        let (dx, anchor) = if place.right { (5.0, "start") } else { (-5.0, "end") };
        svg.line((*x, y - 10.0), (*x, bottom), colour(mark), dash(mark));
        svg.text((x + dx, y), 12.0, colour(mark), anchor, &mark.name);
    }
    seconds(&mut svg, &axis, bottom);
    svg.end()
}

fn colour(mark: &Mark) -> &'static str {
    match mark.kind {
        Kind::Bad => BAD,
        Kind::Good => GOOD,
        Kind::Change => AMBER,
    }
}

fn dash(mark: &Mark) -> &'static str {
    if mark.kind == Kind::Bad { "" } else { "3 3" }
}

/// Time, from left to right; 0 is the loss.
struct Axis {
    zero: Instant,
    from: f64,
    to: f64,
}

impl Axis {
    fn of(story: &Story) -> Self {
        let mut axis = Self { zero: story.lost.0, from: 0.0, to: 0.0 };
        let columns = |at| axis.seconds(at) / COLUMN.as_secs_f64();
        // Columns that the load fills in part alone are left out.
        let (first, end) = (columns(story.began).ceil(), columns(story.ended).floor());
        axis.from = first * COLUMN.as_secs_f64();
        axis.to = end.max(first + 1.0) * COLUMN.as_secs_f64();
        axis
    }

    fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.zero).as_secs_f64()
            - self.zero.saturating_duration_since(at).as_secs_f64()
    }

    /// A moment outside stands at the edge.
    fn x(&self, seconds: f64) -> f64 {
        let share = (seconds - self.from) / (self.to - self.from);
        LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    /// Returns the columns: where each begins, in seconds.
    fn columns(&self) -> impl Iterator<Item = f64> {
        let width = COLUMN.as_secs_f64();
        let (first, end) = ((self.from / width).round(), (self.to / width).round());
        (0_u32..)
            .map(move |n| first + f64::from(n))
            .take_while(move |n| *n < end)
            .map(move |n| n * width)
    }

    /// Returns the column that a moment is in, if it is one of these.
    fn column(&self, at: Instant) -> Option<usize> {
        let width = COLUMN.as_secs_f64();
        let place = (self.seconds(at) / width).floor() - (self.from / width).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a column of a drill of minutes, checked not to be negative"
        )]
        (place >= 0.0).then_some(place as usize)
    }
}

fn head(svg: &mut Svg, story: &Story, report: &Report) {
    let Story { zone, leader, rate, .. } = story;
    let how = match story.how {
        How::Kill => "is killed",
        How::Silent => "falls silent",
    };
    let with = if story.led_there { "with the leader in it" } else { "the leader is elsewhere" };
    svg.text((24.0, 34.0), 20.0, INK, "start", &format!("Zone {zone} {how}, {with}"));
    let seconds = (story.back - story.lost.0).as_secs_f64();
    let what = format!(
        "lost for {seconds:.1} s · {leader} led before · {rate} calls/s through the client library, one new key after another · {} at {}",
        report.machine(),
        report.commit()
    );
    svg.text((24.0, 55.0), 12.0, FAINT, "start", &what);
}

/// The promises, each with its figure.
fn tiles(svg: &mut Svg, promises: &[Promise]) {
    let count = f64::from(u32::try_from(promises.len()).unwrap_or(1));
    let width = (WIDTH - 48.0) / count;
    for (place, promise) in (0_u32..).map(f64::from).zip(promises) {
        let x = 24.0 + width * place;
        let Promise { short, value, unit, at_most, .. } = promise;
        let holds = value <= at_most;
        let colour = if holds { GOOD } else { BAD };
        let value = match *unit {
            "ms" if value.is_nan() => "never".to_owned(),
            "ms" if *value < 10.0 => format!("{value:.1} ms"),
            "ms" => format!("{value:.0} ms"),
            _ => format!("{value:.0}"),
        };
        svg.rect((x, TILES_TOP), (width - 10.0, TILES_HEIGHT), colour, 0.08);
        svg.rect((x, TILES_TOP), (4.0, TILES_HEIGHT), colour, 1.0);
        svg.text((x + 14.0, TILES_TOP + 25.0), 19.0, colour, "start", &value);
        svg.text((x + 14.0, TILES_TOP + 44.0), 12.0, INK, "start", short);
        let verdict = if holds { "holds" } else { "MISSED" };
        let promised = match *at_most > 0.0 {
            true => format!("at most {at_most:.0} {unit}"),
            false => "none".to_owned(),
        };
        let promised = format!("promised: {promised}");
        svg.text((x + 14.0, TILES_TOP + 61.0), 11.0, FAINT, "start", &promised);
        svg.text((x + width - 18.0, TILES_TOP + 23.0), 12.0, colour, "end", verdict);
    }
}

/// Who leads, and what is promised of changes.
fn who_and_mode(svg: &mut Svg, story: &Story, axis: &Axis, top: f64) {
    let (lost, _) = story.lost;
    let mut leaders: Vec<(Instant, &str, &str)> =
        story.leaders().into_iter().map(|(at, node)| (at, node, CALLS)).collect();
    if story.led_there {
        leaders.push((lost, "", BAD));
        leaders.sort_by_key(|(at, ..)| *at);
    }
    strip(svg, story, axis, top, "leader", &leaders);
    let named = |mode| match mode {
        ReplicationMode::Sync => ("Sync", GOOD),
        ReplicationMode::Degraded => ("Degraded", AMBER),
        ReplicationMode::Recovering => ("Recovering", CALLS),
        ReplicationMode::Unspecified => ("none", FAINT),
    };
    let modes = story.modes().into_iter().map(|(at, mode)| {
        let (name, colour) = named(mode);
        (at, name, colour)
    });
    strip(svg, story, axis, top + STRIP + 6.0, "mode", &modes.collect::<Vec<_>>());
}

fn strip(
    svg: &mut Svg,
    story: &Story,
    axis: &Axis,
    top: f64,
    name: &str,
    parts: &[(Instant, &str, &str)],
) {
    svg.text((LEFT - 10.0, top + 14.0), 12.0, FAINT, "end", name);
    for (place, (at, what, colour)) in parts.iter().enumerate() {
        let end = parts.get(place + 1).map_or(story.ended, |(at, ..)| *at);
        let (from, to) = (axis.x(axis.seconds(*at)), axis.x(axis.seconds(end)));
        svg.rect((from, top), ((to - from).max(0.5), STRIP), colour, 0.25);
        // A name that does not fit is told by its mark and its colour.
        if to - from > 60.0 {
            svg.text(((from + to) / 2.0, top + 14.0), 12.0, INK, "middle", what);
        }
    }
}

/// How many calls were answered, and how many failed.
fn answered(svg: &mut Svg, story: &Story, axis: &Axis, top: f64) {
    let columns: Vec<f64> = axis.columns().collect();
    let (mut answered, mut failed) = (vec![0_u32; columns.len()], vec![0_u32; columns.len()]);
    for call in &story.calls {
        let counts = if call.failed.is_some() { &mut failed } else { &mut answered };
        if let Some(count) = axis.column(call.ended()).and_then(|place| counts.get_mut(place)) {
            *count += 1;
        }
    }
    let a_second = |count: u32| f64::from(count) / COLUMN.as_secs_f64();
    let most = answered.iter().copied().map(a_second).fold(f64::from(story.rate) * 1.2, f64::max);
    let height = |rate: f64| PANEL * rate / most;
    svg.panel(top, "calls answered a second", "red: failed");
    for share in [0.5, 1.0] {
        let rate = f64::from(story.rate) * share;
        // After a stall a column may be so high that this is on the floor.
        if share < 1.0 && height(rate) < GRID_MIN {
            continue;
        }
        svg.grid(top + PANEL - height(rate), &format!("{rate:.0}"), share == 1.0);
    }
    for ((from, answered), failed) in columns.iter().zip(&answered).zip(&failed) {
        let (x, width) = axis.span(*from);
        let (ok, not) = (height(a_second(*answered)), height(a_second(*failed)));
        svg.rect((x, top + PANEL - ok), (width, ok), CALLS, 0.75);
        if *failed > 0 {
            // A single one has to be seen.
            let not = not.max(4.0);
            svg.rect((x, (top + PANEL - ok - not).max(top)), (width, not), BAD, 1.0);
        }
    }
}

/// How long calls took.
fn times(svg: &mut Svg, story: &Story, axis: &Axis, top: f64) {
    let columns: Vec<f64> = axis.columns().collect();
    let mut took = vec![Vec::new(); columns.len()];
    for call in &story.calls {
        if let Some(times) = axis.column(call.due).and_then(|place| took.get_mut(place)) {
            times.push(Some(call.took));
        }
    }
    svg.panel(top, "p99 of the calls due, ms", "light: the longest");
    svg.ms_axis(top);
    for (from, took) in columns.iter().zip(took) {
        let (x, width) = axis.span(*from);
        for (per_mille, colour) in [(1000, LATE), (990, CALLS)] {
            let height = ms_height(percentile_ms(took.iter().copied(), per_mille));
            svg.rect((x, top + PANEL - height), (width, height), colour, 1.0);
        }
    }
    let y = top + PANEL - ms_height(CALLS_MS);
    svg.line((LEFT, y), (RIGHT, y), BAD, "6 4");
    svg.text((RIGHT - 4.0, y - 4.0), 11.0, BAD, "end", "60 ms promised for 99.9 %");
}

/// Each control write: when it was answered, and how long it took.
fn control_writes(svg: &mut Svg, story: &Story, axis: &Axis, top: f64) {
    svg.panel(top, "new keys: time to the answer, ms", "");
    svg.ms_axis(top);
    let kinds = [
        (GOOD, "in every zone"),
        (AMBER, "without the lost zone, or one copy outside"),
        (BAD, "failed"),
    ];
    let mut x = RIGHT;
    for (colour, name) in kinds.into_iter().rev() {
        svg.text((x, top - 7.0), 11.0, FAINT, "end", name);
        let width = f64::from(u32::try_from(name.chars().count()).unwrap_or(0)) * 5.6;
        svg.dot((x - width - 8.0, top - 11.0), 3.5, colour);
        x -= width + 28.0;
    }
    for write in story.writes.iter().filter(|write| axis.seconds(write.ended) >= axis.from) {
        let colour = match &write.made {
            Err(_) => BAD,
            Ok(made) if made.durability == Durability::EveryZone => GOOD,
            Ok(_) => AMBER,
        };
        let height = ms_height(ms(write.ended - write.sent));
        let (from, to) = (axis.x(axis.seconds(write.sent)), axis.x(axis.seconds(write.ended)));
        if to - from > 6.0 {
            svg.line((from, top + PANEL - height), (to, top + PANEL - height), colour, "");
        }
        svg.dot((to, top + PANEL - height), 2.2, colour);
    }
}

fn seconds(svg: &mut Svg, axis: &Axis, bottom: f64) {
    let steps = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0];
    let step = steps.into_iter().find(|step| (axis.to - axis.from) / step <= 16.0).unwrap_or(300.0);
    let first = (axis.from / step).ceil();
    for at in (0_u32..).map(|n| (first + f64::from(n)) * step).take_while(|at| *at <= axis.to) {
        let x = axis.x(at);
        svg.line((x, bottom), (x, bottom + 5.0), FAINT, "");
        svg.text((x, bottom + 20.0), 12.0, FAINT, "middle", &format!("{at:.0}"));
    }
    svg.text(
        ((LEFT + RIGHT) / 2.0, bottom + 42.0),
        12.0,
        FAINT,
        "middle",
        "seconds since the loss",
    );
}

impl Axis {
    /// Returns the left edge of a column and its width, with a little room to the next.
    fn span(&self, from: f64) -> (f64, f64) {
        let (left, right) = (self.x(from), self.x(from + COLUMN.as_secs_f64()));
        (left, (right - left - 0.6).max(0.2))
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::promises;
    use super::super::keys::Disabled;
    use super::super::story::tests::story;
    use super::*;

    fn drawn(story: &Story) -> String {
        let took = vec![Some(Duration::from_millis(5)); 100];
        let promises = promises(story, 0, &Disabled { took, used_after: 0 });
        draw(story, &promises, &Report::new())
    }

    #[test]
    fn picture_has_every_mark_every_write_and_the_verdicts() {
        let story = story();
        let svg = drawn(&story);
        for mark in marks::marks(&story) {
            assert!(svg.contains(&format!(">{}</text>", mark.name)), "{} is missing", mark.name);
        }
        // Three dots are the legend's.
        assert_eq!(svg.matches("<circle ").count(), story.writes.len() + 3);
        assert_eq!(svg.matches(">holds<").count(), 6);
        assert!(!svg.contains("NaN") && !svg.contains("inf") && svg.ends_with("</svg>\n"));
        if let Some(path) = std::env::var_os("TWINKEEP_TEST_PICTURE") {
            std::fs::write(path, svg).unwrap();
        }
    }

    #[test]
    fn single_failed_call_is_seen_and_a_miss_is_named() {
        let mut story = story();
        let red = |svg: &str| svg.matches(&format!("fill=\"{BAD}\" fill-opacity=\"1\"")).count();
        let before = red(&drawn(&story));
        story.calls[3500].failed = Some("no node".to_owned());
        let svg = drawn(&story);
        // The column's and the tile's edge.
        assert_eq!(red(&svg), before + 2);
        assert!(svg.contains(">MISSED<"));
    }

    #[test]
    fn column_is_a_tenth_of_a_second_counted_from_the_loss() {
        let axis = Axis::of(&story());
        let columns: Vec<f64> = axis.columns().collect();
        assert_eq!(columns.len(), 100);
        let place = |ms: u64| axis.column(axis.zero + Duration::from_millis(ms)).unwrap();
        assert_eq!((place(0), place(99), place(101)), (30, 30, 31));
        assert!(columns[30].abs() < 1e-9, "{}", columns[30]);
    }
}
