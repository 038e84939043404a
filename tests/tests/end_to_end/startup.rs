//! The messages of a server that cannot serve some or all of its models.

use std::{fs, net::TcpListener};

use reqwest::StatusCode;
use serde_json::json;
use tenon_tests::{ServerOptions, chat, smollm2};

const ECHO: &str = "tenon_plugin_echo";
const LLAMA_CPP: &str = "tenon_plugin_llama_cpp";
const CANDLE: &str = "tenon_plugin_candle";

#[test]
fn a_file_that_is_no_model_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(smollm2()).unwrap();
    let half = &whole[..whole.len() / 2];
    for (name, content, expected) in [
        ("missing.gguf", None, "it does not exist: check the path"),
        (
            "empty.gguf",
            Some(&b""[..]),
            "it is empty: get the model's file again",
        ),
        ("text.gguf", Some(b"text"), "give a model in GGUF format"),
        (
            "archive.gguf",
            Some(b"PK\x03\x04\x14\0\0\0"),
            "it is a ZIP archive: unpack it",
        ),
        (
            "pytorch_model.bin",
            Some(b"PK\x03\x04\0\0\0\0\0\0archive/data.pkl"),
            "it has weights of PyTorch (a pickle)",
        ),
        (
            "page.gguf",
            Some(b"<!DOCTYPE html><title>Sign in</title>"),
            "it is a web page that was saved under this name",
        ),
        (
            "pointer.gguf",
            Some(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 98362432\n"),
            "a pointer of Git LFS to the model, which has 98362432 bytes: run `git lfs pull`",
        ),
        ("begun.gguf", Some(&whole[..1000]), "download it again"),
        ("half.gguf", Some(half), "download it again"),
        (
            "foreign.gguf",
            Some(FOREIGN),
            "unknown model architecture: 'abacus'",
        ),
    ] {
        let path = folder.path().join(name);
        let path = path.to_str().unwrap();
        if let Some(content) = content {
            fs::write(path, content).unwrap();
        }
        check_ends(&[LLAMA_CPP], &[path], &[path, expected]);
    }
}

#[test]
fn a_directory_that_is_no_model_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let check = |expected: &str| check_ends(&[CANDLE], &[path], &[path, expected]);
    check("it is an empty directory");
    fs::write(folder.path().join("pytorch_model.bin"), "").unwrap();
    check("its weights are in a file of PyTorch (pytorch_model.bin)");
    fs::write(folder.path().join("model.safetensors"), "").unwrap();
    check("config.json is missing in it: download the whole directory");
}

/// The model fits as its file has it, but not at the level that is asked for.
#[test]
fn smollm2_that_is_too_large_is_refused_with_the_level_that_fits() {
    let config = format!(
        "[engine]\nthreads = 1\n[[models]]\npath = {:?}\nquantize = 'F32'\n",
        smollm2()
    );
    for plugin in [LLAMA_CPP, "tenon_plugin_candle_quantized"] {
        let options = ServerOptions::new(&[plugin])
            .config(&config)
            .ulimit("-d 500000");
        let expected = [
            "it needs about ",
            " MB are free (the process (RLIMIT_DATA)): quantize = \"",
            "\" takes ",
        ];
        check_options(options, &[], &expected);
    }
}

#[test]
fn a_backend_that_is_missing_is_named_by_its_file() {
    let model = smollm2();
    let model = model.to_str().unwrap();
    let advice = [
        "a GGUF file, which needs the backend in libtenon_plugin_candle_quantized.so or libtenon_plugin_llama_cpp.so",
        "`make build`",
        "`tenon plugins list`",
    ];
    check_ends(&[ECHO], &[model], &advice);
    check_ends_unwatched(&[], &[model], &advice);
    let named = [
        "there is no backend `candle`",
        "put libtenon_plugin_candle.so into a plugin directory",
    ];
    check_ends_unwatched(&[ECHO], &["a.echo", "--backend", "candle"], &named);
}

#[test]
fn a_port_in_use_is_named_with_the_process() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let options = ServerOptions::new(&[ECHO]).port(&port);
    let owner = format!("process {} (", std::process::id());
    let place = format!("cannot listen at 127.0.0.1:{port}: ");
    let expected = [
        &place,
        &owner,
        ") listens there: stop it, or choose another port (--port)",
    ];
    check_options(options, &["a.echo"], &expected);
}

#[test]
fn a_directory_without_plugins_is_named() {
    check_ends_unwatched(&[], &["a.echo"], &["plugins has no plugins"]);
}

#[test]
fn a_library_that_is_no_plugin_is_named() {
    let reason = "libtenon_fixture_plain.so is no Tenon plugin";
    check_ends_unwatched(&["tenon_fixture_plain"], &["a.echo"], &[reason]);
}

#[test]
fn a_plugin_for_another_abi_is_named() {
    let reason = [
        "libtenon_fixture_other_abi.so (tenon-fixture-other-abi 0.1.0) was built against plugin ABI 0.1",
        "takes ABI 1.0 to 1.x",
    ];
    check_ends_unwatched(&["tenon_fixture_other_abi"], &["a.echo"], &reason);
}

#[test]
fn a_model_that_no_plugin_takes_is_named() {
    let reason = [
        "no backend can load",
        "tenon.toml: org.tenon.echo: not a .echo file",
    ];
    let options = ServerOptions::new(&[ECHO]).config("[server]\n");
    check_options(options, &["tenon.toml"], &reason);
    let reason = ["no backend `other`: use one of org.tenon.echo"];
    check_ends_unwatched(&[ECHO], &["a.echo", "--backend", "other"], &reason);
}

#[test]
fn without_any_model_there_is_nothing_to_serve() {
    let ways = [
        "there is no model to serve: give one (tenon serve MODEL.gguf)",
        "tenon serve hf:OWNER/REPO",
        "tenon serve --config FILE",
    ];
    check_ends(&[ECHO], &[], &ways);
}

/// Sizes that no machine has are refused before anything is started. Sizes that this machine does not have are refused
/// before memory is taken.
#[test]
fn numbers_that_no_machine_is_for_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for (key, why) in [
        (
            "[engine]\nkv_tokens = 4000000000",
            "must be a whole number from 0 to 16777216",
        ),
        (
            "[engine]\nmax_sequences = 1000000000",
            "must be a whole number from 1 to 4096",
        ),
        (
            "[grammar]\nmask_threads = 100000",
            "must be a whole number from 0 to 256",
        ),
        (
            "[engine]\nkv_tokens = 16777216",
            "choose a smaller kv_tokens",
        ),
    ] {
        for plugin in [LLAMA_CPP, "tenon_plugin_candle_quantized"] {
            let file = folder.path().join("numbers.toml");
            fs::write(
                &file,
                format!("{key}\n[[models]]\npath = {:?}\n", smollm2()),
            )
            .unwrap();
            check_ends(&[plugin], &["--config", file.to_str().unwrap()], &[why]);
        }
    }
}

#[tokio::test]
async fn a_broken_model_does_not_keep_others_from_being_served() {
    let config = r#"
        [[models]]
        id = "broken"
        path = "missing.echo"
        [[models]]
        id = "whole"
        path = "whole.echo"
    "#;
    let options = ServerOptions::new(&[ECHO]).config(config);
    let mut server = options.file("whole.echo", "").start();
    let client = server.client();

    let (status, health) = client.get("/health").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["models"][1], json!({"id": "whole", "status": "ok"}));
    assert_eq!(health["models"][0]["status"], "failed");
    let why = health["models"][0]["error"].as_str().unwrap();
    assert!(why.contains("missing.echo"), "{why}");
    assert_eq!(client.get("/").await.1, health);

    let parameters = json!({"model": "whole", "temperature": 0});
    assert_eq!(client.chat("Hi", parameters).await, "Hi");
    let asked = chat("Hi", json!({"model": "broken"}));
    let (status, answer) = client.post("/v1/chat/completions", &asked).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer["error"]["code"], "model_failed");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("missing.echo"), "{message}");
}

/// A valid GGUF file without tensors, of an unknown architecture.
const FOREIGN: &[u8] = b"GGUF\x03\0\0\0\
    \0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\
    \x14\0\0\0\0\0\0\0general.architecture\x08\0\0\0\
    \x06\0\0\0\0\0\0\0abacus";

/// Checks that a server with these plugins ends with exit code 2, and checks its last line.
#[track_caller]
fn check_ends(plugins: &[&str], arguments: &[&str], expected: &[&str]) {
    check_options(ServerOptions::new(plugins), arguments, expected);
}

/// Like [`check_ends`], for a server that does not watch for new plugins.
#[track_caller]
fn check_ends_unwatched(plugins: &[&str], arguments: &[&str], expected: &[&str]) {
    let options = ServerOptions::new(plugins).config("[plugins]\nwatch = false\n");
    check_options(options, arguments, expected);
}

#[track_caller]
fn check_options(options: ServerOptions, arguments: &[&str], expected: &[&str]) {
    let options = options.file("a.echo", "");
    let mut server = options.arguments(arguments).spawn();
    assert_eq!(server.wait().code(), Some(2));
    let log = server.rest_of_log();
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("error: "), "{log}");
    for expected in expected {
        assert!(last.contains(expected), "no {expected:?} in:\n{log}");
    }
}
