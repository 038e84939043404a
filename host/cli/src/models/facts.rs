//! Facts about a model, from the headers of its files.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::Value;
use tenon::markup::ToolFormat;
use tenon_hub::Selection;
use tenon_plugin_api::gguf::Gguf;

/// Facts about a model that its files state. None: they do not state it.
#[derive(Debug, Default, Serialize)]
pub struct Facts {
    pub architecture: Option<String>,
    pub parameters: Option<u64>,
    pub size_bytes: Option<u64>,
    /// The types of the tensors, those of the most parameters first.
    pub quantization: Vec<String>,
    /// Positions (tokens) that the model was trained for.
    pub context_length: Option<u64>,
    pub has_chat_template: bool,
    /// The format of tool calls in the chat template. None if there is no template, or it has no known format.
    pub tool_format: Option<&'static str>,
}

/// The longest header of a safetensors file that is read.
const MAX_HEADER_BYTES: u64 = 100 << 20;

impl Facts {
    /// Reads the headers of a model's files.
    ///
    /// # Errors
    /// A file cannot be read, or is damaged.
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        let facts = match path.extension().and_then(|extension| extension.to_str()) {
            _ if path.is_dir() => Self::of_directory(path)?,
            Some("gguf") => Self::of_gguf(path)?,
            _ => Self::default(),
        };
        Ok(Self {
            size_bytes: size_bytes(path),
            ..facts
        })
    }

    fn of_gguf(path: &Path) -> anyhow::Result<Self> {
        let mut types = TypeCounts::default();
        for part in parts(path) {
            for (_, tensor) in Gguf::open(&part)?.tensors() {
                types.add(tensor.kind().name, tensor.elements());
            }
        }
        let file = Gguf::open(path)?;
        let metadata = file.metadata();
        let architecture = metadata.text("general.architecture").unwrap_or_default();
        let context_length = metadata.whole(&format!("{architecture}.context_length"));
        let template = metadata.text("tokenizer.chat_template");
        Ok(types.facts(architecture, context_length, template))
    }

    fn of_directory(path: &Path) -> anyhow::Result<Self> {
        let config = json(&path.join("config.json"))?;
        let mut types = TypeCounts::default();
        for file in weights(path) {
            types.add_safetensors(&file)?;
        }
        let architecture = config["architectures"][0].as_str();
        let architecture = architecture.or(config["model_type"].as_str());
        let key = "max_position_embeddings";
        let context_length = config[key].as_u64();
        let context_length = context_length.or(config["text_config"][key].as_u64());
        let template = chat_template(path);
        Ok(types.facts(
            architecture.unwrap_or_default(),
            context_length,
            template.as_deref(),
        ))
    }
}

/// How many parameters have each type.
#[derive(Default)]
struct TypeCounts(BTreeMap<String, u64>);

impl TypeCounts {
    fn add(&mut self, name: &str, parameters: u64) {
        *self.0.entry(name.to_owned()).or_default() += parameters;
    }

    fn add_safetensors(&mut self, path: &Path) -> anyhow::Result<()> {
        let damaged = || format!("{} is no file of safetensors, or damaged", path.display());
        let mut file = File::open(path).with_context(damaged)?;
        let mut len = [0; 8];
        file.read_exact(&mut len).with_context(damaged)?;
        let len = u64::from_le_bytes(len);
        ensure!(len <= MAX_HEADER_BYTES, damaged());
        let header: BTreeMap<String, Value> =
            serde_json::from_reader(file.take(len)).with_context(damaged)?;
        for (_, tensor) in header.iter().filter(|(name, _)| *name != "__metadata__") {
            let sides = tensor["shape"].as_array().into_iter().flatten();
            let elements = sides.filter_map(Value::as_u64).fold(1, u64::saturating_mul);
            self.add(tensor["dtype"].as_str().unwrap_or_default(), elements);
        }
        Ok(())
    }

    fn facts(
        self,
        architecture: &str,
        context_length: Option<u64>,
        template: Option<&str>,
    ) -> Facts {
        let parameters = self.0.values().sum();
        let mut types: Vec<_> = self.0.into_iter().collect();
        types.sort_by_key(|(_, parameters)| std::cmp::Reverse(*parameters));
        Facts {
            architecture: Some(architecture.to_owned()).filter(|name| !name.is_empty()),
            parameters: Some(parameters),
            size_bytes: None,
            quantization: types.into_iter().map(|(name, _)| name).collect(),
            context_length,
            has_chat_template: template.is_some(),
            tool_format: template
                .and_then(ToolFormat::of_template)
                .map(|format| format.name),
        }
    }
}

/// Bytes of a model's file with its other parts, or of a directory's files. None if they cannot be looked at.
pub fn size_bytes(path: &Path) -> Option<u64> {
    let size = |path: &PathBuf| fs::metadata(path).map(|file| file.len());
    let files = match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => parts(path),
    };
    files.iter().map(size).sum::<Result<u64, _>>().ok()
}

/// All parts of a GGUF file, by the file of its first part. Any other file is its only part.
fn parts(path: &Path) -> Vec<PathBuf> {
    let (folder, name) = (path.parent().unwrap_or(Path::new("")), path.file_name());
    let names = names(folder);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let name = name.and_then(|name| name.to_str()).unwrap_or_default();
    let mut models = Selection::ggufs(&names).into_iter();
    match models.find(|model| model.which() == Some(name)) {
        Some(model) => model.files.iter().map(|name| folder.join(name)).collect(),
        None => vec![path.to_owned()],
    }
}

fn weights(folder: &Path) -> Vec<PathBuf> {
    let names = names(folder);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let files = Selection::safetensors(&names).map(|model| model.files);
    let files = files.unwrap_or_default().into_iter();
    let weights = files.filter(|name| name.ends_with(".safetensors"));
    weights.map(|name| folder.join(name)).collect()
}

/// The names in a directory. Empty if it cannot be read.
fn names(folder: &Path) -> Vec<String> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.collect()
}

fn json(path: &Path) -> anyhow::Result<Value> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
}

fn chat_template(folder: &Path) -> Option<String> {
    if let Ok(template) = fs::read_to_string(folder.join("chat_template.jinja")) {
        return Some(template);
    }
    let template = json(&folder.join("tokenizer_config.json")).ok()?["chat_template"].take();
    let of_list = template[0]["template"].as_str();
    template.as_str().or(of_list).map(str::to_owned)
}
