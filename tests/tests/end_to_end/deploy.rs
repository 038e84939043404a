//! The files in `config/deploy`, and the files of a release that the program writes itself.

use std::{collections::BTreeSet, env, fs, path::Path, process::Command};

use regex::Regex;
use serde_json::{Value, json};
use tempfile::tempdir;
use tenon_tests::{ServerOptions, artifacts, chat, metric_in, packages};

use super::clients::check;

const TESTS: &str = env!("CARGO_MANIFEST_DIR");
const DASHBOARD: &str = include_str!("../../../config/deploy/grafana.json");
/// Words of PromQL in the dashboard that are no metrics.
const PROMQL: [&str; 7] = [
    "by",
    "histogram_quantile",
    "increase",
    "label_values",
    "le",
    "rate",
    "sum",
];
/// Labels that the dashboard sums by, and labels that its variables read.
const LABELS: [&str; 6] = [
    "finished_reason",
    "instance",
    "key",
    "kind",
    "model",
    "status",
];

#[tokio::test]
async fn the_dashboard_shows_metrics_that_the_server_has() {
    let keys = "[server]\napi_keys = ['key']";
    let mut server = ServerOptions::echo(0).config(keys).start();
    let client = server.client().with_key("key");
    for parameters in [
        json!({}),
        json!({"response_format": {"type": "json_object"}}),
    ] {
        let request = chat("Hi", parameters);
        assert_eq!(client.post("/v1/chat/completions", &request).await.0, 200);
    }
    let page = client.get_text("/metrics").await;
    let is_there = |name: &str, labels: &BTreeSet<String>| {
        let samples = page.lines().filter_map(|line| line.strip_prefix(name));
        let mut samples = samples.filter(|sample| sample.starts_with([' ', '{']));
        samples.any(|sample| labels.is_subset(&labels_of_sample(sample)))
    };
    let dashboard = serde_json::from_str(DASHBOARD).unwrap();
    let queries = queries(&dashboard);
    assert!(queries.len() > 30, "{}", queries.len());
    for query in &queries {
        let metrics = metrics_of(query);
        assert!(!metrics.is_empty(), "{query}");
        let labels = labels_of(query);
        for metric in metrics {
            assert!(
                is_there(&metric, &labels),
                "no {metric} with {labels:?} of {query} in:\n{page}"
            );
        }
    }
}

/// All queries of a dashboard: those of its panels and of its variables.
fn queries(dashboard: &Value) -> Vec<&str> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array());
    let of_panels = targets.flatten().map(|target| &target["expr"]);
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let of_variables = variables.filter_map(|variable| variable.get("definition"));
    let queries = of_panels.chain(of_variables);
    queries.map(|query| query.as_str().unwrap()).collect()
}

/// The names in a query that are no words of PromQL and no labels.
fn metrics_of(query: &str) -> BTreeSet<String> {
    let matchers = Regex::new(r"\{[^}]*\}|\[[^\]]*\]").unwrap();
    let names = Regex::new(r"[a-zA-Z_:][a-zA-Z0-9_:]*").unwrap();
    let query = matchers.replace_all(query, " ");
    let names = names.find_iter(&query).map(|name| name.as_str());
    let is_metric = |name: &&str| !PROMQL.contains(name) && !LABELS.contains(name);
    names.filter(is_metric).map(str::to_owned).collect()
}

/// The labels in a query, without that of the server, which Prometheus adds.
fn labels_of(query: &str) -> BTreeSet<String> {
    let matched = Regex::new(r"(\w+)(?:=~|!~|!=|=)").unwrap();
    let matched = matched
        .captures_iter(query)
        .map(|found| found[1].to_owned());
    let lists = Regex::new(r"\bby \(([^)]*)\)|label_values\(\w+,([^)]*)\)").unwrap();
    let lists = lists.captures_iter(query).flat_map(|found| {
        let list = found.get(1).or(found.get(2)).unwrap().as_str();
        let names = list.split(',').map(|name| name.trim().to_owned());
        names.collect::<Vec<_>>()
    });
    matched
        .chain(lists)
        .filter(|label| label != "instance")
        .collect()
}

/// The labels of a sample, whose metric's name is left out.
fn labels_of_sample(sample: &str) -> BTreeSet<String> {
    let labels = Regex::new(r#"(\w+)=""#).unwrap();
    let labels = labels.captures_iter(sample);
    labels.map(|found| found[1].to_owned()).collect()
}

/// What the Kubernetes Gateway API inference extension asks of model servers in its proposal 003: two of OpenAI's routes, and gauges.
/// The metric of LoRA adapters has labels that it reads.
#[tokio::test]
async fn the_server_obeys_the_model_server_protocol() {
    let mut server = ServerOptions::echo(0).start();
    let client = server.client();
    for (route, body) in [
        ("/v1/completions", json!({"model": "echo", "prompt": "Hi"})),
        ("/v1/chat/completions", chat("Hi", json!({"model": "echo"}))),
    ] {
        assert_eq!(client.post(route, &body).await.0, 200, "{route}");
    }
    let page = client.get_text("/metrics").await;
    for gauge in [
        "vllm:num_requests_waiting",
        "vllm:num_requests_running",
        "vllm:kv_cache_usage_perc",
        "vllm:cache_config_info",
        "vllm:lora_requests_info",
    ] {
        let kind = format!("# TYPE {gauge} gauge\n");
        assert!(page.contains(&kind), "no {kind} in:\n{page}");
    }
    assert_eq!(metric_in(&page, "vllm:num_requests_waiting"), 0.0);
    assert!((0.0..=1.0).contains(&metric_in(&page, "vllm:kv_cache_usage_perc")));
    let adapters = r#"vllm:lora_requests_info{engine="0",max_lora="0",model_name="echo",running_lora_adapters="",waiting_lora_adapters=""} 0"#;
    let labels = |line: &str| {
        line.split(['{', ',', '}'])
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
    };
    assert!(
        page.lines().any(|line| labels(line) == labels(adapters)),
        "{page}"
    );
}

#[test]
fn the_files_for_kubernetes_docker_and_systemd_fit_their_schemas_and_the_server() {
    let mut server = ServerOptions::echo(0).start();
    let output = Command::new("python3")
        .arg(Path::new(TESTS).join("python/deploy_files.py"))
        .arg(server.address())
        .arg(&artifacts().tenon)
        .env("PYTHONPATH", packages("python"))
        .output();
    check(output.unwrap());
}

#[test]
fn behind_haproxy_no_request_fails_while_servers_restart() {
    restarts("haproxy");
}

#[test]
fn behind_nginx_no_request_fails_while_servers_restart() {
    restarts("nginx");
}

fn restarts(proxy: &str) {
    if Command::new(proxy).arg("-v").output().is_err() {
        assert!(env::var_os("CI").is_none(), "{proxy} is not installed");
        eprintln!("skipped: {proxy} is not installed (.ci/setup --ci installs it)");
        return;
    }
    run_example(
        "restarts.py",
        &["--proxy", proxy, "--requests", "200", "--restarts", "2"],
    );
}

#[test]
fn two_replicas_answer_agents_in_turn_and_by_metrics_and_prefix() {
    run_example("replicas.py", &["--agents", "4", "--turns", "2"]);
}

/// Runs a script that starts servers of the echo model.
fn run_example(script: &str, options: &[&str]) {
    // Started only for its directory with the echo plugin.
    let server = ServerOptions::echo(0).start();
    let output = Command::new("python3")
        .arg(Path::new(TESTS).join("examples").join(script))
        .arg(&artifacts().tenon)
        .arg("--plugins")
        .arg(server.home().join("plugins"))
        .args(options)
        .output();
    check(output.unwrap());
}

#[test]
fn the_program_writes_its_man_pages_and_completions() {
    let folder = tempdir().unwrap();
    let mut tenon = Command::new(&artifacts().tenon);
    check(tenon.arg("generate").arg(folder.path()).output().unwrap());
    for name in [
        "man/man1/tenon.1",
        "man/man1/tenon-serve.1",
        "man/man1/tenon-config-check.1",
        "bash-completion/completions/tenon.bash",
        "fish/vendor_completions.d/tenon.fish",
        "zsh/site-functions/_tenon",
    ] {
        let text = fs::read_to_string(folder.path().join(name)).expect(name);
        assert!(text.contains("tenon"), "{name}");
        // Commands for child processes are not for people.
        assert!(!text.contains("worker"), "{name}");
    }
}
