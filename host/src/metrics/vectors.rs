//! Makes vectors of metrics and registers them.

use std::collections::HashMap;

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
    core::{Collector, MetricVec, MetricVecBuilder},
    exponential_buckets,
    proto::{Metric, MetricFamily},
};

/// Makes vectors in this registry. A vector has a metric for each combination of its labels' values.
pub struct Vectors<'a>(pub &'a Registry);

impl Vectors<'_> {
    pub fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
        registered(self.0, counters)
    }

    pub fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntGaugeVec> {
        registered(self.0, IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// Histograms of seconds, from a millisecond to more than half an hour.
    pub fn seconds(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<HistogramVec> {
        let buckets = exponential_buckets(0.001, 2.0, 22)?;
        let options = HistogramOpts::new(name, help).buckets(buckets);
        registered(self.0, HistogramVec::new(options, labels)?)
    }

    /// Histograms of numbers of tokens, from one to a million.
    pub fn lengths(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<HistogramVec> {
        let buckets = exponential_buckets(1.0, 2.0, 21)?;
        let options = HistogramOpts::new(name, help).buckets(buckets);
        registered(self.0, HistogramVec::new(options, labels)?)
    }
}

/// The sum of the counters that `counts` accepts.
pub fn sum(counters: &IntCounterVec, counts: impl Fn(&Metric) -> bool) -> f64 {
    let families = counters.collect();
    let metrics = families.iter().flat_map(MetricFamily::get_metric);
    let counted = metrics.filter(|metric| counts(metric));
    counted.map(|metric| metric.get_counter().get_value()).sum()
}

/// Removes the metrics of a vector whose label has another value than these.
pub fn keep<B: MetricVecBuilder>(vector: &MetricVec<B>, label: &str, values: &[&str]) {
    let families = vector.collect();
    for metric in families.iter().flat_map(MetricFamily::get_metric) {
        let labels = metric.get_label().iter();
        let labels: HashMap<_, _> = labels.map(|label| (label.name(), label.value())).collect();
        if labels
            .get(label)
            .is_some_and(|value| !values.contains(value))
        {
            // An error means that another thread has removed the metric.
            let _ = vector.remove(&labels);
        }
    }
}

/// Registers a metric and returns it.
pub fn registered<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: M,
) -> prometheus::Result<M> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}
