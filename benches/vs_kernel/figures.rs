//! Figures: a value for each alternation, and how they are printed.

use std::fmt;

#[derive(Debug)]
struct Figure {
    name: String,
    unit: &'static str,
    values: Vec<f64>,
}

/// In the order in which they were first measured.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<Figure>);

impl Figures {
    pub(crate) fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        let name = name.into();
        match self.0.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.values.push(value),
            None => self.0.push(Figure { name, unit, values: vec![value] }),
        }
    }
}

/// Lines of a name, a value and a unit with single spaces. The value is the median of all alternations;
/// ratios have lines for the least and the greatest value too.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Figure { name, unit, values } in &self.0 {
            let mut values = values.clone();
            values.sort_by(f64::total_cmp);
            let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
            let digits = if median < 100.0 { 3 } else { 0 };
            writeln!(f, "{name} {median:.digits$} {unit}")?;
            if *unit == "ratio" {
                writeln!(f, "{name}_min {:.digits$} {unit}", values[0])?;
                writeln!(f, "{name}_max {:.digits$} {unit}", values[values.len() - 1])?;
            }
        }
        Ok(())
    }
}
