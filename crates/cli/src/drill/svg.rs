//! The strokes of a picture: plain SVG, and panels with their axes.

use std::fmt::Write as _;

/// Sizes in pixels: the page, the edges of panels, and how high one is.
pub(super) const WIDTH: f64 = 1200.0;
pub(super) const LEFT: f64 = 96.0;
pub(super) const RIGHT: f64 = 1176.0;
pub(super) const PANEL: f64 = 130.0;
/// Times from here to there are told apart, in milliseconds; the axis is logarithmic.
const MS_MIN: f64 = 0.5;
const MS_MAX: f64 = 2000.0;

pub(super) const INK: &str = "#1b1f24";
pub(super) const FAINT: &str = "#57606a";
const RULE: &str = "#d8dee4";
pub(super) const GOOD: &str = "#2f7d5b";
pub(super) const BAD: &str = "#c2412d";
pub(super) const CALLS: &str = "#5b84b1";
pub(super) const LATE: &str = "#a9bfd8";
pub(super) const AMBER: &str = "#b7791f";

/// The text of a picture that grows.
pub(super) struct Svg {
    body: String,
    /// What is written over all lines.
    names: String,
}

impl Svg {
    pub(super) fn new(height: f64) -> Self {
        let body = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"system-ui, 'DejaVu Sans', sans-serif\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
        );
        Self { body, names: String::new() }
    }

    pub(super) fn end(self) -> String {
        self.body + &self.names + "</svg>\n"
    }

    pub(super) fn rect(
        &mut self,
        (x, y): (f64, f64),
        (width, height): (f64, f64),
        colour: &str,
        opacity: f64,
    ) {
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\" fill-opacity=\"{opacity}\"/>"
        );
    }

    pub(super) fn line(
        &mut self,
        (x1, y1): (f64, f64),
        (x2, y2): (f64, f64),
        colour: &str,
        dash: &str,
    ) {
        let dash =
            if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
        let _ = writeln!(
            self.body,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"{dash}/>"
        );
    }

    pub(super) fn dot(&mut self, (x, y): (f64, f64), radius: f64, colour: &str) {
        let _ = writeln!(
            self.body,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"/>"
        );
    }

    /// Writes text; where lines are in its way, they end short of it.
    pub(super) fn text(
        &mut self,
        (x, y): (f64, f64),
        size: f64,
        colour: &str,
        anchor: &str,
        text: &str,
    ) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let _ = writeln!(
            self.names,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{colour}\" text-anchor=\"{anchor}\" \
             stroke=\"#ffffff\" stroke-opacity=\"0.8\" stroke-width=\"3\" paint-order=\"stroke\">{text}</text>"
        );
    }

    pub(super) fn panel(&mut self, top: f64, name: &str, aside: &str) {
        self.text((LEFT, top - 7.0), 12.0, INK, "start", name);
        self.text((RIGHT, top - 7.0), 11.0, FAINT, "end", aside);
        self.line((LEFT, top + PANEL), (RIGHT, top + PANEL), FAINT, "");
    }

    pub(super) fn grid(&mut self, y: f64, name: &str, strong: bool) {
        self.line((LEFT, y), (RIGHT, y), if strong { LATE } else { RULE }, "");
        self.text((LEFT - 10.0, y + 4.0), 11.0, FAINT, "end", name);
    }

    pub(super) fn ms_axis(&mut self, top: f64) {
        for ms in [1.0, 10.0, 100.0, 1000.0] {
            self.grid(top + PANEL - ms_height(ms), &format!("{ms:.0}"), false);
        }
    }
}

/// Returns how high a time stands, in pixels; nothing for no time.
pub(super) fn ms_height(ms: f64) -> f64 {
    if ms.is_nan() {
        return 0.0;
    }
    PANEL * (ms.clamp(MS_MIN, MS_MAX) / MS_MIN).ln() / (MS_MAX / MS_MIN).ln()
}
