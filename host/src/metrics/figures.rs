//! The values of metrics as plain data, which can be sent to another process and added up.

use std::collections::BTreeMap;

use prometheus::{
    Registry,
    proto::{self, LabelPair, Metric, MetricFamily, MetricType},
};
use serde::{Deserialize, Serialize};

/// The values of a registry's metrics at one time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures(BTreeMap<Series, Figure>);

/// A metric's name and its labels, in the order in which they are written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Series {
    name: String,
    labels: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Figure {
    help: String,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Value {
    Counter(f64),
    Gauge(f64),
    Histogram(Histogram),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Histogram {
    /// The upper bound of each bucket, and the number of samples at or below it.
    buckets: Vec<(f64, u64)>,
    sum: f64,
    count: u64,
}

impl Figures {
    /// The current values of the counters, gauges and histograms in this registry.
    pub fn of(registry: &Registry) -> Self {
        let families = registry.gather();
        Self(families.iter().flat_map(figures).collect())
    }

    /// Adds other figures to these, metric by metric.
    pub fn add(&mut self, others: &Self) {
        for (series, figure) in &others.0 {
            let entry = self.0.entry(series.clone());
            entry
                .and_modify(|sum| sum.value.add(&figure.value))
                .or_insert_with(|| figure.clone());
        }
    }

    /// Sets the gauges to 0.
    pub fn clear_gauges(&mut self) {
        for figure in self.0.values_mut() {
            if let Value::Gauge(value) = &mut figure.value {
                *value = 0.0;
            }
        }
    }

    /// Removes the figures of all models but these.
    pub fn keep(&mut self, models: &[&str]) {
        self.0.retain(|series, _| {
            let mut labels = series.labels.iter();
            let model = labels.find(|(name, _)| name == "model");
            model.is_none_or(|(_, model)| models.contains(&model.as_str()))
        });
    }

    /// One family for each metric. A registry joins families with the same name when it gathers them.
    pub fn families(&self) -> Vec<MetricFamily> {
        let figures = self.0.iter();
        figures
            .map(|(series, figure)| family(series, figure))
            .collect()
    }
}

impl Value {
    /// The value of a metric of this type. None for a type that Tenon does not use.
    fn of(kind: MetricType, metric: &Metric) -> Option<Self> {
        match kind {
            MetricType::COUNTER => Some(Self::Counter(metric.get_counter().get_value())),
            MetricType::GAUGE => Some(Self::Gauge(metric.get_gauge().get_value())),
            MetricType::HISTOGRAM => Some(Self::Histogram(metric.get_histogram().into())),
            _ => None,
        }
    }

    /// Adds a value of the same type. Metrics with the same name have the same type.
    fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Counter(sum), Self::Counter(value)) | (Self::Gauge(sum), Self::Gauge(value)) => {
                *sum += value
            }
            (Self::Histogram(sum), Self::Histogram(value)) => sum.add(value),
            _ => {}
        }
    }

    /// The type, and a metric without labels that has this value.
    fn metric(&self) -> (MetricType, Metric) {
        let mut metric = Metric::default();
        let kind = match self {
            Self::Counter(value) => {
                let mut counter = proto::Counter::default();
                counter.set_value(*value);
                metric.set_counter(counter);
                MetricType::COUNTER
            }
            Self::Gauge(value) => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(*value);
                metric.set_gauge(gauge);
                MetricType::GAUGE
            }
            Self::Histogram(histogram) => {
                metric.set_histogram(histogram.into());
                MetricType::HISTOGRAM
            }
        };
        (kind, metric)
    }
}

impl Histogram {
    /// Adds a histogram with the same buckets.
    fn add(&mut self, other: &Self) {
        for ((_, sum), (_, count)) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += count;
        }
        self.sum += other.sum;
        self.count += other.count;
    }
}

impl From<&proto::Histogram> for Histogram {
    fn from(histogram: &proto::Histogram) -> Self {
        let buckets = histogram.get_bucket().iter();
        Self {
            buckets: buckets
                .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
                .collect(),
            sum: histogram.get_sample_sum(),
            count: histogram.get_sample_count(),
        }
    }
}

impl From<&Histogram> for proto::Histogram {
    fn from(histogram: &Histogram) -> Self {
        let buckets = histogram.buckets.iter().map(|&(bound, count)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut gathered = Self::default();
        gathered.set_bucket(buckets.collect());
        gathered.set_sample_sum(histogram.sum);
        gathered.set_sample_count(histogram.count);
        gathered
    }
}

fn figures(family: &MetricFamily) -> impl Iterator<Item = (Series, Figure)> {
    let metrics = family.get_metric().iter();
    metrics.filter_map(move |metric| {
        let labels = metric.get_label().iter();
        let series = Series {
            name: family.name().to_owned(),
            labels: labels
                .map(|label| (label.name().to_owned(), label.value().to_owned()))
                .collect(),
        };
        let figure = Figure {
            help: family.help().to_owned(),
            value: Value::of(family.get_field_type(), metric)?,
        };
        Some((series, figure))
    })
}

fn family(series: &Series, figure: &Figure) -> MetricFamily {
    let labels = series.labels.iter().map(|(name, value)| {
        let mut label = LabelPair::default();
        label.set_name(name.clone());
        label.set_value(value.clone());
        label
    });
    let (kind, mut metric) = figure.value.metric();
    metric.set_label(labels.collect());
    let mut family = MetricFamily::default();
    family.set_name(series.name.clone());
    family.set_help(figure.help.clone());
    family.set_field_type(kind);
    family.set_metric(vec![metric]);
    family
}
