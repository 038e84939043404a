use serde::Serialize;
use utoipa::ToSchema;

use super::ModelStatus;

/// The answer of `GET /admin/models`.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdminModelList {
    /// Always `list`.
    pub object: &'static str,
    /// All configured models; the default model comes first.
    pub data: Vec<AdminModel>,
}

/// A configured model, loaded or not.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdminModel {
    /// Name of the model.
    pub id: String,
    /// Other names that requests may use.
    pub aliases: Vec<String>,
    /// State of the model.
    pub state: ModelStatus,
    /// Why the model does not answer, or why it could not be loaded last time; null if nothing failed.
    #[schema(required)]
    pub error: Option<String>,
    /// Whether a request loads the model if it is not loaded.
    pub loads_on_request: bool,
    /// Number of times that the model was started again after its worker ended.
    pub restarts: u32,
    /// Progress of the download while the model's files are fetched from a hub; null at other times.
    #[schema(required)]
    pub download: Option<AdminDownload>,
    /// Details of the loaded model; null if it is not loaded.
    #[schema(required)]
    pub loaded: Option<AdminLoadedModel>,
}

/// A download of a model's files.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdminDownload {
    /// Bytes that have arrived.
    pub done_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
}

/// A loaded model.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdminLoadedModel {
    /// When it was loaded, in Unix seconds.
    pub since: u64,
    /// Id of the worker's process; null if the model computes in the server's process.
    #[schema(required)]
    pub process_id: Option<u32>,
    /// Bytes of memory that the worker uses now; null if unknown.
    #[schema(required)]
    pub memory_bytes: Option<u64>,
    /// The plugin that runs it.
    pub plugin: AdminPlugin,
    /// Level of the weights, for example `Q4_1`.
    pub quantization: String,
    /// Number of sequences that wait or are computed.
    pub sequences: usize,
}

/// The plugin that runs a model.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdminPlugin {
    /// Its id, for example `org.tenon.echo`.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Its file.
    pub path: String,
}

/// The result of a change of a model.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdminChange {
    /// Always `admin.change`.
    pub object: &'static str,
    /// What the change has done.
    pub outcome: AdminOutcome,
    /// Seconds that the change took.
    pub seconds: f64,
    /// The model after the change.
    pub model: AdminModel,
}

/// What a change of a model has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdminOutcome {
    /// The model was loaded.
    Loaded,
    /// The model was loaded already.
    AlreadyLoaded,
    /// The model was unloaded. Running requests finish on it.
    Unloaded,
    /// The model was not loaded.
    AlreadyUnloaded,
    /// The model was loaded again, and new requests go to it. Running requests finish on its old instance.
    Reloaded,
}

/// The answer of `POST /admin/drain`.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdminDrain {
    /// Always `admin.drain`.
    pub object: &'static str,
    /// Whether this request began the drain; false if the server was told to stop before.
    pub begun: bool,
    /// Seconds from the beginning of the drain in which requests are still taken.
    pub drain_delay_secs: u64,
    /// Seconds after that in which running requests may finish.
    pub drain_timeout_secs: u64,
}

/// The answer of `POST /admin/config/reload`: the changes that it made. Keys are written as in TOML.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdminConfig {
    /// Always `admin.config`.
    pub object: &'static str,
    /// Keys outside of `[[models]]` whose new values count now.
    pub changed: Vec<String>,
    /// Keys outside of `[[models]]` whose new values count from the next start on.
    pub needs_restart: Vec<String>,
    /// Why new connections still get the certificate of before. Absent: its files were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_failed: Option<String>,
    /// Changes of the models.
    pub models: AdminModelChanges,
}

/// Changes of the models after the configuration was read again, by the models' ids.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdminModelChanges {
    /// Models that are served now and were not before.
    pub added: Vec<String>,
    /// Models that are no longer served. Their running requests finish.
    pub removed: Vec<String>,
    /// Models that were loaded again with their new settings.
    pub reloaded: Vec<String>,
    /// Models whose new settings count at once, or at their next load.
    pub changed: Vec<String>,
    /// Models whose new settings count from the next start on, because they compute in the server's process.
    pub needs_restart: Vec<String>,
    /// Models that could not be loaded. A model that was loaded before keeps its old instance.
    pub failed: Vec<AdminFailedModel>,
}

/// A model that could not be loaded.
#[derive(Debug, Serialize, ToSchema)]
pub struct AdminFailedModel {
    /// Name of the model.
    pub id: String,
    /// Why it could not be loaded.
    pub error: String,
}
