//! Tests of which layer's value wins.

use std::{env, fs, path::Path, time::Duration};

use serde_json::json;
use tempfile::TempDir;

use super::{environment, load, load_toml};
use crate::{
    config::{
        Config, Engine, Flags, Hosts, Isolation, Listen, ListenAddress, Load, LogFormat, ModelPath,
        Origins, RequestBounds, Sandbox, Scope, Server, Threads, load_from,
    },
    markup::ReasoningTags,
};

#[test]
fn without_anything_there_are_defaults() {
    let config = load_from(None, &environment(&[]), &Flags::default()).unwrap();
    let expected = Server {
        listen: vec![Listen {
            address: ListenAddress::Tcp {
                host: "127.0.0.1".into(),
                port: 8080,
            },
            scope: Scope::Everything,
            is_encrypted: false,
        }],
        keep_alive_interval: Duration::from_secs(10),
        drain_delay: Duration::ZERO,
        drain_timeout: Duration::from_secs(30),
        request_timeout: None,
        header_timeout: Duration::from_secs(15),
        body_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(65),
        write_timeout: Duration::from_secs(60),
        max_connections: 1024,
        max_connections_per_client: None,
        max_body_bytes: 32 << 20,
        requantize_needs_admin_key: true,
        memory_budget_bytes: None,
        unload_busy_models: false,
        watch_config: true,
        origins: Origins::Local,
        hosts: Hosts::These(Vec::new()),
        log_format: LogFormat::Text,
        access_log: false,
        log_prompts: false,
    };
    assert_eq!(config.server, expected);
    assert!(config.keys.is_empty());
    let beside = env::current_exe().unwrap().with_file_name("plugins");
    assert_eq!(config.plugins.directories, [beside]);
    assert!(config.plugins.watch && !config.plugins.reload_on_replace);
    assert!(config.models.is_empty());
}

#[test]
fn a_bare_model_path_is_enough() {
    let flags = Flags {
        model_path: Some("models/Some.Q4_1.gguf".into()),
        ..Flags::default()
    };
    let config = load_from(None, &environment(&[]), &flags).unwrap();
    let model = &config.models[0];
    assert_eq!(model.id, "Some.Q4_1");
    let path = env::current_dir().unwrap().join("models/Some.Q4_1.gguf");
    assert_eq!(model.path, ModelPath::Local(path));
    assert_eq!(model.options, json!({}));
    let expected = Engine {
        context_length: 0,
        max_sequences: 16,
        max_cached_sequences: 16,
        kv_tokens: 0,
        max_batch_tokens: 512,
        max_step: Some(Duration::from_millis(200)),
        max_draft_tokens: 32,
        max_queue: 256,
        requests: RequestBounds {
            max_answers: None,
            max_output_tokens: None,
            min_priority: 0,
        },
        threads: Threads::Auto,
        isolation: Isolation::Process,
        sandbox: Sandbox::Strict,
        stuck_timeout: None,
        load_timeout: Duration::from_secs(600),
        max_restarts: 5,
        load: Load::Startup,
        idle_unload: None,
    };
    assert_eq!(model.engine, expected);
}

#[test]
fn each_layer_covers_the_one_below() {
    let toml = "[server]\nhost = 'toml'\nport = 1\ndrain_timeout_secs = 5";
    let variables = [
        ("TENON__SERVER__PORT", "2"),
        ("TENON__SERVER__HOST", "8080"),
    ];
    let flags = Flags {
        port: Some(3),
        ..Flags::default()
    };
    let server = load(toml, &variables, &flags).unwrap().server;
    // A host that consists of digits stays text.
    let address = |server: &Server| server.listen[0].address.to_string();
    assert_eq!(address(&server), "8080:3");
    assert_eq!(server.drain_timeout, Duration::from_secs(5));
    let server = load(toml, &variables, &Flags::default()).unwrap().server;
    assert_eq!(address(&server), "8080:2");
    assert_eq!(address(&load_toml(toml).server), "toml:1");
}

#[test]
fn addresses_can_be_several() {
    let toml = "[server]\nlisten = ['0.0.0.0:1', 'unix:a.sock']\nadmin_listen = '[::1]:2'";
    let shown = |server: Server| -> Vec<_> {
        let all = server.listen.into_iter();
        all.map(|listen| (listen.address.to_string(), listen.scope))
            .collect()
    };
    let server = load_toml(toml).server;
    assert_eq!(server.hosts, Hosts::Any);
    let [public, socket, admin] = shown(server).try_into().unwrap();
    assert_eq!(public, ("0.0.0.0:1".to_owned(), Scope::Clients));
    assert!(socket.0.starts_with("unix:/") && socket.0.ends_with("/a.sock"));
    assert_eq!(admin, ("[::1]:2".to_owned(), Scope::Administration));

    let tls = "[tls]\ncertificate_file = 'a'\nkey_file = 'b'\n[server]\n";
    let listen = "listen = ['a:1', 'http://a:2', 'https://a:3', 'unix:b']";
    for (keys, expected) in [("", &[true][..]), (listen, &[true, false, true, false])] {
        let listen = load_toml(&format!("{tls}{keys}")).server.listen;
        let encrypted: Vec<_> = listen.iter().map(|listen| listen.is_encrypted).collect();
        assert_eq!(encrypted, expected);
    }

    let variable = [("TENON__SERVER__LISTEN", "localhost:3")];
    let server = load("", &variable, &Flags::default()).unwrap().server;
    assert_eq!(server.hosts, Hosts::These(Vec::new()));
    assert_eq!(
        shown(server),
        [("localhost:3".to_owned(), Scope::Everything)]
    );
}

#[test]
fn variables_of_opentelemetry_set_the_collector() {
    let toml = "[telemetry]\notlp_endpoint = 'http://file:4318'\nservice_name = 'file'";
    let endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let check = |toml, variables: &[_], endpoint, name| {
        let telemetry = load(toml, variables, &Flags::default()).unwrap().telemetry;
        let found = (telemetry.otlp_endpoint, telemetry.service_name);
        let text = |text: Option<&str>| text.map(str::to_owned);
        assert_eq!(found, (text(endpoint), text(name)));
    };
    check("", &[], None, None);
    check(toml, &[], Some("http://file:4318"), Some("file"));
    let variables = [
        (endpoint, "https://variable/otlp"),
        ("OTEL_SERVICE_NAME", "front"),
    ];
    check(
        toml,
        &variables,
        Some("https://variable/otlp"),
        Some("front"),
    );
    check("", &[(endpoint, ""), ("OTEL_SERVICE_NAME", "")], None, None);
}

#[test]
fn keep_alive_has_two_variables() {
    let toml = "[server]\nkeep_alive_interval_ms = 1";
    let short = ("KEEP_ALIVE_INTERVAL", "2");
    let long = ("TENON__SERVER__KEEP_ALIVE_INTERVAL_MS", "3");
    let check = |toml, variables: &[_], milliseconds| {
        let config = load(toml, variables, &Flags::default()).unwrap();
        assert_eq!(
            config.server.keep_alive_interval,
            Duration::from_millis(milliseconds)
        );
    };
    check("", &[], 10_000);
    check(toml, &[], 1);
    check(toml, &[short], 2);
    check(toml, &[long], 3);
    check(toml, &[short, long], 3);
}

#[test]
fn a_model_takes_from_the_engine_section_what_it_lacks() {
    let toml = "
        [engine]
        max_queue = 5
        max_answers = 8
        min_priority = -2
        threads = 3
        [[models]]
        path = 'a.gguf'
        [[models]]
        path = 'b.gguf'
        max_answers = 0
        max_output_tokens = 100
        threads = 4
        kv_tokens = 4096
    ";
    let engines = |config: &Config| -> Vec<_> {
        let engines = config.models.iter().map(|model| model.engine);
        engines
            .map(|engine| (engine.max_queue, engine.threads, engine.kv_tokens))
            .collect()
    };
    assert_eq!(
        engines(&load_toml(toml)),
        [(5, fixed(3), 0), (5, fixed(4), 4096)]
    );
    let bounds = load_toml(toml).models;
    let bounds = bounds.iter().map(|model| model.engine.requests);
    let bounds = bounds.map(|b| (b.max_answers, b.max_output_tokens, b.min_priority));
    assert_eq!(
        bounds.collect::<Vec<_>>(),
        [(Some(8), None, -2), (None, Some(100), -2)]
    );
    let variables = [("TENON__ENGINE__MAX_QUEUE", "6")];
    let flags = Flags {
        threads: Some(fixed(1)),
        ..Flags::default()
    };
    let config = load(toml, &variables, &flags).unwrap();
    assert_eq!(engines(&config), [(6, fixed(1), 0), (6, fixed(1), 4096)]);
}

#[test]
fn a_model_path_replaces_the_models_of_the_file() {
    let toml = "[[models]]\npath = 'a.gguf'\nid = 'a'\n[[models]]\npath = 'b.gguf'";
    let flags = Flags {
        model_path: Some("/models/c.gguf".into()),
        model_id: Some("c/1".into()),
        backend: Some("org.tenon.echo".into()),
        threads: Some(fixed(2)),
        plugin_directories: vec!["/one".into(), "two".into()],
        ..Flags::default()
    };
    let config = load(toml, &[], &flags).unwrap();
    let [model] = config.models.as_slice() else {
        panic!("{:?}", config.models)
    };
    assert_eq!(
        (model.id.as_str(), model.path.local()),
        ("c/1", Some(Path::new("/models/c.gguf")))
    );
    assert_eq!(model.backend.as_deref(), Some("org.tenon.echo"));
    assert_eq!(model.engine.threads, fixed(2));
    let two = env::current_dir().unwrap().join("two");
    assert_eq!(config.plugins.directories, [Path::new("/one"), &two]);
}

#[test]
fn flags_for_one_model_change_the_only_one() {
    let flags = Flags {
        model_id: Some("other".into()),
        backend: Some("org.tenon.echo".into()),
        ..Flags::default()
    };
    let config = load("[[models]]\npath = 'a.gguf'\naliases = ['x']", &[], &flags).unwrap();
    let model = &config.models[0];
    assert_eq!(
        (model.id.as_str(), model.backend.as_deref()),
        ("other", Some("org.tenon.echo"))
    );
    assert_eq!(model.aliases, ["x"]);
}

#[test]
fn paths_start_at_the_file_or_at_home() {
    let config = load_toml(
        "
        [plugins]
        directories = ['plugins', '/opt/plugins', '~/plugins']
        [[models]]
        path = '~/models/a.gguf'
        chat_template = 'a.jinja'
        [[models]]
        path = '../b.gguf'
        ",
    );
    let expected = ["DIR/plugins", "/opt/plugins", "/home/ada/plugins"];
    assert_eq!(config.plugins.directories, expected.map(Path::new));
    let [a, b] = config.models.as_slice() else {
        panic!("{:?}", config.models)
    };
    assert_eq!(a.path.local(), Some(Path::new("/home/ada/models/a.gguf")));
    assert_eq!(a.chat_template.as_deref(), Some(Path::new("DIR/a.jinja")));
    assert_eq!(b.path.local(), Some(Path::new("DIR/../b.gguf")));
}

#[test]
fn a_model_on_the_hub_is_called_as_its_repository() {
    let text = "hf:Qwen/Qwen3-4B-GGUF@main:Q4_K_M";
    let flags = Flags {
        model_path: Some(text.into()),
        ..Flags::default()
    };
    let toml = format!("[[models]]\npath = '{text}'");
    for config in [
        load_toml(&toml),
        load_from(None, &environment(&[]), &flags).unwrap(),
    ] {
        assert_eq!(config.models[0].id, "Qwen3-4B-GGUF");
        let path = ModelPath::Hub(text.parse().unwrap());
        assert_eq!(config.models[0].path, path);
    }
}

#[test]
fn a_directory_is_a_model_under_its_whole_name() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("Llama-3.2-1B");
    fs::create_dir(&path).unwrap();
    let flags = Flags {
        model_path: Some(path),
        ..Flags::default()
    };
    let config = load_from(None, &environment(&[]), &flags).unwrap();
    assert_eq!(config.models[0].id, "Llama-3.2-1B");
}

#[test]
fn options_reach_plugins_and_models_as_they_are() {
    let config = load_toml(
        "
        [plugins.options.\"org.tenon.llama-cpp\"]
        numa = true
        nested = { list = [1, 2.5, 'x'] }
        [[models]]
        path = 'a.gguf'
        options = { offload = -1 }
        ",
    );
    let options = json!(config.plugins.options);
    let expected =
        json!({"org.tenon.llama-cpp": {"numa": true, "nested": {"list": [1, 2.5, "x"]}}});
    assert_eq!(options, expected);
    assert_eq!(config.models[0].options, json!({"offload": -1}));
}

#[test]
fn tools_and_reasoning_are_the_template_s_unless_configured() {
    let config = load_toml(
        "
        [[models]]
        path = 'a.gguf'
        [[models]]
        path = 'b.gguf'
        tool_format = 'mistral'
        reasoning_tags = ['<a>', '</a>']
        [[models]]
        path = 'c.gguf'
        reasoning_tags = []
        ",
    );
    let formats = config
        .models
        .iter()
        .map(|model| model.tool_format.map(|format| format.name));
    assert_eq!(formats.collect::<Vec<_>>(), [None, Some("mistral"), None]);
    let tags = config
        .models
        .iter()
        .map(|model| model.reasoning_tags.clone());
    let own = ReasoningTags::new("<a>", "</a>");
    assert_eq!(
        tags.collect::<Vec<_>>(),
        [None, Some(Some(own)), Some(None)]
    );
}

#[test]
fn the_file_is_searched_for_here_and_then_at_home() {
    let root = TempDir::new().unwrap();
    let [here, home, xdg] = ["here", "home", "xdg"].map(|name| root.path().join(name));
    let variables = |with_xdg: bool| {
        let home = ("HOME", home.to_str().unwrap());
        let xdg = with_xdg.then(|| ("XDG_CONFIG_HOME", xdg.to_str().unwrap()));
        environment(&[home].into_iter().chain(xdg).collect::<Vec<_>>())
    };
    let write = |file: &Path| {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    };
    assert_eq!(variables(true).find_file(&here), None);
    let at_home = home.join(".config/tenon/tenon.toml");
    write(&at_home);
    assert_eq!(variables(true).find_file(&here), None);
    assert_eq!(variables(false).find_file(&here), Some(at_home));
    let at_xdg = xdg.join("tenon/tenon.toml");
    write(&at_xdg);
    assert_eq!(variables(true).find_file(&here), Some(at_xdg));
    let local = here.join("tenon.toml");
    write(&local);
    assert_eq!(variables(true).find_file(&here), Some(local));
}

#[test]
fn threads_are_a_number_or_found_out() {
    let check = |toml: &str, variables: &[_], expected| {
        let toml = format!("{toml}\n[[models]]\npath = 'a.gguf'");
        let config = load(&toml, variables, &Flags::default()).unwrap();
        assert_eq!(config.models[0].engine.threads, expected);
    };
    let variable = "TENON__ENGINE__THREADS";
    check("", &[], Threads::Auto);
    check("[engine]\nthreads = 'auto'", &[], Threads::Auto);
    check("[engine]\nthreads = 3", &[], fixed(3));
    check("[engine]\nthreads = 3", &[(variable, "2")], fixed(2));
    check(
        "[engine]\nthreads = 3",
        &[(variable, "auto")],
        Threads::Auto,
    );
}

fn fixed(threads: u32) -> Threads {
    threads.to_string().parse().unwrap()
}
