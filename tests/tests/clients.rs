//! The official Python client, unchanged.

use std::{path::Path, process::Command};

use tenon_tests::{ServerOptions, smollm2};

const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python");

#[test]
fn smollm2_answers_the_python_examples() {
    // Where an example says nothing, the context bounds the answer.
    let config = format!(
        "[engine]\nthreads = 1\ncontext_length = 320\n[[models]]\npath = {:?}\naliases = ['mistral']\n",
        smollm2()
    );
    let options = ServerOptions::new(&["tenon_plugin_llama_cpp"]);
    let mut server = options.config(&config).start();
    let script = Path::new(PYTHON).join("seed_examples.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(server.address())
        .env("PYTHONPATH", packages())
        .output()
        .expect("python3 starts");
    assert!(output.status.success(), "{output:#?}");
}

/// Where the client is installed.
fn packages() -> String {
    let setup = Path::new(PYTHON).join("setup");
    let output = Command::new(setup).output().expect("python3 starts");
    assert!(output.status.success(), "{output:#?}");
    let path = String::from_utf8(output.stdout).expect("a path");
    path.trim_end().to_owned()
}
