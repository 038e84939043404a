//! Tests of the files in `config/`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::environment;
use crate::config::{Config, Flags, load_from, schema, schema_text};

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config");

#[test]
fn every_file_loads() {
    let directories = [
        PathBuf::from(DIRECTORY),
        Path::new(DIRECTORY).join("examples"),
    ];
    let entries = directories
        .iter()
        .flat_map(|directory| directory.read_dir().unwrap());
    let files = entries.map(|entry| entry.unwrap().path());
    let files: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|ext| ext == "toml"))
        .collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        assert!(!load_file(&file).models.is_empty());
        let text = fs::read_to_string(&file).unwrap();
        let schema = text
            .lines()
            .next()
            .unwrap()
            .strip_prefix("#:schema ")
            .unwrap();
        assert!(file.with_file_name(schema).is_file(), "{}", file.display());
    }
}

#[test]
fn the_main_file_serves_the_default_model() {
    let config = load_file(&Path::new(DIRECTORY).join("tenon.toml"));
    let [model] = config.models.as_slice() else {
        panic!("{:?}", config.models)
    };
    assert_eq!(model.id, "SmolLM2-135M-Instruct");
    assert_eq!(model.aliases, ["mistral"]);
    let path = "/home/ada/.cache/tenon/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    assert_eq!(model.path.local(), Some(Path::new(path)));
    assert_eq!(
        config.server.listen[0].address.to_string(),
        "127.0.0.1:8080"
    );
}

#[test]
fn the_main_file_shows_every_key_and_its_default() {
    let text = fs::read_to_string(Path::new(DIRECTORY).join("tenon.toml")).unwrap();
    let mut shown = BTreeSet::new();
    for line in text.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some((key, value)) = line.split_once(" = ") {
            shown.insert((key.to_owned(), value.to_owned()));
        }
    }
    let schema = schema();
    let properties = &schema["properties"];
    let sections = [
        &properties["server"],
        &properties["tls"],
        &properties["engine"],
        &properties["grammar"],
        &properties["prompts"],
        &properties["plugins"],
        &properties["telemetry"],
    ];
    let lists = ["keys", "models"].map(|list| &properties[list]["items"]);
    for section in sections.into_iter().chain(lists) {
        for (key, kind) in section["properties"].as_object().unwrap() {
            let told = match &kind["default"] {
                default @ (Value::Number(_) | Value::String(_)) => {
                    shown.contains(&(key.clone(), default.to_string()))
                }
                _ => text.contains(&format!("{key} = ")) || text.contains(&format!(".{key}.")),
            };
            assert!(told, "config/tenon.toml does not show {key}");
        }
    }
}

#[test]
fn the_schema_file_is_what_the_program_prints() {
    let written = fs::read_to_string(Path::new(DIRECTORY).join("schema.json")).unwrap();
    assert!(
        written.trim_end() == schema_text(),
        "run `tenon config schema > config/schema.json`"
    );
}

fn load_file(file: &Path) -> Config {
    let environment = environment(&[("HOME", "/home/ada")]).home_only();
    load_from(Some(file), &environment, &Flags::default()).unwrap_or_else(|error| panic!("{error}"))
}
