use prometheus::{Registry, proto::MetricFamily};

/// The gauges of all models at one time.
pub struct Gauges(Vec<MetricFamily>);

impl Gauges {
    /// The current values of the metrics in this registry.
    pub fn of_registry(registry: &Registry) -> Self {
        Self(registry.gather())
    }

    /// The value of a gauge for a model. 0 if there is none.
    pub fn of(&self, name: &str, model: &str) -> f64 {
        let family = self.0.iter().find(|family| family.name() == name);
        let mut metrics = family.into_iter().flat_map(MetricFamily::get_metric);
        let metric = metrics.find(|metric| {
            let mut labels = metric.get_label().iter();
            labels.any(|label| label.name() == "model" && label.value() == model)
        });
        metric.map_or(0.0, |metric| metric.get_gauge().get_value())
    }
}
