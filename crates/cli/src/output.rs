//! Printing: tables for people, JSON and YAML for programs; files that are whole or absent.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use twinkeep_report::Report;

use crate::yaml;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: one JSON document; a stream has one in each line.
    Json,
    /// For programs and people: one YAML document; a stream has `---` before each.
    Yaml,
}

impl Format {
    /// Whether it is a document for programs, which tells everything and has bytes as base64.
    pub(crate) fn is_document(self) -> bool {
        self != Self::Table
    }
}

/// Something that can be shown to people.
pub(crate) trait Show: Serialize {
    /// Writes it for people.
    fn table(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// Prints a result.
pub(crate) fn show(format: Format, result: &impl Show) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Table => result.table(&mut out)?,
        _ => out.write_all(encoded(format, result)?.as_bytes())?,
    }
    Ok(out.flush()?)
}

/// Prints a result for programs, where people get something else, such as a file's bytes.
pub(crate) fn document(format: Format, result: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(encoded(format, result)?.as_bytes())?;
    Ok(out.flush()?)
}

fn encoded(format: Format, result: &impl Serialize) -> anyhow::Result<String> {
    Ok(match format {
        Format::Yaml => yaml::document(&serde_json::to_value(result)?),
        _ => serde_json::to_string_pretty(result)? + "\n",
    })
}

/// Prints one result of many, as they come.
pub(crate) fn show_next(format: Format, result: &impl Show) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Table => result.table(&mut out)?,
        Format::Json => writeln!(out, "{}", serde_json::to_string(result)?)?,
        Format::Yaml => write!(out, "---\n{}", yaml::document(&serde_json::to_value(result)?))?,
    }
    Ok(out.flush()?)
}

/// What a command did, in words, where there is nothing else to say.
#[derive(Debug, Serialize)]
pub(crate) struct Said {
    message: String,
}

impl Show for Said {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.message)
    }
}

/// The figures of a command that measures.
impl Show for Report {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{self}")
    }
}

/// Prints what a command did.
pub(crate) fn said(format: Format, message: impl Into<String>) -> anyhow::Result<()> {
    show(format, &Said { message: message.into() })
}

/// Prints one line of JSON, for streams.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Writes rows as columns, the last one without padding.
pub(crate) fn columns<const N: usize>(
    out: &mut dyn Write,
    head: [&str; N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let head = head.map(str::to_owned);
    let mut widths = [0; N];
    for row in std::iter::once(&head).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(&head).chain(rows) {
        let mut text = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let pad = width - cell.chars().count();
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', pad + 2));
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

/// Makes free text safe for a terminal: what others wrote must not move its cursor.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Writes milliseconds since 1970 as RFC 3339 in UTC.
pub(crate) fn time(unix_ms: u64) -> String {
    let nanos = i128::from(unix_ms) * 1_000_000;
    let formatted =
        OffsetDateTime::from_unix_timestamp_nanos(nanos).ok().map(|t| t.format(&Rfc3339));
    formatted.and_then(Result::ok).unwrap_or_else(|| format!("{unix_ms} ms"))
}

/// Where bytes go.
#[derive(Debug, clap::Args)]
pub(crate) struct Sink {
    /// File to write instead of standard output. It is replaced as a whole.
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    path: Option<std::path::PathBuf>,
}

impl Sink {
    /// Whether bytes go to a file.
    pub(crate) fn is_file(&self) -> bool {
        self.path.is_some()
    }

    /// Writes bytes; a new file can be read by its owner alone if it is `private`.
    pub(crate) fn write(&self, bytes: &[u8], private: bool) -> anyhow::Result<()> {
        match &self.path {
            Some(path) => replace(path, bytes, if private { 0o600 } else { 0o644 }),
            None => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)?;
                Ok(out.flush()?)
            }
        }
    }
}

/// Writes a file beside its place and moves it there, so that nobody sees half of it.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let Some(name) = path.file_name() else { bail!("{} is not a file", path.display()) };
    let mut draft_name = name.to_owned();
    draft_name.push(format!(".{}.tmp", std::process::id()));
    let draft = path.with_file_name(draft_name);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&draft)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // It may never have been made; what counts is the first error.
        fs::remove_file(&draft).ok();
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut out = Vec::new();
        let rows = [["1".to_owned(), "ärger".to_owned(), "x".to_owned()]];
        columns(&mut out, ["id", "a", "b"], &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "id  a      b\n1   ärger  x\n");
    }

    #[test]
    fn text_of_others_moves_no_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{9b}d"), "a [2Jb c d");
    }

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(time(1_800_000_000_123), "2027-01-15T08:00:00.123Z");
        assert_eq!(time(u64::MAX), "18446744073709551615 ms");
    }

    #[test]
    fn file_is_replaced_as_a_whole_and_private_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plain");
        fs::write(&path, "old and longer").unwrap();
        Sink { path: Some(path.clone()) }.write(b"new", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        let nowhere = Sink { path: Some(folder.path().join("no/such/folder")) };
        assert!(nowhere.write(b"new", true).unwrap_err().to_string().contains("no/such/folder"));
    }
}
