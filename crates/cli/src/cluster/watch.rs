//! `twinkeep cluster watch`: the picture, drawn anew at an interval.
//!
//! On a terminal each picture is written over the last one, without a second screen, so that the last one
//! stays when the command ends. In a pipe a line is appended for each look, or a document.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use twinkeep_client::{Client, Error};

use super::picture::sign;
use super::status::{Status, Zone};
use crate::context::Context;
use crate::output::{Format, Show, plain, show_next, time};
use crate::screen::Screen;

/// Longest interval: an hour.
const INTERVAL_MAX_S: f64 = 3600.0;
/// Shortest interval: each look is a call to every node.
const INTERVAL_MIN_S: f64 = 0.1;
/// Longest wait for a look.
const LOOK_LIMIT: Duration = Duration::from_secs(3);

const HIDE_CURSOR: &str = "\u{1b}[?25l";
const SHOW_CURSOR: &str = "\u{1b}[?25h";
const CLEAR: &str = "\u{1b}[2J";
const HOME: &str = "\u{1b}[H";
const REST_OF_LINE: &str = "\u{1b}[K";
const REST_OF_SCREEN: &str = "\u{1b}[J";

/// Watches the cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Watch {
    /// Time between two looks.
    #[arg(long, short, value_name = "SECONDS", value_parser = seconds, default_value = "1")]
    interval: Duration,
    /// Ends after so many looks; without it, when it is interrupted.
    #[arg(long, short, value_name = "LOOKS")]
    count: Option<u64>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    match (INTERVAL_MIN_S..=INTERVAL_MAX_S).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(format!("name {INTERVAL_MIN_S} to {INTERVAL_MAX_S} seconds")),
    }
}

/// What one look brought.
type Look = Result<Status, Error>;

impl Watch {
    /// Looks until it is interrupted, or often enough; fails if the last look did.
    pub(super) async fn run(self, context: &Context, client: &Client) -> anyhow::Result<()> {
        let client = client.with_deadline(LOOK_LIMIT);
        let mut stop = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut tick = interval(self.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let live = context.format() == Format::Table && io::stdout().is_terminal();
        let live = live.then(Live::begin).transpose()?;
        let mut failed = None;
        let mut looks = 0;
        while self.count.is_none_or(|count| looks < count) {
            let look = async {
                tick.tick().await;
                Status::of(&client, context.pinned().is_some()).await
            };
            let look = tokio::select! {
                look = look => look,
                _ = stop.0.recv() => return Ok(()),
                _ = stop.1.recv() => return Ok(()),
            };
            failed = look.as_ref().err().cloned();
            if let Some(error) = failed.as_ref().filter(|error| !error.is_retryable()) {
                return Err(error.clone().into());
            }
            match &live {
                Some(live) => live.draw(&look, Screen::of_stdout())?,
                None => show_next(context.format(), &Line::of(look))?,
            }
            looks += 1;
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// A terminal whose cursor is hidden until this is dropped.
struct Live;

impl Live {
    fn begin() -> io::Result<Self> {
        let live = Self;
        let mut out = io::stdout().lock();
        write!(out, "{HIDE_CURSOR}{CLEAR}")?;
        out.flush()?;
        Ok(live)
    }

    /// Writes a picture over the last one, in one piece, as much of it as the terminal is high.
    fn draw(&self, look: &Look, screen: Screen) -> io::Result<()> {
        let mut lines = match look {
            Ok(status) => status.draw(screen),
            Err(error) => {
                screen.wrap(&format!("{}  no answer: {}", now(), plain(&error.to_string())))
            }
        };
        lines.truncate(screen.height.map_or(usize::MAX, |height| height.saturating_sub(1)));
        let mut text = HOME.to_owned();
        for line in lines {
            text += &format!("{line}{REST_OF_LINE}\r\n");
        }
        let mut out = io::stdout().lock();
        write!(out, "{text}{REST_OF_SCREEN}")?;
        out.flush()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut out = io::stdout().lock();
        // Whoever has closed the terminal needs no cursor.
        let _ = write!(out, "{SHOW_CURSOR}").and_then(|()| out.flush());
    }
}

/// One look, for a pipe.
#[derive(Debug, Serialize)]
struct Line {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    status: Option<Status>,
}

impl Line {
    fn of(look: Look) -> Self {
        let (status, error) = match look {
            Ok(status) => (Some(status), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self { time: now(), error, status }
    }
}

impl Show for Line {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let time = &self.time;
        let Some(status) = &self.status else {
            let error = self.error.as_deref().unwrap_or_default();
            return writeln!(out, "{time}  no answer: {}", plain(error));
        };
        let zone = |zone: &Zone| {
            let nodes =
                zone.nodes.iter().map(|node| format!(" {}{}", sign(node).sign, node.node_id));
            format!("  {}:{}", zone.zone, nodes.collect::<String>())
        };
        let zones: String = status.zones.iter().map(zone).collect();
        let Status { term, committed_index, health, .. } = status;
        writeln!(out, "{time}  term {term}  {committed_index} committed{zones}  {}", health.summary)
    }
}

fn now() -> String {
    let now_ms = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    u64::try_from(now_ms).map_or_else(|_| "before 1970".to_owned(), time)
}

#[cfg(test)]
mod tests {
    use super::super::picture::tests::status;
    use super::*;

    #[test]
    fn look_is_one_line_in_a_pipe() {
        let mut line = Line::of(Ok(status()));
        line.time = "now".to_owned();
        let mut out = Vec::new();
        line.table(&mut out).unwrap();
        let expected = "now  term 3  42 committed  a: ★1 ●2  b: ✕3 ○4  w: ●5  \
                        silent: 4; sealed: 3; changes would stop without zone a\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn cluster_that_does_not_answer_is_shown_and_not_the_end() {
        let error = Error::Unavailable {
            message: "refused\n".to_owned(),
            attempts: 3,
            outcome: twinkeep_client::Outcome::NotDone,
        };
        let line = Line::of(Err(error));
        let mut out = Vec::new();
        line.table(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("no answer: refused") && text.lines().count() == 1, "{text}");
        let json = serde_json::to_value(&line).unwrap();
        assert!(json.get("error").is_some() && json.get("zones").is_none(), "{json}");
    }

    #[test]
    fn interval_is_bounded() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "nan", "inf", "1e9", "x"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
