//! Metrics as text, in version 0.0.4 of Prometheus' format.
//!
//! A family is its `HELP` and `TYPE` line and then all of its series; a histogram's series are its
//! buckets, each with what is up to its bound, the sum and the count.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::histogram::Snapshot;
use super::registry::{Description, Labels, Value};

/// What the text is, for the HTTP answer.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes series, which come in the order of names, under their descriptions.
pub(super) fn text(
    described: &BTreeMap<String, Description>,
    series: Vec<((String, Labels), Value)>,
) -> String {
    let mut out = String::new();
    let mut family = None;
    for ((name, labels), value) in series {
        if family.as_ref() != Some(&name) {
            head(&mut out, &name, described.get(&name));
        }
        match value {
            Value::Counter(count) => line(&mut out, &name, &labels, None, &count.to_string()),
            Value::Gauge(value) => line(&mut out, &name, &labels, None, &number(value)),
            Value::Histogram(snapshot) => histogram(&mut out, &name, &labels, &snapshot),
        }
        family = Some(name);
    }
    out
}

fn head(out: &mut String, name: &str, description: Option<&Description>) {
    let Some(Description { kind, help }) = description else { return };
    let help = help.replace('\\', r"\\").replace('\n', r"\n");
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {}", kind.name()).expect("a string grows");
}

fn histogram(out: &mut String, name: &str, labels: &Labels, snapshot: &Snapshot) {
    let bucket = format!("{name}_bucket");
    for (bound, count) in &snapshot.upto {
        line(out, &bucket, labels, Some(&number(*bound)), &count.to_string());
    }
    line(out, &bucket, labels, Some("+Inf"), &snapshot.count.to_string());
    line(out, &format!("{name}_sum"), labels, None, &number(snapshot.sum));
    line(out, &format!("{name}_count"), labels, None, &snapshot.count.to_string());
}

fn line(out: &mut String, name: &str, labels: &Labels, bound: Option<&str>, value: &str) {
    out.push_str(name);
    let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut opened = false;
    for (label, of) in labels.chain(bound.map(|bound| ("le", bound))) {
        out.push(if opened { ',' } else { '{' });
        opened = true;
        let of = of.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        write!(out, "{label}=\"{of}\"").expect("a string grows");
    }
    if opened {
        out.push('}');
    }
    writeln!(out, " {value}").expect("a string grows");
}

fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::super::Registry;
    use super::*;
    use metrics::{counter, describe_counter, describe_histogram, gauge, histogram};

    fn shown(count: impl FnOnce()) -> String {
        let registry = Registry::default();
        metrics::with_local_recorder(&registry, count);
        text(&registry.described(), registry.values())
    }

    #[test]
    fn families_stand_together_under_their_meaning() {
        let text = shown(|| {
            describe_counter!("x_total", "Back\\slash and\nnew line");
            counter!("x_total", "b" => "2", "a" => "quo\"te").increment(3);
            gauge!("y_bytes").set(f64::INFINITY);
            counter!("x_total").increment(1);
        });
        let expected = "# HELP x_total Back\\\\slash and\\nnew line\n# TYPE x_total counter\n\
                        x_total 1\nx_total{a=\"quo\\\"te\",b=\"2\"} 3\ny_bytes +Inf\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn histogram_shows_what_is_up_to_each_bound() {
        let text = shown(|| {
            describe_histogram!("z_items", "Items");
            histogram!("z_items", "of" => "a").record(2.0);
            histogram!("z_items", "of" => "a").record(9000.0);
        });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "# TYPE z_items histogram");
        assert_eq!(lines[2], "z_items_bucket{of=\"a\",le=\"1\"} 0");
        assert_eq!(lines[3], "z_items_bucket{of=\"a\",le=\"2\"} 1");
        assert_eq!(lines[14], "z_items_bucket{of=\"a\",le=\"4096\"} 1");
        assert_eq!(lines[15], "z_items_bucket{of=\"a\",le=\"+Inf\"} 2");
        assert_eq!(&lines[16..], ["z_items_sum{of=\"a\"} 9002", "z_items_count{of=\"a\"} 2"]);
    }
}
