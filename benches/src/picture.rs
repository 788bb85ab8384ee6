//! The ratios as a bar chart: `reports/bench.svg`.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use twinkeep_report::{Figure, Report, Target};

/// Sizes in pixels.
const NAMES_WIDTH: f64 = 380.0;
const BARS_WIDTH: f64 = 440.0;
const VALUE_WIDTH: f64 = 90.0;
const ROW_HEIGHT: f64 = 24.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 24.0;
/// The ratio at the right edge; longer bars are cut there.
const RATIO_MAX: f64 = 2.0;

/// Colours that are told apart in grey too.
const HOLDS: &str = "#2f7d5b";
const MISSED: &str = "#c2412d";
const SHOWN: &str = "#7d93ad";

/// Draws the ratios of a report into a folder and returns the file's path.
pub(crate) fn write(report: &Report, folder: &Path) -> io::Result<PathBuf> {
    let path = folder.join("bench.svg");
    std::fs::write(&path, draw(report))?;
    Ok(path)
}

fn draw(report: &Report) -> String {
    let ratios: Vec<_> = report.figures().iter().filter(|figure| figure.unit() == "×").collect();
    let width = NAMES_WIDTH + BARS_WIDTH + VALUE_WIDTH;
    let bars_height = ROW_HEIGHT * f64::from(u32::try_from(ratios.len()).unwrap_or(u32::MAX));
    let height = TOP + bars_height + BOTTOM;
    let one = NAMES_WIDTH + BARS_WIDTH / RATIO_MAX;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"16\" fill=\"#1b1f24\">Twinkeep beside its yardsticks: ratios, more is better unless the target says at most</text>\n\
         <text x=\"16\" y=\"44\" fill=\"#57606a\">{} at {}; a tick is the target, the line is 1</text>\n",
        escape(report.machine()),
        escape(report.commit()),
    );
    for (row, figure) in (0_u32..).zip(&ratios) {
        bar(&mut svg, TOP + ROW_HEIGHT * f64::from(row), figure);
    }
    let _ = writeln!(
        svg,
        "<line x1=\"{one}\" x2=\"{one}\" y1=\"{TOP}\" y2=\"{}\" stroke=\"#57606a\" stroke-dasharray=\"3 3\"/>",
        TOP + bars_height,
    );
    svg + "</svg>\n"
}

fn bar(svg: &mut String, top: f64, figure: &Figure) {
    let place = |ratio: f64| BARS_WIDTH * ratio.clamp(0.0, RATIO_MAX) / RATIO_MAX;
    let (colour, target) = match figure.target() {
        Target::None => (SHOWN, None),
        Target::AtLeast(limit) | Target::AtMost(limit) => {
            (if figure.holds() { HOLDS } else { MISSED }, Some(limit))
        }
    };
    let (text_y, bar_height) = (top + 15.0, ROW_HEIGHT - 8.0);
    let bar_width = if figure.value().is_finite() { place(figure.value()) } else { 0.0 };
    let verdict = match target {
        Some(_) if !figure.holds() => " short",
        _ => "",
    };
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"{text_y}\" text-anchor=\"end\" fill=\"#1b1f24\">{}</text>\n\
         <rect x=\"{NAMES_WIDTH}\" y=\"{}\" width=\"{bar_width:.1}\" height=\"{bar_height}\" fill=\"{colour}\"/>\n\
         <text x=\"{:.1}\" y=\"{text_y}\" fill=\"#1b1f24\">{:.2}{verdict}</text>\n",
        NAMES_WIDTH - 10.0,
        escape(figure.name()),
        top + 3.0,
        NAMES_WIDTH + bar_width + 6.0,
        figure.value(),
    );
    if let Some(limit) = target {
        let x = NAMES_WIDTH + place(limit);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{}\" stroke=\"#1b1f24\" stroke-width=\"2\"/>",
            top + 1.0,
            top + ROW_HEIGHT - 3.0,
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ratio_has_a_bar_and_other_figures_have_none() {
        let mut report = Report::new();
        report.add("a < b", 0.9, "×", Target::AtLeast(0.85));
        report.add("missed", f64::NAN, "×", Target::AtLeast(0.85));
        report.add("a rate", 12_345.0, "/s", Target::None);
        let svg = draw(&report);
        assert_eq!(svg.matches("<rect x=").count(), 2, "{svg}");
        assert!(svg.contains("a &lt; b") && !svg.contains("a rate"));
        assert!(svg.contains(MISSED) && svg.contains(HOLDS));
    }
}
