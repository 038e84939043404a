//! Tables of medians in Markdown.

use std::fmt;

/// A table. Its first column has the names of the rows.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[impl ToString]) -> Self {
        let rule = head.iter().enumerate();
        let rule = rule.map(|(column, _)| if column == 0 { "---" } else { "---:" });
        Self {
            rows: vec![
                head.iter().map(ToString::to_string).collect(),
                rule.map(str::to_owned).collect(),
            ],
        }
    }

    pub fn row(&mut self, name: &str, values: &[f64]) {
        self.judged_row(name, values, &[]);
    }

    /// A row with words after its values.
    pub fn judged_row(&mut self, name: &str, values: &[f64], words: &[&str]) {
        let values = values.iter().map(|&value| number(value));
        let words = words.iter().map(|&word| word.to_owned());
        let row = [name.to_owned()].into_iter().chain(values).chain(words);
        self.rows.push(row.collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            writeln!(f, "| {} |", row.join(" | "))?;
        }
        Ok(())
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "–".to_owned(),
        size if size < 10.0 => format!("{value:.3}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// The value below which the share `part` of the values is. NaN if there are no values.
pub fn percentile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = (part * values.len() as f64).ceil() as usize;
    values
        .get(at.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

/// The median. NaN if there are no values.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len => f64::midpoint(values[(len - 1) / 2], values[len / 2]),
    }
}
