//! The metrics of workers: processes that count for themselves and send their figures.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus::{
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::figures::Figures;

/// Shows the figures of all workers as if they were counted in this process. A metric of several workers is shown as their sum.
/// Counters and histograms of ended workers stay in the sum, so a counter never goes back. Their gauges count as 0.
///
/// A part that is updated with metrics of 0 and dropped shows a model's metrics before the first worker has sent any.
#[derive(Clone, Default)]
pub struct WorkerMetrics(Arc<Mutex<Parts>>);

#[derive(Default)]
struct Parts {
    /// The sum of the ended workers' figures.
    ended: Figures,
    /// The latest figures of each worker that lives.
    living: BTreeMap<u64, Figures>,
    /// The number of workers so far.
    workers: u64,
}

impl WorkerMetrics {
    /// Adds a worker, which has no figures yet.
    pub fn part(&self) -> WorkerPart {
        let mut parts = self.lock();
        let worker = parts.workers;
        parts.workers += 1;
        WorkerPart {
            metrics: self.clone(),
            worker,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for WorkerMetrics {
    /// None: what workers count is not known before they send it. A registry takes one collector without descriptors.
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let parts = self.lock();
        let mut sum = parts.ended.clone();
        parts.living.values().for_each(|figures| sum.add(figures));
        sum.families()
    }
}

/// One worker's part of the metrics. To be dropped when the worker has ended.
pub struct WorkerPart {
    metrics: WorkerMetrics,
    worker: u64,
}

impl WorkerPart {
    /// Replaces the worker's figures. They are to be given in the order in which the worker took them.
    pub fn update(&self, figures: Figures) {
        self.metrics.lock().living.insert(self.worker, figures);
    }
}

impl Drop for WorkerPart {
    fn drop(&mut self) {
        let mut parts = self.metrics.lock();
        let mut last = parts.living.remove(&self.worker).unwrap_or_default();
        last.clear_gauges();
        parts.ended.add(&last);
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::{
        engine::EngineMetrics,
        grammar::GrammarMetrics,
        metrics::{Format, Metrics},
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
        [Format::Prometheus, Format::OpenMetrics].map(|format| metrics.render(format).unwrap())
    }

    fn front() -> (Registry, WorkerMetrics) {
        let (registry, workers) = (Registry::new(), WorkerMetrics::default());
        registry.register(Box::new(workers.clone())).unwrap();
        (registry, workers)
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
        let (front, workers) = front();
        let local = Registry::new();
        let models = [("b", 3), ("a", 2)].map(|(model, amount)| {
            let here = Counted::new(&local, model);
            let worker = Counted::new(&Registry::new(), model);
            here.work(amount);
            worker.work(amount);
            let part = workers.part();
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
        drop(models);
    }

    #[test]
    fn an_ended_worker_leaves_its_counters_to_the_next() {
        let (front, workers) = front();
        let (old, new) = (workers.part(), workers.part());
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
    fn later_figures_of_a_worker_replace_earlier_ones() {
        let (front, workers) = front();
        let (part, counted) = (workers.part(), Counted::new(&Registry::new(), "m"));
        for steps in [2, 3] {
            counted.work(steps);
            part.update(counted.sent());
        }
        check(&front, &[r#"tenon_engine_steps_total{model="m"} 5"#]);
    }
}
