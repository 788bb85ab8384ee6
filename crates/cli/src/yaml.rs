//! YAML for programs and people: one JSON value in block style.
//!
//! A library would be a parser, which is not needed here; YAML 1.2 takes JSON's escapes, so that what is
//! left is indentation. A word that some reader of YAML could take for something else is quoted.

use serde_json::Value;

/// Words that YAML 1.1 or 1.2 reads as a truth value or as nothing.
const WORDS: [&str; 12] =
    ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf", "nan", "e"];

/// Writes a value as one YAML document that ends with a line feed.
pub(crate) fn document(value: &Value) -> String {
    let mut out = String::new();
    node(value, 0, Place::Top, &mut out);
    out + "\n"
}

/// What stands before a value on its line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing.
    Top,
    /// A key and its colon.
    Key,
    /// The dash of a list.
    Dash,
}

fn node(value: &Value, depth: usize, place: Place, out: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (i, (key, value)) in fields.iter().enumerate() {
                begin(i, depth, place, out);
                out.push_str(&text(key));
                out.push(':');
                node(value, depth + 1, Place::Key, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (i, item) in items.iter().enumerate() {
                begin(i, depth, place, out);
                out.push('-');
                node(item, depth + 1, Place::Dash, out);
            }
        }
        scalar => {
            if place != Place::Top {
                out.push(' ');
            }
            match scalar {
                Value::String(string) => out.push_str(&text(string)),
                // An empty list or map, a number, a truth value: as JSON writes it.
                scalar => out.push_str(&scalar.to_string()),
            }
        }
    }
}

/// Begins an entry: the first one of what stands in a list beside the dash, all others on their own line.
fn begin(index: usize, depth: usize, place: Place, out: &mut String) {
    match (index, place) {
        (0, Place::Top) => {}
        (0, Place::Dash) => out.push(' '),
        _ => {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", depth));
        }
    }
}

/// Writes a string plainly where nothing else can be meant, else in double quotes with JSON's escapes.
fn text(string: &str) -> String {
    let first = |c: char| c.is_ascii_alphabetic() || c == '/';
    let rest = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let plain = string.starts_with(first)
        && string.chars().all(rest)
        && !WORDS.contains(&string.to_ascii_lowercase().as_str());
    if plain { string.to_owned() } else { quoted(string) }
}

fn quoted(string: &str) -> String {
    let json = Value::from(string).to_string();
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        // JSON leaves these as they are; YAML takes them for breaks, or for nothing that can be printed.
        if c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}'..='\u{ffff}')
        {
            out += &format!("\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_and_lists_are_written_as_blocks() {
        let value = json!({
            "name": "main",
            "zones": [{ "zone": "a", "nodes": [1, 2] }, { "zone": "b", "nodes": [] }],
            "none": null,
            "nested": [[1, -2], ["x-", "y"]],
            "empty": {},
        });
        let expected = "\
name: main
zones:
  - zone: a
    nodes:
      - 1
      - 2
  - zone: b
    nodes: []
none: null
nested:
  - - 1
    - -2
  - - x-
    - \"y\"
empty: {}
";
        assert_eq!(document(&value), expected);
        assert_eq!(document(&json!([])), "[]\n");
        assert_eq!(document(&json!("one")), "one\n");
    }

    #[test]
    fn string_that_could_be_something_else_is_quoted() {
        for (string, written) in [
            ("no", "\"no\""),
            ("Null", "\"Null\""),
            ("", "\"\""),
            ("1.5", "\"1.5\""),
            ("0x10", "\"0x10\""),
            ("2026-11-22T22:00:00Z", "\"2026-11-22T22:00:00Z\""),
            ("- a", "\"- a\""),
            ("a: b", "\"a: b\""),
            ("a #b", "\"a #b\""),
            ("two\nlines", "\"two\\nlines\""),
            ("\u{7f}\u{85}\u{2028}", "\"\\u007f\\u0085\\u2028\""),
            ("key-00", "key-00"),
            ("/etc/x.pem", "/etc/x.pem"),
        ] {
            assert_eq!(text(string), written);
        }
    }
}
