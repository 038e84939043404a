//! The text format OpenMetrics 1.0, for which prometheus has no encoder.

use std::fmt::{self, Display, Formatter, Write};

use prometheus::proto::{Metric, MetricFamily, MetricType};

/// The content type of the format.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Displays families in the format: counters, gauges and histograms, which are all that the server has.
pub struct OpenMetrics<'a>(pub &'a [MetricFamily]);

impl Display for OpenMetrics<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for family in self.0 {
            write_family(out, family)?;
        }
        out.write_str("# EOF\n")
    }
}

fn write_family(out: &mut Formatter<'_>, family: &MetricFamily) -> fmt::Result {
    let full_name = family.name();
    let (kind, name) = match family.get_field_type() {
        MetricType::COUNTER => (
            "counter",
            full_name.strip_suffix("_total").unwrap_or(full_name),
        ),
        MetricType::HISTOGRAM => ("histogram", full_name),
        _ => ("gauge", full_name),
    };
    writeln!(out, "# TYPE {name} {kind}")?;
    writeln!(out, "# HELP {name} {}", escaped(family.help()))?;
    for metric in family.get_metric() {
        match kind {
            "counter" => {
                let value = metric.get_counter().get_value();
                write_sample(out, &format!("{name}_total"), metric, None, value)?;
            }
            "histogram" => write_histogram(out, name, metric)?,
            _ => write_sample(out, name, metric, None, metric.get_gauge().get_value())?,
        }
    }
    Ok(())
}

fn write_histogram(out: &mut Formatter<'_>, name: &str, metric: &Metric) -> fmt::Result {
    let (histogram, bucket_name) = (metric.get_histogram(), format!("{name}_bucket"));
    for bucket in histogram.get_bucket() {
        // Whole numbers need a decimal point here.
        let bound = format!("{:?}", bucket.upper_bound());
        let count = bucket.cumulative_count() as f64;
        write_sample(out, &bucket_name, metric, Some(&bound), count)?;
    }
    let (count, sum) = (
        histogram.get_sample_count() as f64,
        histogram.get_sample_sum(),
    );
    write_sample(out, &bucket_name, metric, Some("+Inf"), count)?;
    write_sample(out, &format!("{name}_count"), metric, None, count)?;
    write_sample(out, &format!("{name}_sum"), metric, None, sum)
}

fn write_sample(
    out: &mut Formatter<'_>,
    name: &str,
    metric: &Metric,
    bound: Option<&str>,
    value: f64,
) -> fmt::Result {
    out.write_str(name)?;
    let labels = metric.get_label().iter();
    let labels = labels.map(|label| (label.name(), label.value()));
    let mut separator = '{';
    for (name, value) in labels.chain(bound.map(|bound| ("le", bound))) {
        write!(out, "{separator}{name}=\"{}\"", escaped(value))?;
        separator = ',';
    }
    if separator == ',' {
        out.write_char('}')?;
    }
    writeln!(out, " {value}")
}

fn escaped(text: &str) -> String {
    let text = text.replace('\\', r"\\").replace('\n', r"\n");
    text.replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntGaugeVec, Opts, Registry};

    use super::*;
    use crate::metrics::registered;

    #[test]
    fn families_are_written_by_type() {
        let registry = Registry::new();
        let counter = IntCounter::new("a_total", "All \"of\" it").unwrap();
        registered(&registry, counter).unwrap().inc_by(3);
        let gauges = IntGaugeVec::new(Opts::new("b", "B"), &["x"]).unwrap();
        let gauges = registered(&registry, gauges).unwrap();
        gauges.with_label_values(&["a\\b\n"]).set(-1);
        let options = HistogramOpts::new("c_seconds", "C").buckets(vec![0.5, 1.0]);
        let histograms = HistogramVec::new(options, &["x"]).unwrap();
        let histograms = registered(&registry, histograms).unwrap();
        histograms.with_label_values(&["y"]).observe(0.75);
        let text = OpenMetrics(&registry.gather()).to_string();
        let expected = r#"# TYPE a counter
# HELP a All \"of\" it
a_total 3
# TYPE b gauge
# HELP b B
b{x="a\\b\n"} -1
# TYPE c_seconds histogram
# HELP c_seconds C
c_seconds_bucket{x="y",le="0.5"} 0
c_seconds_bucket{x="y",le="1.0"} 1
c_seconds_bucket{x="y",le="+Inf"} 1
c_seconds_count{x="y"} 1
c_seconds_sum{x="y"} 0.75
# EOF
"#;
        assert_eq!(text, expected);
    }
}
