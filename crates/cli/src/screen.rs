//! What stdout is: how wide, and whether it takes colours.
//!
//! | variable               | does                                                       |
//! |------------------------|------------------------------------------------------------|
//! | `COLUMNS`              | the width, where it is a number; else the terminal's own   |
//! | `NO_COLOR`             | no colours, if it is not empty                             |
//! | `TERM=dumb`            | no colours                                                 |
//! | `CLICOLOR_FORCE`       | colours even in a pipe, if it is not empty or 0            |

use std::env;
use std::io::{self, IsTerminal};

use rustix::termios::tcgetwinsize;

/// Columns of a line where nothing else is known: a pipe, a file.
const WIDTH: usize = 120;
/// The narrowest screen that is drawn for; on a narrower one lines are cut by the terminal.
const WIDTH_MIN: usize = 20;

/// What is drawn on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    /// Columns of a line.
    pub(crate) width: usize,
    /// Lines, on a terminal.
    pub(crate) height: Option<usize>,
    /// Whether colours are understood.
    pub(crate) colour: bool,
}

/// What a piece of text says by its colour. Every one of them is said in words or by a sign as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// As the terminal has it.
    Plain,
    /// In the background: frames, addresses.
    Dim,
    /// A heading.
    Bold,
    /// As it has to be.
    Good,
    /// The leader.
    Leads,
    /// To be looked at.
    Warning,
    /// Broken.
    Bad,
}

impl Screen {
    /// Looks at stdout and the environment.
    pub(crate) fn of_stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let size = tcgetwinsize(io::stdout()).ok().filter(|_| terminal);
        let given = env::var("COLUMNS").ok().and_then(|text| text.trim().parse().ok());
        let own = size.map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0);
        let rows = size.map(|size| usize::from(size.ws_row)).filter(|&rows| rows > 0);
        let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let forced = set("CLICOLOR_FORCE") && env::var("CLICOLOR_FORCE").as_deref() != Ok("0");
        let able = terminal && env::var("TERM").is_ok_and(|term| term != "dumb");
        Self {
            width: given.or(own).unwrap_or(WIDTH).max(WIDTH_MIN),
            height: rows,
            colour: !set("NO_COLOR") && (able || forced),
        }
    }

    /// Dresses text in a colour, if the screen has any.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Plain => return text.to_owned(),
            Paint::Dim => "2",
            Paint::Bold => "1",
            Paint::Good => "32",
            Paint::Leads => "1;36",
            Paint::Warning => "33",
            Paint::Bad => "1;31",
        };
        match self.colour && !text.is_empty() {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }

    /// Breaks text at spaces into lines that fit; a word that is too long is cut.
    pub(crate) fn wrap(self, text: &str) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for word in text.split(' ') {
            let word = cut(word, self.width);
            match lines.last_mut() {
                Some(line) if columns(line) + 1 + columns(&word) <= self.width => {
                    line.push(' ');
                    line.push_str(&word);
                }
                _ => lines.push(word),
            }
        }
        lines
    }
}

/// Counts the columns of text. What is printed here has one column for each character.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().count()
}

/// Cuts text to a width, with a sign that something is missing.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
impl Screen {
    /// A screen without colours.
    pub(crate) fn plain(width: usize) -> Self {
        Self { width, height: None, colour: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_at_spaces_and_long_words_are_cut() {
        let screen = Screen::plain(20);
        assert_eq!(screen.wrap("one two three four five"), ["one two three four", "five"]);
        assert_eq!(
            screen.wrap("a 0123456789012345678901234 b"),
            ["a", "0123456789012345678…", "b"]
        );
        assert_eq!(screen.wrap(""), [""]);
    }

    #[test]
    fn without_colours_no_escape_is_written() {
        let mut screen = Screen::plain(80);
        assert_eq!(screen.paint(Paint::Bad, "silent"), "silent");
        screen.colour = true;
        assert_eq!(screen.paint(Paint::Bad, "silent"), "\u{1b}[1;31msilent\u{1b}[0m");
        assert_eq!(screen.paint(Paint::Plain, "silent"), "silent");
    }
}
