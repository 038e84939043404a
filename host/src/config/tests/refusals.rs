//! Tests of every kind of mistake, and of the sentence that reports it.

use std::path::Path;

use super::{environment, load};
use crate::config::{Flags, load_from};

#[test]
fn unknown_keys() {
    check(
        "[server]\nprot = 1",
        &[
            "tenon.toml: \"server.prot\" is no known key; did you mean \"port\"? Allowed: host, port, listen, admin_listen, \
             keep_alive_interval_ms, drain_delay_secs, drain_timeout_secs, request_timeout_secs, header_timeout_secs, body_timeout_secs, \
             idle_timeout_secs, write_timeout_secs, max_connections, max_connections_per_client, max_body_bytes, api_keys, admin_keys, requantize_keys, cors_origins, allowed_hosts, watch_config, memory_budget_bytes, unload_busy_models, log_format, access_log, log_prompts",
        ],
    );
    check(
        "[[models]]\npath = 'a'\n[[models]]\npath = 'b'\nxyz = 1",
        &[
            "tenon.toml: \"models[1].xyz\" is no known key; allowed: id, aliases, path, directory, backend, devices, options, \
             chat_template, tool_format, reasoning_tags, quantize, requantize, memory_limit_bytes, sampling, context_length, max_sequences, max_cached_sequences, kv_tokens, max_batch_tokens, max_step_ms, max_draft_tokens, max_queue, max_answers, max_output_tokens, min_priority, threads, isolation, sandbox, stuck_timeout_secs, load_timeout_secs, max_restarts, load, idle_unload_secs",
        ],
    );
    check(
        "[sever]\nport = 1",
        &[
            "tenon.toml: \"sever\" is no known key; did you mean \"server\"? Allowed: server, tls, plugins, engine, grammar, prompts, responses, telemetry, keys, models",
        ],
    );
}

#[test]
fn wrong_values() {
    check_each(
        "",
        r#"
        [server]; port = '80' → "server.port" must be a whole number from 0 to 65535, not "80"
        [server]; port = 65536 → "server.port" must be a whole number from 0 to 65535, not 65536
        [server]; port = -1 → "server.port" must be a whole number from 0 to 65535, not -1
        [server]; host = 5 → "server.host" must be text in quotes, not 5
        [server]; host = '' → "server.host" must not be empty
        [server]; listen = 5 → "server.listen" must be an address in quotes or a list of addresses, not 5
        [server]; listen = [] → "server.listen" must have an address
        [server]; listen = '0.0.0.0' → "server.listen" has "0.0.0.0", but must hold addresses such as "0.0.0.0:8080", "[::1]:8080" or "unix:/run/tenon/tenon.sock"
        [server]; listen = 'ftp://a:1' → "server.listen" has "ftp://a:1", but must hold addresses such as "0.0.0.0:8080", "[::1]:8080" or "unix:/run/tenon/tenon.sock"
        [server]; listen = 'https://a:1' → "server.listen" has "https://a:1", which needs a certificate: set it in [tls]
        [telemetry]; otlp_endpoint = 'a:4318' → "telemetry.otlp_endpoint" must be the address of a collector, such as http://127.0.0.1:4318
        [telemetry]; otlp_endpoint = '' → "telemetry.otlp_endpoint" must be the address of a collector, such as http://127.0.0.1:4318
        [telemetry]; service_name = '' → "telemetry.service_name" must not be empty
        [tls]; key_file = 'a' → "tls.certificate_file" is missing: TLS needs a certificate and its key
        [tls]; certificate_file = ''; key_file = 'a' → "tls.certificate_file" must not be empty
        [server]; listen = 'unix:' → "server.listen" must not be empty
        [server]; listen = 'a:1'; port = 2 → "server.port" has no effect beside "server.listen": leave one of the two out
        [server]; keep_alive_interval_ms = 0 → "server.keep_alive_interval_ms" must be a whole number from 1 to 4294967295, not 0
        [server]; drain_delay_secs = -1 → "server.drain_delay_secs" must be a whole number from 0 to 4294967295, not -1
        [server]; drain_timeout_secs = 1.5 → "server.drain_timeout_secs" must be a whole number from 0 to 4294967295, not 1.5
        [server]; idle_timeout_secs = 0 → "server.idle_timeout_secs" must be a whole number from 1 to 4294967295, not 0
        [server]; cors_origins = ['https://a.example/'] → "server.cors_origins" has "https://a.example/", but must hold origins such as "https://chat.example.com" or "http://localhost:3000", without a path, or "*"
        [server]; allowed_hosts = ['a.example:80'] → "server.allowed_hosts" has "a.example:80", but must hold names such as "llm.example.com", without a port, or "*"
        [server]; requantize_keys = 'none' → "server.requantize_keys" cannot be "none"; allowed: admin, all
        [server]; log_format = 'xml' → "server.log_format" cannot be "xml"; allowed: text, json
        [server]; log_format = 1 → "server.log_format" must be text in quotes, not 1
        [engine]; max_sequences = 0 → "engine.max_sequences" must be a whole number from 1 to 4096, not 0
        [engine]; load = 'late' → "engine.load" cannot be "late"; allowed: startup, on-demand
        [plugins]; directories = 'x' → "plugins.directories" must be a list, not "x"
        [plugins]; watch = 1 → "plugins.watch" must be true or false, not 1
        [plugins]; trusted_keys = ['a key'] → "plugins.trusted_keys" has "a key", but must hold public keys of minisign: the second line of a .pub file
        [plugins]; directories = [''] → "plugins.directories" must not be empty
        [plugins.options]; "org.tenon.echo" = true → "plugins.options."org.tenon.echo"" must be a table, not true
        server = 1 → "server" must be a table, not 1
        [models]; path = 'a' → "models" must be a list, not a table
        "#,
    );
}

/// Each unit of these numbers costs memory or a thread.
#[test]
fn numbers_that_no_machine_is_for() {
    let cases = [
        ("engine", "kv_tokens", 0, 16_777_216, "4000000000"),
        ("engine", "context_length", 0, 16_777_216, "4294967295"),
        ("engine", "max_sequences", 1, 4096, "1000000000"),
        ("engine", "max_cached_sequences", 0, 4096, "4097"),
        ("engine", "max_batch_tokens", 1, 131_072, "4000000000"),
        ("engine", "max_draft_tokens", 0, 1024, "4000000000"),
        ("engine", "max_queue", 1, 65_536, "4000000000"),
        ("grammar", "mask_threads", 0, 256, "100000"),
        ("grammar", "compile_threads", 1, 256, "100000"),
        ("grammar", "cache_entries", 1, 65_536, "4000000000"),
        ("engine", "kv_tokens", 0, 16_777_216, "9223372036854775807"),
        ("engine", "kv_tokens", 0, 16_777_216, "-1"),
    ];
    for (section, key, least, most, number) in cases {
        let why = format!("must be a whole number from {least} to {most}, not {number}");
        let expected = format!("tenon.toml: \"{section}.{key}\" {why}");
        check(&format!("[{section}]\n{key} = {number}"), &[&expected]);
        if section == "engine" {
            let model = format!("[[models]]\npath = 'a'\n{key} = {number}");
            check(&model, &[&format!("tenon.toml: \"models[0].{key}\" {why}")]);
        }
        let variable = format!("TENON__{section}__{key}").to_uppercase();
        let told = refusals("", &[(&variable, number)], &Flags::default());
        assert_eq!(told, [format!("the environment variable {variable} {why}")]);
    }
}

#[test]
fn models() {
    check_each(
        "[[models]]\n",
        r#"
        id = 'a' → "models[0].path" is missing: it says where the model is
        path = ''; id = 'a' → "models[0].path" must not be empty
        path = 'hf:a'; id = 'a' → "models[0].path" is "hf:a", but a model on the hub is written hf:OWNER/REPO, hf:OWNER/REPO:QUANT or hf:OWNER/REPO:FILE, with @REVISION after REPO if needed
        path = 'a'; id = '' → "models[0].id" must not be empty
        directory = '' → "models[0].directory" must not be empty
        directory = 'd'; id = 'a' → "models[0].id" is for one model, but "directory" is for several: leave one of the two out
        directory = 'd'; path = 'a' → "models[0].path" is for one model, but "directory" is for several: leave one of the two out
        path = 'a'; aliases = [''] → "models[0].aliases" must not be empty
        path = 'a'; backend = '' → "models[0].backend" must not be empty
        path = 'a'; devices = [''] → "models[0].devices" must not be empty
        path = 'a'; options = 'fast' → "models[0].options" must be a table, not "fast"
        path = 'a'; chat_template = '' → "models[0].chat_template" must not be empty
        path = 'a'; tool_format = 'xml' → "models[0].tool_format" is "xml", but must be one of harmony, mistral_args, mistral, deepseek_v3_1, deepseek_v3, kimi_k2, command_r7b, command_r, gemma4, function_gemma, lfm2, phi4_mini, granite, minimax_m2, qwen3_coder, glm, hermes, functionary_v3_2, functionary, llama3
        path = 'a'; reasoning_tags = ['<think>'] → "models[0].reasoning_tags" must be two texts, the one that begins reasoning and the one that ends it, or []
        path = 'a'; quantize = '' → "models[0].quantize" must not be empty
        path = 'a'; requantize = 'in-place' → "models[0].requantize" can only be "in-place" where memory_limit_bytes says how much there is: set it too
        path = 'a'; sampling = { temperature = 3 } → "models[0].sampling.temperature" must be from 0 to 2, not 3
        path = 'a'; sampling = { min_p = -0.5 } → "models[0].sampling.min_p" must be from 0 to 1, not -0.5
        path = 'a'; threads = 'all' → "models[0].threads" must be "auto" or a whole number from 1 to 4294967295, not "all"
        path = 'a'; threads = 0 → "models[0].threads" must be "auto" or a whole number from 1 to 4294967295, not 0
        path = 'a'; aliases = ['b']; [[models]]; path = 'x/b.gguf' → "models[1].id" cannot be "b": models[0] has that name already
        path = 'a'; [[models]]; path = 'b'; aliases = ['c', 'a'] → "models[1].aliases" cannot be "a": models[0] has that name already
        path = 'a'; aliases = ['c', 'c'] → "models[0].aliases" cannot be "c": models[0] has that name already
        "#,
    );
}

#[test]
fn keys_stay_secret() {
    for keys in ["api_keys", "admin_keys"] {
        let table = r#"
        's3cret' → "server.KEYS" must be a list
        [123456] → "server.KEYS[0]" must be text in quotes
        ['s3 cret'] → "server.KEYS" must hold keys of printable ASCII characters without spaces, none of them empty
        [''] → "server.KEYS" must hold keys of printable ASCII characters without spaces, none of them empty
        "#;
        let begin = format!("[server]\n{keys} = ");
        check_each(&begin, &table.replace("KEYS", keys));
    }
}

#[test]
fn keys() {
    check_each(
        "[[keys]]\n",
        r#"
        key = 'a' → "keys[0]" needs a name
        name = ''; key = 'a' → "keys[0].name" must be a name of 1 to 64 bytes on one line
        name = 'a' → "keys[0]" needs one of key, key_file and env
        name = 'a'; key = 'a'; env = 'A' → "keys[0]" needs one of key, key_file and env
        name = 'a'; key = 's3 cret' → "keys[0].key" must be a key of printable ASCII characters without spaces, and not empty
        name = 'a'; key = 123456 → "keys[0].key" must be text in quotes
        name = 'a'; env = 'NO_SUCH' → "keys[0].env" names the variable NO_SUCH, which is not set
        name = 'a'; env = 'HOME'; key_file = '' → "keys[0]" needs one of key, key_file and env
        name = 'a'; key_file = 'no/such' → "keys[0].key_file" names no/such, which cannot be read: No such file or directory (os error 2)
        name = 'a'; key = 'a'; models = [] → "keys[0].models" must name a model, or be left out for all models
        name = 'a'; key = 'a'; models = [''] → "keys[0].models" must not be empty
        name = 'a'; key = 'a'; tokens_per_minute = 0 → "keys[0].tokens_per_minute" must be a whole number from 1 to 4294967295, not 0
        name = 'a'; key = 'x'; [[keys]]; name = 'a'; key = 'y' → "keys[1].name" cannot be "a": keys[0] has that name already
        name = 'a'; key = 'x'; [[keys]]; name = 'b'; key = 'x' → "keys[1].key" is the same key as that of keys[0]: each client needs its own
        "#,
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    check(
        "
        [server]
        port = 'x'
        api_keys = [1, 2]
        [engine]
        threads = -1
        [[models]]
        path = 1
        [[models]]
        path = 'b'
        kv_tokens = 'x'
        ",
        &[
            "tenon.toml: \"engine.threads\" must be \"auto\" or a whole number from 1 to 4294967295, not -1",
            "tenon.toml: \"models[0].path\" must be text in quotes, not 1",
            "tenon.toml: \"models[1].kv_tokens\" must be a whole number from 0 to 16777216, not \"x\"",
            "tenon.toml: \"server.api_keys[0]\" must be text in quotes",
            "tenon.toml: \"server.port\" must be a whole number from 0 to 65535, not \"x\"",
        ],
    );
}

#[test]
fn files() {
    check(
        "[server]\nport =\n",
        &["tenon.toml:2: invalid string, expected `\"`, `'`"],
    );
    let why = " cannot be read as a configuration file: No such file or directory (os error 2)";
    check_file("no/such.toml", why);
}

#[test]
fn home_must_be_known() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../config/examples/one-gguf.toml"
    );
    let why = ": \"models[0].path\" begins with ~, but the environment variable HOME is not set";
    check_file(file, why);
}

#[track_caller]
fn check_file(file: &str, why: &str) {
    let loaded = load_from(Some(Path::new(file)), &environment(&[]), &Flags::default());
    assert_eq!(loaded.unwrap_err().problems, [format!("{file}{why}")]);
}

#[test]
fn variables() {
    let cases = r#"
        KEEP_ALIVE_INTERVAL=0 → must be a whole number from 1 to 4294967295, not 0
        KEEP_ALIVE_INTERVAL=soon → must be a whole number from 1 to 4294967295, not "soon"
        TENON__SERVER__KEEP_ALIVE_INTERVAL_MS= → must be a whole number from 1 to 4294967295, not ""
        TENON__SERVER__HOST= → must not be empty
        TENON__SERVER__LOG_FORMAT=xml → cannot be "xml"; allowed: text, json
    "#;
    for (variable, why) in rows(cases) {
        let (name, value) = variable.split_once('=').unwrap();
        let told = refusals("", &[(name, value)], &Flags::default());
        assert_eq!(told, [format!("the environment variable {name} {why}")]);
    }
}

#[test]
fn variables_that_set_nothing() {
    let names = [
        "TENON__MODELS__0__PATH",
        "TENON__PLUGINS__DIRECTORIES",
        "TENON__PLUGINS__OPTIONS__X",
        "TENON__SERVER__API_KEYS",
        "TENON__SERVER__PROT",
    ];
    let variables = names.map(|name| (name, "1"));
    let problems = refusals("", &variables, &Flags::default());
    for (name, problem) in names.iter().zip(&problems) {
        assert!(problem.starts_with(&format!("the environment variable {name} sets nothing")));
        assert!(problem.ends_with("; lists, plugins and models are set in the file"));
    }
    assert_eq!(problems.len(), names.len());
    assert!(problems[4].contains(
        "did you mean \"TENON__SERVER__PORT\"? Allowed: TENON__ENGINE__CONTEXT_LENGTH, "
    ));
}

#[test]
fn flags() {
    let one_model = |backend: &str, id: &str| Flags {
        backend: Some(backend.into()),
        model_id: Some(id.into()),
        ..Flags::default()
    };
    let no_host = Flags {
        host: Some(String::new()),
        ..Flags::default()
    };
    let no_path = Flags {
        model_path: Some("".into()),
        ..Flags::default()
    };
    let two = "[[models]]\npath = 'a'\n[[models]]\npath = 'b'";
    let check = |toml, flags, expected: &[&str]| assert_eq!(refusals(toml, &[], &flags), expected);
    let both = |why: &str| ["--backend", "--model-id"].map(|flag| format!("{flag} {why}"));
    let [backend, id] =
        both("is for one model, but the configuration has 2: give MODEL_PATH with it");
    check(two, one_model("org.tenon.echo", "x"), &[&backend, &id]);
    let [backend, id] = both("must not be empty");
    check(two, one_model("", ""), &[&backend, &id]);
    check(two, no_host, &["--host must not be empty"]);
    check("", no_path, &["MODEL_PATH must not be empty"]);
    let port = Flags {
        port: Some(1),
        ..Flags::default()
    };
    let sentence = "--port has no effect beside \"server.listen\": leave one of the two out";
    check("[server]\nlisten = 'a:1'", port, &[sentence]);
}

#[test]
fn a_file_of_responses_needs_bytes() {
    let sentence = "tenon.toml: \"responses.file\" has no effect while max_kept_bytes is 0: set that too, or leave it out";
    let refused = refusals("[responses]\nfile = 'a.db'", &[], &Flags::default());
    assert!(
        refused.iter().any(|refusal| refusal == sentence),
        "{refused:?}"
    );
}

/// The rows of a table: each has a case, and the expectation after `→`.
fn rows(table: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = table.trim().lines();
    lines.map(|line| line.trim().split_once(" → ").unwrap())
}

/// Checks the sentence about each row's TOML, which follows `begin`. In it, `; ` stands for the end of a line.
#[track_caller]
fn check_each(begin: &str, table: &str) {
    for (toml, sentence) in rows(table) {
        let toml = format!("{begin}{}", toml.replace("; ", "\n"));
        check(&toml, &[&format!("tenon.toml: {sentence}")]);
    }
}

#[track_caller]
fn check(toml: &str, expected: &[&str]) {
    assert_eq!(refusals(toml, &[], &Flags::default()), expected, "{toml}");
}

fn refusals(toml: &str, variables: &[(&str, &str)], flags: &Flags) -> Vec<String> {
    load(toml, variables, flags).unwrap_err()
}
