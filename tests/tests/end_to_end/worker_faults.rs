//! Each model runs in a worker, a process of its own. A worker that dies or hangs fails its own requests and nothing else.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tenon_tests::{
    Client, PATIENCE, PluginFolder, Server, ServerOptions, Stream, chat, ends_within, kill,
    processes_of, stop,
};
use tokio::{task::JoinHandle, time::sleep};

const PLAIN: &str = "/v1/completions";
const ECHO: &str = "tenon_plugin_echo";
const CRASHES: &str = "tenon_fixture_crashes";
/// A key with which each step writes one token, so that an answer takes a while although it repeats itself.
const UNHURRIED: &str = "max_draft_tokens = 0";
/// How long a worker may live after its server was killed.
const ORPHAN: Duration = Duration::from_secs(2);
/// Number of streams while a worker is killed.
const STREAMS: usize = 16;
/// Number of times that a worker is killed: no more than the default of `max_restarts`.
const KILLS: usize = 5;

#[tokio::test]
async fn the_server_itself_loads_no_plugin() {
    let (server, client) = start(&[("plain", "")], "").await;
    check_echo(&client).await;
    let maps = |id: u32| fs::read_to_string(format!("/proc/{id}/maps")).unwrap();
    let library = format!("lib{CRASHES}.so");
    let mut workers = server.workers().into_iter();
    assert!(workers.any(|id| maps(id).contains(&library)));
    for id in [CRASHES, ECHO] {
        let maps = maps(server.pid());
        assert!(!maps.contains(&format!("lib{id}.so")), "{maps}");
    }
}

#[tokio::test]
async fn a_request_of_a_worker_that_dies_is_told_how_and_the_model_is_back_soon() {
    let asserted = "SIGABRT, crashes.c:12: GGML_ASSERT(told_to_abort) failed";
    let faults = [
        ("forward-assert", asserted),
        ("encode-assert", asserted),
        ("forward-report", asserted),
        ("forward-segfault", "SIGSEGV"),
        ("sample-trap", "SIGILL, its plugin ended itself (with"),
        ("forward-exit", "it exited with 3"),
    ];
    let names = faults.map(|(name, _)| (name, ""));
    let (_server, client) = start(&names, "").await;
    for (model, how) in faults {
        check_restarts(&client, model, 0).await;
        let failed = client.post(PLAIN, &ask(model, "Go!")).await;
        check_died(&failed, how);
        check_echo(&client).await;
        wait_for_answer(&client, model).await;
        check_restarts(&client, model, 1).await;
    }
}

#[tokio::test]
async fn an_embedding_of_a_worker_that_dies_is_told_how() {
    let (_server, client) = start(&[("embed-segfault", "")], "").await;
    let body = json!({"model": "embed-segfault", "input": "Go!"});
    let failed = client.post("/v1/embeddings", &body).await;
    check_died(&failed, "SIGSEGV");
    check_echo(&client).await;
    wait_for_answer(&client, "embed-segfault").await;
}

#[tokio::test]
async fn a_stream_of_a_worker_that_dies_ends_with_the_error() {
    let (_server, client) = start_asserting().await;
    for path in [PLAIN, "/v1/chat/completions"] {
        let stream = broken_stream(&client, path).await;
        assert!(stream.text().starts_with('x'), "{path}: {stream:?}");
        let error = &stream.chunks.last().unwrap()["error"];
        assert_eq!(error["code"], "model_unavailable", "{path}");
        check_assertion(&error["message"]);
        assert!(stream.done, "{path}");
    }
}

#[tokio::test]
async fn a_response_of_a_worker_that_dies_fails_with_its_beginning() {
    let (_server, client) = start_asserting().await;
    let stream = broken_stream(&client, "/v1/responses").await;
    for (number, event) in stream.chunks.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{event}");
    }
    let [.., delta, error, failed] = &stream.chunks[..] else {
        panic!("{stream:?}");
    };
    assert_eq!(delta["type"], "response.output_text.delta");
    assert_eq!(error["type"], "error");
    assert_eq!(error["code"], "model_unavailable");
    check_assertion(&error["message"]);
    assert_eq!(failed["type"], "response.failed");
    let response = &failed["response"];
    assert_eq!(response["status"], "failed");
    let shown = json!({"code": "server_error", "message": error["message"]});
    assert_eq!(response["error"], shown);
    let begun = response["output"][0]["content"][0]["text"].as_str();
    assert!(begun.is_some_and(|text| text.starts_with('x')), "{failed}");
    assert!(stream.done);
}

#[tokio::test]
async fn a_message_of_a_worker_that_dies_ends_with_the_error() {
    let (_server, client) = start_asserting().await;
    let stream = broken_stream(&client, "/v1/messages").await;
    let [.., delta, last] = &stream.chunks[..] else {
        panic!("{stream:?}");
    };
    assert_eq!(delta["delta"]["type"], "text_delta");
    assert_eq!(last["type"], "error");
    assert_eq!(last["error"]["type"], "overloaded_error");
    check_assertion(&last["error"]["message"]);
}

#[tokio::test]
async fn a_worker_that_is_killed_under_streams_disturbs_no_other_model() {
    let config = "[[models]]\npath = 'echo.echo'\n[[models]]\npath = 'other.echo'\n\
                  [[models]]\npath = 'calm.crashes'\nmax_draft_tokens = 0\n";
    let mut options = ServerOptions::new(&[ECHO, CRASHES]);
    for file in ["echo.echo", "other.echo", "calm.crashes"] {
        options = options.file(file, "");
    }
    let mut server = options.config(config).spawn();
    for model in ["echo", "other", "calm"] {
        server.wait_for_log(&format!(r#"model ready model="{model}""#));
    }
    let client = server.client();
    let stop = Arc::new(AtomicBool::new(false));
    let mut others = keep_asking(&client, "echo", &stop);
    others.extend(keep_asking(&client, "other", &stop));
    let asked = ask("calm", "Go");
    for _ in 0..KILLS {
        let streams = (0..STREAMS).map(|_| client.open(PLAIN, &asked));
        let mut streams = join_all(streams).await;
        join_all(streams.iter_mut().map(|stream| stream.next_text())).await;
        kill(server.worker_of(CRASHES));
        let ends = streams.into_iter().map(|stream| stream.all_text());
        let ended = tokio::time::timeout(PATIENCE, join_all(ends)).await;
        assert!(ended.is_ok(), "a stream hangs");
        wait_for_answer(&client, "calm").await;
    }
    stop.store(true, Relaxed);
    for other in others {
        assert!(other.await.unwrap() > 0, "the other model was not asked");
    }
}

#[tokio::test]
async fn a_killed_worker_is_named_in_the_error() {
    let (server, client) = start(&[("calm", "")], UNHURRIED).await;
    let asked = ask("calm", "Go");
    let mut stream = client.open(PLAIN, &asked).await;
    stream.next_text().await;
    let waiting = client.post(PLAIN, &asked);
    let kill_soon = async {
        client
            .wait_for_metric("tenon_engine_running_sequences", 2.0)
            .await;
        kill(server.worker_of(CRASHES));
    };
    let (failed, ()) = tokio::join!(waiting, kill_soon);
    check_died(&failed, "SIGKILL");
}

#[tokio::test]
async fn a_model_whose_worker_dies_again_and_again_stays_down() {
    let model = "forward-assert";
    let (_server, client) = start(&[(model, "")], "max_restarts = 1").await;
    let deadline = Instant::now() + PATIENCE;
    let why = loop {
        let (status, answer) = client.post(PLAIN, &ask(model, "Go!")).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
        let health = health_of(&client, model).await;
        if health["status"] == "failed" {
            break health["error"].as_str().unwrap().to_owned();
        }
        assert!(Instant::now() < deadline, "{health}");
        sleep(Duration::from_millis(10)).await;
    };
    assert!(why.contains("SIGABRT"), "{why}");
    let response = client.send(PLAIN, &ask(model, "Go")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!response.headers().contains_key("retry-after"));
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["error"]["code"], "model_failed");
    check_echo(&client).await;
}

#[tokio::test]
async fn a_model_whose_worker_dies_while_it_loads_fails_alone() {
    let models = [("load-assert", ""), ("session-segfault", "")];
    let (mut server, client) = spawn(&models, "");
    server.wait_for_log(r#"model ready model="echo""#);
    for (model, how) in [("load-assert", "SIGABRT"), ("session-segfault", "SIGSEGV")] {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let health = health_of(&client, model).await;
            if health["status"] == "failed" {
                assert!(health["error"].as_str().unwrap().contains(how), "{health}");
                break;
            }
            assert!(Instant::now() < deadline, "{health}");
            sleep(Duration::from_millis(10)).await;
        }
    }
    check_echo(&client).await;
}

#[tokio::test]
async fn a_model_whose_worker_is_killed_while_it_loads_is_loaded_again() {
    let (mut server, client) = spawn(&[("load-doze", "")], "");
    kill(server.worker_of(CRASHES));
    server.wait_for_log("the model is loaded again");
    server.wait_for_log(r#"model ready model="load-doze""#);
    wait_for_answer(&client, "load-doze").await;
}

#[tokio::test]
async fn a_model_on_demand_that_dies_whenever_it_loads_stays_down() {
    let model = "load-assert";
    let keys = "load = 'on-demand'\nmax_restarts = 1";
    let (mut server, client) = spawn(&[(model, "")], keys);
    server.wait_for_log(r#"model ready model="echo""#);
    let (status, answer) = client.post(PLAIN, &ask(model, "Go")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    for part in ["it ended 2 times within ten minutes", "SIGABRT"] {
        assert!(message.contains(part), "{message}");
    }
    let begun = Instant::now();
    let (_, answer) = client.post(PLAIN, &ask(model, "Go")).await;
    assert_eq!(answer["error"]["code"], "model_failed");
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "it is loaded again"
    );
    assert_eq!(health_of(&client, model).await["status"], "failed");
}

#[tokio::test]
async fn a_request_that_arrives_while_a_worker_is_started_again_waits_for_it() {
    let model = "load-doze";
    let (mut server, client) = spawn(&[(model, "")], "");
    server.wait_for_log(&format!(r#"model ready model="{model}""#));
    wait_for_state(&client, model, "ready").await;
    kill(server.worker_of(CRASHES));
    wait_for_state(&client, model, "restarting").await;
    let mut body = ask(model, "Go");
    body["max_tokens"] = json!(2);
    let (status, answer) = client.post(PLAIN, &body).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(listed_state(&client, model).await.as_deref(), Some("ready"));
}

#[tokio::test]
async fn one_model_that_is_started_again_leaves_the_server_ready() {
    let model = "load-doze";
    let (server, client) = start(&[(model, "")], "").await;
    kill(server.worker_of(CRASHES));
    wait_for_state(&client, model, "restarting").await;
    for path in ["/health", "/health/ready"] {
        let (status, health) = client.get(path).await;
        assert_eq!(status, StatusCode::OK, "{health}");
        assert_eq!(health["status"], "degraded", "{health}");
    }
    assert_eq!(health_of(&client, model).await["status"], "loading");
}

#[tokio::test]
async fn a_model_that_dies_whenever_it_loads_can_be_unloaded() {
    let model = "load-assert";
    let (mut server, client) = spawn(&[(model, "")], "max_restarts = 1000");
    server.wait_for_log("the model is loaded again");
    let unload = format!("/admin/models/{model}/unload");
    let (status, answer) = client.post(&unload, &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["outcome"], "unloaded");
    assert_eq!(health_of(&client, model).await["status"], "unloaded");
    check_echo(&client).await;
    assert_eq!(server.workers().len(), 1);
}

#[tokio::test]
async fn the_end_of_a_worker_is_noticed_although_a_forked_process_has_its_socket() {
    let model = "forward-fork";
    let (server, client) = start(&[(model, "")], "").await;
    let group = server.worker_of(CRASHES);
    let asked = ask(model, "Go!");
    let failed = tokio::time::timeout(PATIENCE, client.post(PLAIN, &asked)).await;
    check_died(&failed.expect("the request hangs"), "SIGABRT");
    wait_for_answer(&client, model).await;
    let left = processes_of(group);
    assert!(left.is_empty(), "{left:?} of the worker's group run on");
}

#[tokio::test]
async fn a_worker_writes_no_core_dump() {
    let (server, client) = start(&[], "").await;
    check_echo(&client).await;
    let limits = |id: u32| {
        let text = fs::read_to_string(format!("/proc/{id}/limits")).unwrap();
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("Max core file size"));
        let words: Vec<_> = line
            .unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        [words[0].clone(), words[1].clone()]
    };
    let [_, most] = limits(server.pid());
    let expected = if most == "0" { "0" } else { "1" };
    assert_eq!(limits(server.worker()), [expected; 2]);
}

#[tokio::test]
async fn a_load_that_is_stuck_fails_alone() {
    let models = [("load-hang", ""), ("session-spin", ""), ("calm", "")];
    let (mut server, client) = spawn(&models, "load_timeout_secs = 1");
    server.wait_for_log(r#"model ready model="calm""#);
    for model in ["load-hang", "session-spin"] {
        let health = health_of(&client, model).await;
        let why = health["error"].as_str().unwrap_or_default();
        assert!(why.contains("its load was stuck"), "{health}");
    }
    let left = Instant::now() + PATIENCE;
    while server.workers().len() > 2 {
        assert!(Instant::now() < left, "a stuck worker runs on");
        sleep(Duration::from_millis(10)).await;
    }
    check_echo(&client).await;
}

#[tokio::test]
async fn an_embedding_that_is_stuck_ends_its_worker() {
    let model = "embed-spin";
    let (_server, client) = start(&[(model, "")], "stuck_timeout_secs = 1").await;
    let body = json!({"model": model, "input": "Go!"});
    let failed = client.post("/v1/embeddings", &body).await;
    check_died(&failed, "SIGABRT, it was stuck");
    check_echo(&client).await;
    wait_for_answer(&client, model).await;
}

#[tokio::test]
async fn the_last_stream_of_an_unloaded_model_may_be_stuck_too() {
    let model = "forward-hang";
    // The load hangs after half a second.
    let keys = format!("{UNHURRIED}\nstuck_timeout_secs = 3");
    let (_server, client) = start(&[(model, "250")], &keys).await;
    let mut stream = client.open(PLAIN, &ask(model, "Go!")).await;
    stream.next_text().await;
    let unload = format!("/admin/models/{model}/unload");
    let (status, answer) = client.post(&unload, &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let ended = tokio::time::timeout(PATIENCE, stream.all_text()).await;
    assert!(ended.is_ok(), "the stream hangs");
}

#[tokio::test]
async fn a_worker_that_is_stuck_is_ended() {
    let models = [
        ("forward-spin", ""),
        ("forward-hang", ""),
        ("forward-doze", ""),
    ];
    let (_server, client) = start(&models, "stuck_timeout_secs = 2").await;
    for model in ["forward-spin", "forward-hang"] {
        let begun = Instant::now();
        let (status, answer) = client.post(PLAIN, &ask(model, "Go!")).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains("stuck"), "{message}");
        assert!(begun.elapsed() >= Duration::from_secs(2));
        check_echo(&client).await;
        wait_for_answer(&client, model).await;
    }
    // Each step takes a second, which is long but not too long.
    let mut slow = ask("forward-doze", "Go!");
    slow["max_tokens"] = json!(4);
    let (status, answer) = client.post(PLAIN, &slow).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

#[tokio::test]
async fn a_worker_that_does_not_answer_is_ended() {
    let (server, client) = start(&[("calm", "")], "stuck_timeout_secs = 2").await;
    stop(server.worker_of(CRASHES));
    let failed = client.post(PLAIN, &ask("calm", "Go")).await;
    check_died(&failed, "SIGKILL, it did not answer for 2 s");
    check_echo(&client).await;
    wait_for_answer(&client, "calm").await;
}

#[tokio::test]
async fn a_worker_that_takes_too_much_memory_dies_alone() {
    let model = "forward-allocate";
    let (mut server, client) = start(&[(model, "")], "memory_limit_bytes = 1_073_741_824").await;
    server.wait_for_log("memory_limit_bytes is kept by ");
    let (status, answer) = client.post(PLAIN, &ask(model, "Go!")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("the model's worker ended"), "{message}");
    check_echo(&client).await;
    wait_for_answer(&client, model).await;
}

#[tokio::test]
async fn out_of_memory_a_worker_is_ended_rather_than_the_server() {
    let (server, client) = start(&[], "").await;
    check_echo(&client).await;
    let score = |id: u32| {
        let text = fs::read_to_string(format!("/proc/{id}/oom_score_adj")).unwrap();
        text.trim().parse::<i32>().unwrap()
    };
    let of_server = score(server.pid());
    assert_eq!(score(server.worker()), (of_server + 200).min(1000));
}

#[tokio::test]
async fn no_worker_outlives_its_server() {
    let (mut server, client) = start(&[("calm", ""), ("forward-hang", "3")], UNHURRIED).await;
    let workers = server.workers();
    assert_eq!(workers.len(), 3);
    // One worker computes, another hangs after three steps, and the third is idle.
    let mut calm = client.open(PLAIN, &ask("calm", "Go")).await;
    let mut stuck = client.open(PLAIN, &ask("forward-hang", "Go!")).await;
    calm.next_text().await;
    stuck.next_text().await;
    server.signal("KILL");
    server.wait();
    let killed = Instant::now();
    for worker in workers {
        let left = ORPHAN.saturating_sub(killed.elapsed());
        assert!(ends_within(worker, left), "worker {worker} runs on");
    }
}

#[tokio::test]
async fn what_a_plugin_started_does_not_outlive_the_server() {
    let (mut server, client) = start(&[("load-sleeper", "")], "").await;
    wait_for_answer(&client, "load-sleeper").await;
    let group = server.worker_of(CRASHES);
    assert_eq!(processes_of(group).len(), 2);
    server.signal("KILL");
    server.wait();
    for process in processes_of(group) {
        assert!(ends_within(process, ORPHAN), "process {process} runs on");
    }
}

#[tokio::test]
async fn no_worker_whose_plugin_hangs_in_its_start_outlives_its_server() {
    let folder = PluginFolder::empty();
    folder.install(CRASHES, "worker-hang.so");
    let mut server = ServerOptions::new(&[ECHO])
        .plugin(folder.path("worker-hang.so"))
        .file("echo.echo", "")
        .file("calm.crashes", "")
        .config("[[models]]\npath = 'echo.echo'\n[[models]]\npath = 'calm.crashes'\n")
        .spawn();
    server.wait_for_log(r#"model ready model="echo""#);
    let worker = server.worker_with("worker-hang.so");
    server.signal("KILL");
    server.wait();
    assert!(ends_within(worker, ORPHAN), "worker {worker} runs on");
}

#[tokio::test]
async fn a_worker_that_dies_when_its_model_is_dropped_does_not_change_how_the_server_ends() {
    let (mut server, client) = start(&[("drop-abort", "")], "").await;
    wait_for_answer(&client, "drop-abort").await;
    let workers = server.workers();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    for worker in workers {
        assert!(ends_within(worker, ORPHAN), "worker {worker} runs on");
    }
}

#[tokio::test]
async fn without_isolation_there_is_no_worker() {
    let mut server = ServerOptions::echo(0)
        .config("[engine]\nisolation = 'none'\n")
        .start();
    check_echo(&server.client()).await;
    let page = server.client().get_text("/metrics").await;
    assert!(!page.contains("tenon_worker_resident_bytes"), "{page}");
    assert_eq!(server.workers(), Vec::<u32>::new());
}

/// A server of an echo model and of these models of the fixture, each with its file's content. `keys` are those of each of
/// their `[[models]]`. Waits until all can be used.
async fn start(models: &[(&str, &str)], keys: &str) -> (Server, Client) {
    let (mut server, client) = spawn(models, keys);
    for model in ["echo"].iter().chain(models.iter().map(|(model, _)| model)) {
        server.wait_for_log(&format!(r#"model ready model="{model}""#));
    }
    (server, client)
}

/// A server of a model that can chat, and asserts in the middle of its answer.
async fn start_asserting() -> (Server, Client) {
    start(&[("forward-assert", "5")], "chat_template = 'chat.jinja'").await
}

fn spawn(models: &[(&str, &str)], keys: &str) -> (Server, Client) {
    let mut config = "[[models]]\npath = 'echo.echo'\n".to_owned();
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}";
    let mut options = ServerOptions::new(&[ECHO, CRASHES])
        .file("echo.echo", "")
        .file("chat.jinja", template);
    for (model, content) in models {
        options = options.file(&format!("{model}.crashes"), content);
        config += &format!("[[models]]\npath = '{model}.crashes'\n{keys}\n");
    }
    let mut server = options.config(&config).spawn();
    let client = server.client();
    (server, client)
}

/// A request with a long answer. A `!` in the prompt sets the model's fault off.
fn ask(model: &str, prompt: &str) -> Value {
    json!({"model": model, "prompt": prompt, "max_tokens": 2000})
}

/// The stream of a route whose model asserts. Waits until the model can be used again.
async fn broken_stream(client: &Client, path: &str) -> Stream {
    let model = "forward-assert";
    let body = match path {
        PLAIN => ask(model, "Go!"),
        "/v1/responses" => json!({"model": model, "input": "Go!"}),
        _ => chat("Go!", json!({"model": model, "max_tokens": 2000})),
    };
    let stream = client.stream(path, &body).await;
    wait_for_answer(client, model).await;
    stream
}

#[track_caller]
fn check_assertion(message: &Value) {
    let message = message.as_str().unwrap();
    let expected = "the model's worker ended: SIGABRT, crashes.c:12: GGML_ASSERT(told_to_abort)";
    assert!(message.contains(expected), "{message}");
}

#[track_caller]
fn check_died((status, answer): &(StatusCode, Value), how: &str) {
    assert_eq!(*status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    let error = &answer["error"];
    assert_eq!(error["code"], "model_unavailable", "{answer}");
    let message = error["message"].as_str().unwrap();
    let expected = format!("the model's worker ended: {how}");
    assert!(message.contains(&expected), "{message} is not: {expected}");
}

/// Asks a model until it answers. Until then it must answer 503 with `Retry-After`.
async fn wait_for_answer(client: &Client, model: &str) {
    let mut body = ask(model, "Go");
    body["max_tokens"] = json!(2);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let response = client.send(PLAIN, &body).await;
        if response.status() == StatusCode::OK {
            return;
        }
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key("retry-after"));
        assert!(Instant::now() < deadline, "{model} stays away");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Checks how often the metrics say that a model's worker was started again, and that they show a worker's memory.
async fn check_restarts(client: &Client, model: &str, expected: u32) {
    let page = client.get_text("/metrics").await;
    let restarts = format!(r#"tenon_worker_restarts_total{{model="{model}"}} {expected}"#);
    assert!(page.lines().any(|line| line == restarts), "{page}");
    let memory = format!(r#"tenon_worker_resident_bytes{{model="{model}"}} "#);
    let bytes = page.lines().find_map(|line| line.strip_prefix(&memory));
    let bytes: u64 = bytes.expect("a worker's memory").parse().unwrap();
    assert!((1 << 20..1 << 30).contains(&bytes), "{bytes}");
}

async fn check_echo(client: &Client) {
    let parameters = json!({"model": "echo", "temperature": 0});
    assert_eq!(client.chat("Hi", parameters).await, "Hi");
}

/// Asks a model of echo from several clients until told to stop. Each returns its number of answers; all must be right.
fn keep_asking(
    client: &Client,
    model: &'static str,
    stop: &Arc<AtomicBool>,
) -> Vec<JoinHandle<usize>> {
    let ask = |_| {
        let (client, stop) = (client.clone(), Arc::clone(stop));
        tokio::spawn(async move {
            let mut answers = 0;
            while !stop.load(Relaxed) {
                let parameters = json!({"model": model, "temperature": 0});
                assert_eq!(client.chat("Hi", parameters).await, "Hi");
                answers += 1;
            }
            answers
        })
    };
    (0..4).map(ask).collect()
}

/// The state in which a model is listed.
async fn listed_state(client: &Client, model: &str) -> Option<String> {
    let (_, list) = client.get("/v1/models").await;
    let mut models = list["data"].as_array().unwrap().iter();
    let found = models.find(|other| other["id"] == model)?;
    Some(found["state"].as_str().unwrap().to_owned())
}

async fn wait_for_state(client: &Client, model: &str, expected: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let state = listed_state(client, model).await;
        if state.as_deref() == Some(expected) {
            return;
        }
        assert!(Instant::now() < deadline, "{model} is {state:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn health_of(client: &Client, model: &str) -> Value {
    let (_, health) = client.get("/health").await;
    let models = health["models"].as_array().unwrap();
    let found = models.iter().find(|other| other["id"] == model);
    found.cloned().unwrap_or_default()
}
