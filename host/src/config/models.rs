//! `[[models]]`: the models to serve.

use std::{
    collections::HashMap,
    num::NonZeroU64,
    path::{Path, PathBuf},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tenon_plugin_api::SamplingDefaults;

use super::{
    Engine, Flags, RequestBounds, Threads,
    by_name::{by_name, if_named},
    engine::{
        BatchTokens, CachedSequences, ContextLength, DraftTokens, Isolation, KvTokens, Load,
        LoadSeconds, QueueLength, RawEngine, Restarts, Sandbox, Sequences, StuckSeconds,
    },
    refusals::Refusals,
    sampling::RawSampling,
};
use crate::{
    hub::HubModel,
    markup::{FORMATS, ReasoningTags, ToolFormat},
};

/// One model to serve.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Unique among all ids and aliases.
    pub id: String,
    pub aliases: Vec<String>,
    pub path: ModelPath,
    /// None: the backend that fits the file best.
    pub backend: Option<String>,
    /// Empty: the backend decides.
    pub devices: Vec<String>,
    /// A JSON object.
    pub options: Value,
    /// None: the chat template of the model itself.
    pub chat_template: Option<PathBuf>,
    /// None: the format that the chat template shows.
    pub tool_format: Option<&'static ToolFormat>,
    /// None: the tags that the chat template shows. `Some(None)`: the model has none.
    pub reasoning_tags: Option<Option<ReasoningTags>>,
    /// None: the level of the file.
    pub quantize: Option<String>,
    pub requantize: Requantize,
    /// None: no limit.
    pub memory_limit_bytes: Option<u64>,
    /// Overrides the model's own recommendations.
    pub sampling: SamplingDefaults,
    pub engine: Engine,
}

/// Where a model is.
#[derive(Clone, Debug, PartialEq)]
pub enum ModelPath {
    /// A file or directory on this machine.
    Local(PathBuf),
    /// On the hub, from which it is fetched.
    Hub(HubModel),
}

impl ModelPath {
    /// The file or directory on this machine. None if it has to be fetched.
    pub fn local(&self) -> Option<&Path> {
        match self {
            Self::Local(path) => Some(path),
            Self::Hub(_) => None,
        }
    }

    /// The model's default name.
    fn name(&self) -> String {
        match self {
            Self::Local(path) => name_of(path),
            Self::Hub(model) => model.name().to_owned(),
        }
    }
}

/// A directory of models, which are loaded on demand.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFolder {
    pub path: PathBuf,
    /// The settings of each model in it. Its id and path are empty.
    pub model: Model,
}

impl ModelFolder {
    /// The model with this file or directory.
    pub fn model_at(&self, path: &Path) -> Model {
        Model {
            id: name_of(path),
            path: ModelPath::Local(path.to_owned()),
            ..self.model.clone()
        }
    }
}

/// How a model's level is changed while it is being served.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requantize {
    /// The model at the new level is made beside the old one, which goes on answering. Refused if there is no memory for
    /// both.
    #[default]
    Beside,
    /// If there is no memory for both, the old model finishes the running requests and is dropped before the new one is
    /// loaded.
    InPlace,
}

/// A model to serve.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawModel {
    /// Name of the model in requests. Default: the name of the file without its extension, or of the directory or repository.
    id: Option<String>,
    /// Other names that requests may use. One that ends with `*` stands for all names with that beginning.
    #[serde(default)]
    aliases: Vec<String>,
    /// The model's file or directory, relative to this file. `~/` is the home directory. Or a model on the Hugging Face Hub, which is
    /// fetched before it is loaded: `hf:OWNER/REPO`, `hf:OWNER/REPO:QUANT` or `hf:OWNER/REPO:FILE`, with `@REVISION` after REPO to stay
    /// at a branch, tag or commit.
    path: Option<PathBuf>,
    /// Instead of `path`: a directory of models. Each file in it that a plugin can load, and each directory in it with safetensors, is
    /// served under its own name, and loaded on demand. Files that appear or go count while the server runs.
    directory: Option<PathBuf>,
    /// Id of the plugin that runs the model. Default: the one that fits the file best.
    backend: Option<String>,
    /// Devices to use, as the plugin calls them (`tenon plugins list` shows them). Default: the plugin decides.
    #[serde(default)]
    devices: Vec<String>,
    /// Options for the plugin. `tenon plugins show ID` lists them.
    #[serde(default)]
    options: Map<String, Value>,
    /// File with a chat template (Jinja) to use instead of the model's own, relative to this file.
    chat_template: Option<PathBuf>,
    /// How the model writes tool calls: one of the names that config/API.md lists. Default: the format that the chat template
    /// shows, else "hermes".
    tool_format: Option<String>,
    /// Tags that the model writes around its reasoning, for example ["<think>", "</think>"]; [] for none. Default: the tags
    /// that the chat template shows.
    reasoning_tags: Option<Vec<String>>,
    /// Level to quantize the model to when it is loaded, for example `Q4_K_M`. Default: the level of the file.
    quantize: Option<String>,
    /// What happens when `POST /re_isq` changes the level and `memory_limit_bytes` has no room for the model at both
    /// levels.
    #[serde(default, deserialize_with = "by_name")]
    requantize: Requantize,
    /// Most memory in bytes that the model may take, also while its level changes: weights, KV pool and scratch space, as
    /// the plugin estimates them. The model's worker may take 1 GiB more, and is ended beyond that. Default: what is free when
    /// the model is loaded.
    memory_limit_bytes: Option<NonZeroU64>,
    /// Sampling parameters of requests that do not state them. Default: what the model's makers recommend, else OpenAI's.
    #[serde(default)]
    sampling: RawSampling,
    /// Instead of the `context_length` of `[engine]`.
    context_length: Option<ContextLength>,
    /// Instead of the `max_sequences` of `[engine]`.
    max_sequences: Option<Sequences>,
    /// Instead of the `max_cached_sequences` of `[engine]`.
    max_cached_sequences: Option<CachedSequences>,
    /// Instead of the `kv_tokens` of `[engine]`.
    kv_tokens: Option<KvTokens>,
    /// Instead of the `max_batch_tokens` of `[engine]`.
    max_batch_tokens: Option<BatchTokens>,
    /// Instead of the `max_step_ms` of `[engine]`.
    max_step_ms: Option<u32>,
    /// Instead of the `max_draft_tokens` of `[engine]`.
    max_draft_tokens: Option<DraftTokens>,
    /// Instead of the `max_queue` of `[engine]`.
    max_queue: Option<QueueLength>,
    /// Instead of the `max_answers` of `[engine]`.
    max_answers: Option<u32>,
    /// Instead of the `max_output_tokens` of `[engine]`.
    max_output_tokens: Option<u32>,
    /// Instead of the `min_priority` of `[engine]`.
    min_priority: Option<i32>,
    /// Instead of the `threads` of `[engine]`.
    threads: Option<Threads>,
    /// Instead of the `isolation` of `[engine]`.
    #[serde(default, deserialize_with = "if_named")]
    isolation: Option<Isolation>,
    /// Instead of the `sandbox` of `[engine]`.
    #[serde(default, deserialize_with = "if_named")]
    sandbox: Option<Sandbox>,
    /// Instead of the `stuck_timeout_secs` of `[engine]`.
    stuck_timeout_secs: Option<StuckSeconds>,
    /// Instead of the `load_timeout_secs` of `[engine]`.
    load_timeout_secs: Option<LoadSeconds>,
    /// Instead of the `max_restarts` of `[engine]`.
    max_restarts: Option<Restarts>,
    /// Instead of the `load` of `[engine]`.
    #[serde(default, deserialize_with = "if_named")]
    load: Option<Load>,
    /// Instead of the `idle_unload_secs` of `[engine]`.
    idle_unload_secs: Option<u32>,
}

/// Applies the flags that change models. Some change every model; the others need a configuration with only one.
pub fn apply_flags(models: &mut [RawModel], flags: &Flags, refusals: &mut Refusals) {
    for model in &mut *models {
        model.threads = flags.threads.or(model.threads);
    }
    if let [only] = models {
        only.backend = flags.backend.clone().or(only.backend.take());
        only.id = flags.model_id.clone().or(only.id.take());
        return;
    }
    let count = models.len();
    for (flag, _) in flags.for_one_model() {
        refusals.problems.push(format!(
            "{flag} is for one model, but the configuration has {count}: give MODEL_PATH with it"
        ));
    }
}

/// Resolves all models and directories of models, and checks that no two share a name.
pub fn resolve(
    raw: Vec<RawModel>,
    engine: &RawEngine,
    refusals: &mut Refusals,
) -> (Vec<Model>, Vec<ModelFolder>) {
    let (mut models, mut folders) = (Vec::new(), Vec::new());
    for (index, mut raw) in raw.into_iter().enumerate() {
        match raw.directory.take() {
            Some(directory) => {
                folders.push(raw.resolve_folder(index, &directory, engine, refusals))
            }
            None => models.push((index, raw.resolve(index, engine, refusals))),
        }
    }
    check_names(&models, refusals);
    (
        models.into_iter().map(|(_, model)| model).collect(),
        folders,
    )
}

impl Model {
    /// Whether a model that was loaded by the entry `other` need not be loaded again. Aliases, the time of loading, and limits of
    /// requests that the server checks itself may differ.
    pub fn loads_like(&self, other: &Self) -> bool {
        let loaded = |model: &Self| {
            let mut loaded = model.clone();
            loaded.aliases = Vec::new();
            loaded.engine.load = Load::default();
            loaded.engine.idle_unload = None;
            loaded.engine.requests.max_answers = None;
            loaded.engine.requests.max_output_tokens = None;
            loaded
        };
        loaded(self) == loaded(other)
    }
}

impl RawModel {
    /// Resolves an entry with a directory of models.
    fn resolve_folder(
        self,
        index: usize,
        directory: &Path,
        engine: &RawEngine,
        refusals: &mut Refusals,
    ) -> ModelFolder {
        let place = index.to_string();
        let key = |name| ["models", &place, name];
        let of_one = [
            ("id", self.id.is_some()),
            ("path", self.path.is_some()),
            ("aliases", !self.aliases.is_empty()),
        ];
        for (name, _) in of_one.into_iter().filter(|(_, is_set)| *is_set) {
            let why =
                "is for one model, but \"directory\" is for several: leave one of the two out";
            refusals.refuse(&key(name), why);
        }
        let path = refusals.whole_path(&key("directory"), directory);
        let mut model = self.resolve_at(ModelPath::Local(PathBuf::new()), index, engine, refusals);
        model.engine.load = Load::OnDemand;
        ModelFolder { path, model }
    }

    fn resolve(self, index: usize, engine: &RawEngine, refusals: &mut Refusals) -> Model {
        let place = index.to_string();
        let key = ["models", &place, "path"];
        let path = match &self.path {
            Some(path) => resolve_path(&key, path, refusals),
            None => {
                refusals.refuse(&key, "is missing: it says where the model is");
                ModelPath::Local(PathBuf::new())
            }
        };
        self.resolve_at(path, index, engine, refusals)
    }

    fn resolve_at(
        self,
        path: ModelPath,
        index: usize,
        engine: &RawEngine,
        refusals: &mut Refusals,
    ) -> Model {
        let index = index.to_string();
        let key = |name| ["models", &index, name];
        if let Some(backend) = &self.backend {
            refusals.check_not_empty(&key("backend"), backend);
        }
        for device in &self.devices {
            refusals.check_not_empty(&key("devices"), device);
        }
        if let Some(level) = &self.quantize {
            refusals.check_not_empty(&key("quantize"), level);
        }
        if self.requantize == Requantize::InPlace && self.memory_limit_bytes.is_none() {
            let why = "can only be \"in-place\" where memory_limit_bytes says how much there is: set it too";
            refusals.refuse(&key("requantize"), why);
        }
        let tool_format = self.tool_format.as_deref();
        let reasoning_tags = self.reasoning_tags.as_deref();
        Model {
            engine: self.engine(engine),
            tool_format: tool_format
                .and_then(|name| resolve_tool_format(&key("tool_format"), name, refusals)),
            reasoning_tags: reasoning_tags
                .and_then(|tags| resolve_tags(&key("reasoning_tags"), tags, refusals)),
            id: self.id.unwrap_or_else(|| path.name()),
            aliases: self.aliases,
            backend: self.backend,
            devices: self.devices,
            options: Value::Object(self.options),
            sampling: self.sampling.resolve(&key("sampling"), refusals),
            chat_template: self
                .chat_template
                .map(|path| refusals.whole_path(&key("chat_template"), &path)),
            quantize: self.quantize,
            requantize: self.requantize,
            memory_limit_bytes: self.memory_limit_bytes.map(NonZeroU64::get),
            path,
        }
    }

    fn engine(&self, default: &RawEngine) -> Engine {
        let max_step_ms = self.max_step_ms.unwrap_or(default.max_step_ms);
        let max_cached = self.max_cached_sequences;
        let max_batch = self.max_batch_tokens.unwrap_or(default.max_batch_tokens);
        let stuck_timeout = self
            .stuck_timeout_secs
            .unwrap_or(default.stuck_timeout_secs);
        let load_timeout = self.load_timeout_secs.unwrap_or(default.load_timeout_secs);
        let idle_unload_secs = self.idle_unload_secs.unwrap_or(default.idle_unload_secs);
        let max_draft = self.max_draft_tokens.unwrap_or(default.max_draft_tokens);
        Engine {
            context_length: self.context_length.unwrap_or(default.context_length).get(),
            max_sequences: self.max_sequences.unwrap_or(default.max_sequences).get(),
            max_cached_sequences: max_cached.unwrap_or(default.max_cached_sequences).get(),
            kv_tokens: self.kv_tokens.unwrap_or(default.kv_tokens).get(),
            max_batch_tokens: max_batch.get(),
            max_step: (max_step_ms > 0).then(|| Duration::from_millis(max_step_ms.into())),
            max_draft_tokens: max_draft.get(),
            max_queue: self.max_queue.unwrap_or(default.max_queue).get() as usize,
            requests: self.requests(default),
            threads: self.threads.unwrap_or(default.threads),
            isolation: self.isolation.unwrap_or(default.isolation),
            sandbox: self.sandbox.unwrap_or(default.sandbox),
            stuck_timeout: (stuck_timeout.get() > 0)
                .then(|| Duration::from_secs(stuck_timeout.get().into())),
            load_timeout: Duration::from_secs(load_timeout.get().into()),
            max_restarts: self.max_restarts.unwrap_or(default.max_restarts).get(),
            load: self.load.unwrap_or(default.load),
            idle_unload: (idle_unload_secs > 0)
                .then(|| Duration::from_secs(idle_unload_secs.into())),
        }
    }

    fn requests(&self, default: &RawEngine) -> RequestBounds {
        let bound = |own: Option<u32>, default| Some(own.unwrap_or(default)).filter(|&n| n > 0);
        RequestBounds {
            max_answers: bound(self.max_answers, default.max_answers),
            max_output_tokens: bound(self.max_output_tokens, default.max_output_tokens),
            min_priority: self.min_priority.unwrap_or(default.min_priority),
        }
    }
}

fn resolve_path(key: &[&str], path: &Path, refusals: &mut Refusals) -> ModelPath {
    let on_hub = path.to_str().filter(|text| HubModel::is_meant(text));
    match on_hub.map(str::parse) {
        Some(Ok(model)) => ModelPath::Hub(model),
        Some(Err(error)) => {
            refusals.refuse(key, &error.to_string());
            ModelPath::Local(path.into())
        }
        None => ModelPath::Local(refusals.whole_path(key, path)),
    }
}

fn resolve_tool_format(
    key: &[&str],
    name: &str,
    refusals: &mut Refusals,
) -> Option<&'static ToolFormat> {
    let format = ToolFormat::named(name);
    if format.is_none() {
        let known: Vec<_> = FORMATS.iter().map(|format| format.name).collect();
        let why = format!("is \"{name}\", but must be one of {}", known.join(", "));
        refusals.refuse(key, &why);
    }
    format
}

fn resolve_tags(
    key: &[&str],
    tags: &[String],
    refusals: &mut Refusals,
) -> Option<Option<ReasoningTags>> {
    match tags {
        [] => Some(None),
        [open, close] if !open.is_empty() && !close.is_empty() => {
            Some(Some(ReasoningTags::new(open, close)))
        }
        _ => {
            refusals.refuse(
                key,
                "must be two texts, the one that begins reasoning and the one that ends it, or []",
            );
            None
        }
    }
}

/// The name of a directory, or of a file without its extension. Empty for a path without a name, such as `..`.
fn name_of(path: &Path) -> String {
    let name = match path.is_dir() {
        true => path.file_name(),
        false => path.file_stem(),
    };
    name.map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn check_names(models: &[(usize, Model)], refusals: &mut Refusals) {
    let mut owners = HashMap::new();
    for (owner, model) in models {
        let index = owner.to_string();
        let id = ("id", &model.id);
        let aliases = model.aliases.iter().map(|alias| ("aliases", alias));
        for (key, name) in [id].into_iter().chain(aliases) {
            let key = ["models", &index, key];
            refusals.check_not_empty(&key, name);
            if let Some(first) = owners.insert(name, owner).filter(|_| !name.is_empty()) {
                let why = format!("cannot be \"{name}\": models[{first}] has that name already");
                refusals.refuse(&key, &why);
            }
        }
    }
}
