//! Tenon's metrics under vLLM's names, which schedulers and dashboards know.
//!
//! Names, labels and units are those of vLLM's `vllm/v1/metrics/loggers.py` and `vllm/v1/spec_decode/metrics.py`; see also
//! <https://docs.vllm.ai/en/stable/usage/metrics/>. Schedulers of the Kubernetes Gateway API inference extension read the gauges,
//! as its `docs/proposals/003-model-server-protocol` says. Nothing is counted here: each scrape copies Tenon's metrics.

use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily};

/// Tenon's name and vLLM's name of each metric that both have.
const NAMES: &[(&str, &str)] = &[
    (
        "tenon_engine_waiting_sequences",
        "vllm:num_requests_waiting",
    ),
    (
        "tenon_engine_running_sequences",
        "vllm:num_requests_running",
    ),
    (
        "tenon_engine_preemptions_total",
        "vllm:num_preemptions_total",
    ),
    (
        "tenon_engine_prefix_lookup_tokens_total",
        "vllm:prefix_cache_queries_total",
    ),
    (
        "tenon_engine_cached_tokens_total",
        "vllm:prefix_cache_hits_total",
    ),
    (
        "tenon_engine_drafted_tokens_total",
        "vllm:spec_decode_num_draft_tokens_total",
    ),
    (
        "tenon_engine_accepted_tokens_total",
        "vllm:spec_decode_num_accepted_tokens_total",
    ),
    ("tenon_prompt_tokens_total", "vllm:prompt_tokens_total"),
    (
        "tenon_completion_tokens_total",
        "vllm:generation_tokens_total",
    ),
    ("tenon_request_prompt_tokens", "vllm:request_prompt_tokens"),
    (
        "tenon_request_completion_tokens",
        "vllm:request_generation_tokens",
    ),
    ("tenon_answers_total", "vllm:request_success_total"),
    ("tenon_queue_seconds", "vllm:request_queue_time_seconds"),
    (
        "tenon_time_to_first_token_seconds",
        "vllm:time_to_first_token_seconds",
    ),
    (
        "tenon_inter_token_seconds",
        "vllm:inter_token_latency_seconds",
    ),
    (
        "tenon_time_per_token_seconds",
        "vllm:request_time_per_output_token_seconds",
    ),
    (
        "tenon_generation_seconds",
        "vllm:e2e_request_latency_seconds",
    ),
];

/// Tokens of a block of the KV pool, as vLLM's metrics tell it. Tenon allocates single tokens, but schedulers make blocks of prompts by
/// this size, and look at a few hundred of them at most.
const BLOCK_TOKENS: u64 = 16;

/// The families of vLLM's names, made of Tenon's.
pub fn families(own: &[MetricFamily]) -> Vec<MetricFamily> {
    let copies = NAMES.iter();
    let mut families: Vec<_> = copies
        .filter_map(|&(ours, theirs)| renamed(own, ours, theirs))
        .collect();
    families.extend(kv_pool(own).into_iter().flatten());
    families.extend(lora_adapters(own));
    families.retain(|family| !family.get_metric().is_empty());
    families
}

/// Two gauges: the part of the KV pool that is used, and one whose labels tell the pool's size.
fn kv_pool(own: &[MetricFamily]) -> Option<[MetricFamily; 2]> {
    let running = "tenon_engine_kv_running_tokens";
    let mut usage = renamed(own, running, "vllm:kv_cache_usage_perc")?;
    let total = "tenon_engine_kv_total_tokens";
    let mut config = renamed(own, total, "vllm:cache_config_info")?;
    // A model that is not loaded has no pool.
    config.mut_metric().retain(|pool| value(pool) > 0.0);
    for usage in usage.mut_metric() {
        let mut pools = config.get_metric().iter();
        let pool = pools.find(|pool| pool.get_label() == usage.get_label());
        set(usage, pool.map_or(0.0, |pool| value(usage) / value(pool)));
    }
    for pool in config.mut_metric() {
        let mut labels = pool.take_label();
        let blocks = value(pool) as u64 / BLOCK_TOKENS;
        labels.push(label("block_size", &BLOCK_TOKENS.to_string()));
        labels.push(label("num_gpu_blocks", &blocks.to_string()));
        pool.set_label(labels);
        set(pool, 1.0);
    }
    usage.set_help(
        "Part of the KV pool that running sequences use, from 0 to 1; cached prefixes do not count, because they give way"
            .to_owned(),
    );
    config.set_help(
        "1; the labels are the size of the KV pool in blocks, although single tokens are allocated"
            .to_owned(),
    );
    Some([usage, config])
}

/// A gauge whose labels tell which LoRA adapters run and wait. There are none, but some schedulers do not use a server that lacks the
/// gauge.
fn lora_adapters(own: &[MetricFamily]) -> Option<MetricFamily> {
    let running = "tenon_engine_running_sequences";
    let mut adapters = renamed(own, running, "vllm:lora_requests_info")?;
    for model in adapters.mut_metric() {
        let mut labels = model.take_label();
        labels.push(label("max_lora", "0"));
        labels.push(label("running_lora_adapters", ""));
        labels.push(label("waiting_lora_adapters", ""));
        model.set_label(labels);
        set(model, 0.0);
    }
    adapters.set_help(
        "0; the labels name the LoRA adapters that run and wait, of which there are none"
            .to_owned(),
    );
    Some(adapters)
}

/// A copy of one of Tenon's families with vLLM's name and labels. A family with the label `outcome` keeps only `finished`.
fn renamed(own: &[MetricFamily], ours: &str, theirs: &str) -> Option<MetricFamily> {
    let mut family = own.iter().find(|family| family.name() == ours)?.clone();
    family.set_name(theirs.to_owned());
    let is_finished = |label: &LabelPair| label.name() != "outcome" || label.value() == "finished";
    let metrics = family.mut_metric();
    metrics.retain(|metric| metric.get_label().iter().all(is_finished));
    metrics.iter_mut().for_each(relabel);
    Some(family)
}

fn relabel(metric: &mut Metric) {
    let mut labels = metric.take_label();
    labels.retain(|label| label.name() != "outcome");
    for label in &mut labels {
        if label.name() == "model" {
            label.set_name("model_name".to_owned());
        }
    }
    // vLLM numbers the replicas of a model within a server. Tenon has one of each.
    labels.insert(0, label("engine", "0"));
    metric.set_label(labels);
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

fn value(metric: &Metric) -> f64 {
    metric.get_gauge().get_value()
}

fn set(metric: &mut Metric, value: f64) {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    metric.set_gauge(gauge);
}
