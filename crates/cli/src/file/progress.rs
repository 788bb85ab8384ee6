//! How far it is, on a terminal: one line on standard error that is drawn again and again.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;
use twinkeep_client::file::Progress;

/// Time between two drawings.
const REDRAW: Duration = Duration::from_millis(100);
/// Before this nothing is drawn: a short call should not flicker.
const QUIET: Duration = Duration::from_millis(300);
/// Cells of the bar itself.
const BAR_CELLS: usize = 20;
/// A name needs as many to say anything.
const NAME_CELLS: usize = 8;
/// Weight of the latest interval in the rate, which would otherwise jump.
const LATEST: f64 = 0.2;

/// Returns what shows progress, if somebody can see it.
pub(super) fn shown(name: String, total: Option<u64>) -> Option<Progress<'static>> {
    let sees = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
    let mut line = Line { name, total, began: Instant::now(), last: None, rate: None };
    sees.then(|| Box::new(move |done| line.tell(done)) as Progress<'static>)
}

/// A line on the terminal; wiped off when it is dropped.
struct Line {
    name: String,
    total: Option<u64>,
    began: Instant,
    /// When it was last drawn, and what was done by then.
    last: Option<(Instant, u64)>,
    /// Bytes a second.
    rate: Option<f64>,
}

impl Line {
    fn tell(&mut self, done: u64) {
        let now = Instant::now();
        let (since, before) = self.last.unwrap_or((self.began, 0));
        let pause = if self.last.is_none() { QUIET } else { REDRAW };
        let passed = now.duration_since(since);
        if passed < pause {
            return;
        }
        let latest = done.saturating_sub(before) as f64 / passed.as_secs_f64();
        let rate = self.rate.map_or(latest, |rate| rate + LATEST * (latest - rate));
        (self.rate, self.last) = (Some(rate), Some((now, done)));
        let width = tcgetwinsize(io::stderr()).map_or(80, |size| usize::from(size.ws_col));
        let width = if width == 0 { 80 } else { width };
        let text = drawn(&self.name, done, self.total, rate, width);
        // Whoever closed the terminal does not end the work.
        let _ = write!(io::stderr(), "\r{text}\x1b[K");
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.last.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// Draws the line in less than `width` cells; what has no room is left out, the bar first.
fn drawn(name: &str, done: u64, total: Option<u64>, rate: f64, width: usize) -> String {
    let figures = match total.filter(|total| *total > 0) {
        Some(total) => {
            let done = done.min(total);
            let percent = u128::from(done) * 100 / u128::from(total);
            let left = left(total - done, rate);
            format!("{percent:>3} %  {} of {}  {}/s{left}", size(done), size(total), rate_of(rate))
        }
        None => format!("{}  {}/s", size(done), rate_of(rate)),
    };
    let room = width.saturating_sub(1);
    let figures: String = figures.chars().take(room).collect();
    let mut text = figures.clone();
    let bar = total.filter(|total| *total > 0).map(|total| bar(done.min(total), total));
    let free = room.saturating_sub(text.chars().count());
    if let Some(bar) = bar.filter(|bar| free >= bar.len() + 2 + NAME_CELLS) {
        text = format!("{bar}  {figures}");
    }
    let free = room.saturating_sub(text.chars().count() + 2);
    match shortened(name, free) {
        Some(name) => format!("{name}  {text}"),
        None => text,
    }
}

fn bar(done: u64, total: u64) -> String {
    let cells = u128::from(done) * BAR_CELLS as u128 / u128::from(total);
    let cells = usize::try_from(cells).unwrap_or(BAR_CELLS);
    format!("[{}{}]", "#".repeat(cells), ".".repeat(BAR_CELLS - cells))
}

/// The end of a name says more than its beginning. Nothing if there is no room to speak of.
fn shortened(name: &str, cells: usize) -> Option<String> {
    let len = name.chars().count();
    if len <= cells {
        return Some(name.to_owned());
    }
    let kept: String = name.chars().skip(len - cells.saturating_sub(1)).collect();
    (cells >= NAME_CELLS).then(|| format!("…{kept}"))
}

fn left(bytes: u64, rate: f64) -> String {
    let seconds = bytes as f64 / rate;
    if !seconds.is_finite() || seconds > 359_999.0 {
        return String::new();
    }
    let seconds = Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("  {minutes}:{seconds:02} left"),
        _ => format!("  {hours}:{minutes:02}:{seconds:02} left"),
    }
}

fn size(bytes: u64) -> String {
    scaled(bytes as f64)
}

fn rate_of(rate: f64) -> String {
    scaled(rate.max(0.0))
}

fn scaled(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut unit = units[0];
    for larger in &units[1..] {
        if value < 1000.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    match unit {
        "B" => format!("{value:.0} B"),
        _ => format!("{value:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn line_says_how_far_how_fast_and_how_long() {
        let text = drawn("report.pdf", 512 * MIB, Some(1024 * MIB), 256.0 * MIB as f64, 90);
        assert_eq!(
            text,
            "report.pdf  [##########..........]   50 %  512.0 MiB of 1.0 GiB  256.0 MiB/s  0:02 left"
        );
    }

    #[test]
    fn pipe_of_unknown_length_has_no_end_to_wait_for() {
        let text = drawn("standard input", 3 * MIB, None, 1000.0, 80);
        assert_eq!(text, "standard input  3.0 MiB  1.0 KiB/s");
    }

    #[test]
    fn no_terminal_is_too_narrow() {
        for width in 0..200 {
            for (done, total) in
                [(0, Some(0)), (7 * MIB, Some(9 * MIB)), (u64::MAX, Some(1)), (5, None)]
            {
                let text = drawn("größe/of/a/long/name.tar.gz", done, total, 0.0, width);
                assert!(text.chars().count() < width.max(1), "{width}: {text}");
            }
        }
    }

    #[test]
    fn name_is_cut_at_its_beginning() {
        assert_eq!(shortened("report.pdf", 10).as_deref(), Some("report.pdf"));
        assert_eq!(shortened("report.pdf", 9).as_deref(), Some("…port.pdf"));
        assert_eq!(shortened("report.pdf", 7), None);
    }

    #[test]
    fn times_and_sizes_are_as_people_write_them() {
        assert_eq!(left(3600, 1.0), "  1:00:00 left");
        assert_eq!(left(61, 1.0), "  1:01 left");
        assert_eq!(left(1, 0.0), "");
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1000), "1.0 KiB");
        assert_eq!(size(10 << 30), "10.0 GiB");
    }
}
