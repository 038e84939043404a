//! The metrics of models. A worker counts in its own process and sends its figures. A model in this process has a registry of its
//! own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus::{
    Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::figures::Figures;

/// Shows the figures of all models as if they were counted in one registry. A metric that several parts have is shown as their sum.
/// Counters and histograms of ended parts stay in the sum, so a counter never goes back. Their gauges count as 0.
///
/// To show a model's metrics before the model is first loaded, a part whose metrics are all 0 is added and dropped.
#[derive(Clone, Default)]
pub struct ModelMetrics(Arc<Mutex<Parts>>);

#[derive(Default)]
struct Parts {
    /// The sum of the ended parts' figures.
    ended: Figures,
    living: BTreeMap<u64, Living>,
    /// The number of parts so far.
    count: u64,
}

/// The figures of a part that has not ended.
enum Living {
    /// The latest figures that its worker has sent.
    Sent(Figures),
    /// The registry of this process in which they are counted.
    Counted(Registry),
}

impl ModelMetrics {
    /// Adds a worker, which has no figures yet.
    pub fn of_worker(&self) -> ModelPart {
        self.add(Living::Sent(Figures::default()))
    }

    /// Adds a model of this process, which counts in this registry.
    pub fn counted_in(&self, registry: Registry) -> ModelPart {
        self.add(Living::Counted(registry))
    }

    /// Removes the figures of ended engines of all models but these.
    pub fn keep(&self, models: &[&str]) {
        self.lock().ended.keep(models);
    }

    fn add(&self, part: Living) -> ModelPart {
        let mut parts = self.lock();
        let number = parts.count;
        parts.count += 1;
        parts.living.insert(number, part);
        ModelPart {
            metrics: self.clone(),
            number,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Living {
    fn figures(&self) -> Figures {
        match self {
            Self::Sent(figures) => figures.clone(),
            Self::Counted(registry) => Figures::of(registry),
        }
    }
}

impl Collector for ModelMetrics {
    /// Empty, because the metrics of workers are not known before they are sent. A registry accepts one collector without
    /// descriptors.
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let parts = self.lock();
        let mut sum = parts.ended.clone();
        for part in parts.living.values() {
            sum.add(&part.figures());
        }
        sum.families()
    }
}

/// One part of the metrics. It must be dropped when its worker, or its model in this process, has ended.
pub struct ModelPart {
    metrics: ModelMetrics,
    number: u64,
}

impl ModelPart {
    /// Replaces the figures of a worker. Figures must come in the order in which the worker recorded them.
    pub fn update(&self, figures: Figures) {
        let mut parts = self.metrics.lock();
        parts.living.insert(self.number, Living::Sent(figures));
    }
}

impl Drop for ModelPart {
    fn drop(&mut self) {
        let mut parts = self.metrics.lock();
        if let Some(part) = parts.living.remove(&self.number) {
            let mut last = part.figures();
            last.clear_gauges();
            parts.ended.add(&last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::EngineMetrics,
        grammar::GrammarMetrics,
        metrics::{Metrics, MetricsFormat},
    };

    /// Metrics as a worker or this process has them.
    struct Counted {
        registry: Registry,
        engine: EngineMetrics,
        grammars: GrammarMetrics,
    }

    impl Counted {
        fn new(registry: &Registry, model: &str) -> Self {
            Self {
                registry: registry.clone(),
                engine: EngineMetrics::register(registry, model).unwrap(),
                grammars: GrammarMetrics::register(registry, model).unwrap(),
            }
        }

        fn work(&self, amount: u32) {
            self.engine.steps.inc_by(amount.into());
            self.engine.running.set(amount.into());
            self.engine.kv_running_tokens.set(amount.into());
            self.engine.kv_total_tokens.set(8);
            let seconds = f64::from(amount) / 1024.0;
            self.grammars.compile_seconds.observe(seconds);
        }

        /// The figures as they arrive in another process.
        fn sent(&self) -> Figures {
            let figures = Figures::of(&self.registry);
            let bytes = postcard::to_stdvec(&figures).unwrap();
            let received = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(figures, received);
            received
        }
    }

    /// Pages with the metrics of a registry alone, in both formats.
    fn pages(registry: &Registry) -> [String; 2] {
        let metrics = Metrics {
            registry: registry.clone(),
            ..Metrics::new().unwrap()
        };
        [MetricsFormat::Prometheus, MetricsFormat::OpenMetrics]
            .map(|format| metrics.render(format, None).unwrap())
    }

    fn front() -> (Registry, ModelMetrics) {
        let (registry, models) = (Registry::new(), ModelMetrics::default());
        registry.register(Box::new(models.clone())).unwrap();
        (registry, models)
    }

    #[track_caller]
    fn check(registry: &Registry, lines: &[&str]) {
        let [text, _] = pages(registry);
        for line in lines {
            assert!(text.lines().any(|l| l == *line), "no {line} in:\n{text}");
        }
    }

    #[test]
    fn the_page_is_as_if_this_process_had_counted() {
        let (front, models) = front();
        let local = Registry::new();
        let counted = [("b", 3), ("a", 2)].map(|(model, amount)| {
            let here = Counted::new(&local, model);
            let worker = Counted::new(&Registry::new(), model);
            here.work(amount);
            worker.work(amount);
            let part = models.of_worker();
            part.update(worker.sent());
            (here, part)
        });
        check(
            &front,
            &[
                r#"vllm:num_requests_running{engine="0",model_name="a"} 2"#,
                r#"vllm:kv_cache_usage_perc{engine="0",model_name="b"} 0.375"#,
            ],
        );
        assert_eq!(pages(&front), pages(&local));
        drop(counted);
    }

    #[test]
    fn an_ended_worker_leaves_its_counters_to_the_next() {
        let (front, models) = front();
        let (old, new) = (models.of_worker(), models.of_worker());
        let counted = [1, 2].map(|amount| {
            let counted = Counted::new(&Registry::new(), "m");
            counted.work(amount);
            counted
        });
        old.update(counted[0].sent());
        new.update(counted[1].sent());
        let running = |amount| format!(r#"tenon_engine_running_sequences{{model="m"}} {amount}"#);
        let sums = [
            r#"tenon_engine_steps_total{model="m"} 3"#,
            r#"tenon_grammar_compile_seconds_bucket{model="m",le="0.0016"} 1"#,
            r#"tenon_grammar_compile_seconds_bucket{model="m",le="0.0032"} 2"#,
            r#"tenon_grammar_compile_seconds_sum{model="m"} 0.0029296875"#,
            r#"tenon_grammar_compile_seconds_count{model="m"} 2"#,
        ];
        check(&front, &sums);
        check(&front, &[&running(3)]);
        drop(old);
        check(&front, &sums);
        check(&front, &[&running(2)]);
        drop(new);
        check(&front, &sums);
        check(&front, &[&running(0)]);
    }

    #[test]
    fn a_model_that_is_gone_leaves_when_its_worker_has_ended() {
        let (front, models) = front();
        let (part, counted) = (models.of_worker(), Counted::new(&Registry::new(), "m"));
        counted.work(2);
        part.update(counted.sent());
        models.keep(&[]);
        check(&front, &[r#"tenon_engine_steps_total{model="m"} 2"#]);
        drop(part);
        models.keep(&["m"]);
        check(&front, &[r#"tenon_engine_steps_total{model="m"} 2"#]);
        models.keep(&["n"]);
        assert_eq!(pages(&front)[0], "");
    }

    #[test]
    fn later_figures_of_a_worker_replace_earlier_ones() {
        let (front, models) = front();
        let (part, counted) = (models.of_worker(), Counted::new(&Registry::new(), "m"));
        for steps in [2, 3] {
            counted.work(steps);
            part.update(counted.sent());
        }
        check(&front, &[r#"tenon_engine_steps_total{model="m"} 5"#]);
    }

    #[test]
    fn a_model_of_this_process_is_shown_as_it_counts_and_goes_on_where_it_ended() {
        let (front, models) = front();
        for sum in [3, 6] {
            let registry = Registry::new();
            let part = models.counted_in(registry.clone());
            let counted = Counted::new(&registry, "m");
            counted.work(3);
            let steps = format!(r#"tenon_engine_steps_total{{model="m"}} {sum}"#);
            let running = |count| format!(r#"tenon_engine_running_sequences{{model="m"}} {count}"#);
            check(&front, &[&steps, &running(3)]);
            drop(part);
            check(&front, &[&steps, &running(0)]);
        }
    }
}
