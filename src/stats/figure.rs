//! One figure of the statistics, as an exporter needs it.

/// Whether a figure can decrease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FigureKind {
    /// A value at this moment, or a maximum since the arena was built.
    Gauge,
    /// A count or a sum since the arena was built. It never decreases.
    Counter,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Pages of 4096 bytes.
    Pages,
    /// Nanoseconds.
    Nanoseconds,
    /// Events.
    Count,
}

/// One figure of [`Stats`](crate::Stats), with what an exporter says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figure {
    /// The name of the field.
    pub name: &'static str,
    /// The value of the field.
    pub value: u64,
    /// Whether the figure can decrease.
    pub kind: FigureKind,
    /// What the figure counts.
    pub unit: Unit,
    /// The first line of the field's documentation: a sentence.
    pub help: &'static str,
}
