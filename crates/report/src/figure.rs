//! One figure, what it has to be, and whether it is.

use std::fmt;

use serde::Serialize;

/// One figure with its target.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    target: Target,
    holds: bool,
}

/// What a figure has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Anything: the figure is shown for its own sake.
    None,
}

impl Figure {
    pub(crate) fn new(name: String, value: f64, unit: &'static str, target: Target) -> Self {
        Self { name, value, unit, target, holds: target.holds(value) }
    }

    /// Returns what was measured.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the figure, in its unit.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Returns the unit, as it is printed.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        self.unit
    }

    /// Returns what the figure has to be.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target
    }

    /// Tells whether the figure is as it has to be.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.holds
    }
}

/// The width is that of the name.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, unit, target, holds } = self;
        let width = f.width().unwrap_or(0);
        let decimals = if value.abs() < 10.0 { 2 } else { 1 };
        write!(f, "{name:width$}  {value:>10.decimals$} {unit:<8}")?;
        match target {
            Target::None => Ok(()),
            _ => {
                let verdict = if *holds { "holds" } else { "MISSED" };
                write!(f, "  target {target:<10}  {verdict}")
            }
        }
    }
}

impl Target {
    /// A value that is no number holds nowhere.
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
            Self::None => true,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::AtMost(limit) => format!("<= {limit}"),
            Self::AtLeast(limit) => format!(">= {limit}"),
            Self::None => "none".to_owned(),
        };
        f.pad(&text)
    }
}

impl Serialize for Target {
    fn serialize<S>(&self, serializer: S) -> Result<S::Ok, S::Error>
    where
        S: serde::Serializer,
    {
        serializer.collect_str(self)
    }
}
