//! The report on all rounds, as a table or JSON.

use anyhow::bail;
use serde::Serialize;

use super::{
    client::MeasuredServer,
    measurements::{MeasuredFigure, Measurement},
};
use crate::statistics::median;

/// The cell of a missing number.
const NOTHING: &str = "–";

/// All figures of all rounds.
#[derive(Serialize)]
pub struct BenchReport {
    servers: Vec<ReportedServer>,
    rounds: u32,
    measurements: Vec<Entry>,
}

#[derive(Serialize)]
struct ReportedServer {
    url: String,
    model: String,
}

#[derive(Serialize)]
struct Entry {
    #[serde(flatten)]
    measurement: Measurement,
    figures: Vec<Row>,
    /// The errors of failed runs.
    failures: Vec<String>,
}

/// One figure, for every server.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    /// The value of each server in each round: `[servers][rounds that worked]`.
    values: Vec<Vec<f64>>,
}

impl BenchReport {
    pub fn new<'a>(
        servers: impl Iterator<Item = &'a MeasuredServer>,
        rounds: u32,
        plan: &[Measurement],
    ) -> Self {
        let servers = servers.map(|client| ReportedServer {
            url: client.url().to_owned(),
            model: client.model.clone(),
        });
        let entries = plan.iter().map(|&measurement| Entry {
            measurement,
            figures: Vec::new(),
            failures: Vec::new(),
        });
        Self {
            servers: servers.collect(),
            rounds,
            measurements: entries.collect(),
        }
    }

    /// Adds the figures of one run of a measurement, or its error.
    pub fn add(
        &mut self,
        index: usize,
        server: usize,
        figures: anyhow::Result<Vec<MeasuredFigure>>,
    ) {
        let servers = self.servers.len();
        let entry = &mut self.measurements[index];
        match figures {
            Ok(figures) => {
                for MeasuredFigure { name, value } in figures {
                    entry.row(name, servers).values[server].push(value);
                }
            }
            Err(error) => {
                let url = &self.servers[server].url;
                entry.failures.push(format!("{url}: {error:#}"));
            }
        }
    }

    pub fn print_json(&self) -> anyhow::Result<()> {
        println!("{}", serde_json::to_string_pretty(self)?);
        Ok(())
    }

    /// Prints a table in Markdown, with aligned columns.
    pub fn print_table(&self) {
        let urls: Vec<_> = self.servers.iter().map(|server| &*server.url).collect();
        let mut lines = vec![cells("load", "median", &urls)];
        let rule: Vec<_> = urls.iter().map(|_| "---:").collect();
        lines.push(cells("---", "---", &rule));
        for entry in &self.measurements {
            let name = entry.measurement.to_string();
            for row in &entry.figures {
                let medians: Vec<_> = row.values.iter().map(|values| median(values)).collect();
                let texts: Vec<_> = medians.iter().map(|&value| number(value)).collect();
                let texts: Vec<_> = texts.iter().map(String::as_str).collect();
                lines.push(cells(&name, row.name, &texts));
            }
        }
        for server in 1..urls.len() {
            self.append_ratios(server, &mut lines);
        }
        print_aligned(&lines);
        for failure in self.measurements.iter().flat_map(|entry| &entry.failures) {
            eprintln!("failed: {failure}");
        }
    }

    /// Appends a column with the first server's figures divided by another server's.
    fn append_ratios(&self, server: usize, lines: &mut [Vec<String>]) {
        let rows = self.measurements.iter().flat_map(|entry| &entry.figures);
        let ratios = rows.map(
            |row| match median(&row.values[0]) / median(&row.values[server]) {
                ratio if ratio.is_finite() => format!("{ratio:.3}"),
                _ => NOTHING.to_owned(),
            },
        );
        let head = [
            format!("ratio to {}", self.servers[server].url),
            "---:".to_owned(),
        ];
        for (line, ratio) in lines.iter_mut().zip(head.into_iter().chain(ratios)) {
            line.push(ratio);
        }
    }

    pub fn fail_if_empty(&self) -> anyhow::Result<()> {
        match self
            .measurements
            .iter()
            .find(|entry| entry.figures.is_empty())
        {
            Some(entry) => bail!(
                "nothing came out of the measurement \"{}\"",
                entry.measurement
            ),
            None => Ok(()),
        }
    }
}

impl Entry {
    fn row(&mut self, name: &'static str, servers: usize) -> &mut Row {
        let at = self.figures.iter().position(|row| row.name == name);
        let at = at.unwrap_or_else(|| {
            self.figures.push(Row {
                name,
                values: vec![Vec::new(); servers],
            });
            self.figures.len() - 1
        });
        &mut self.figures[at]
    }
}

fn cells(load: &str, figure: &str, values: &[&str]) -> Vec<String> {
    let names = [load, figure].into_iter();
    names
        .chain(values.iter().copied())
        .map(str::to_owned)
        .collect()
}

/// Writes a number with about three significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => NOTHING.to_owned(),
        0.0 => "0".to_owned(),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn print_aligned(lines: &[Vec<String>]) {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    for line in lines {
        let cells: Vec<_> = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match column {
                0 | 1 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        println!("| {} |", cells.join(" | "));
    }
}
