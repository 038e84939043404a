//! Code that the end-to-end tests share.

mod artifacts;
mod backend;
mod beginnings;
mod broken;
mod browser;
mod c_library;
mod client;
mod exactness;
mod model_files;
pub mod models;
mod mutants;
mod plugin_folder;
mod rows;
mod schemas;
mod server;
mod with_backends;
mod workers;

pub use artifacts::{Artifacts, artifacts};
pub use backend::{Backend, LoadedModel};
pub use beginnings::accepts_beginning;
pub use broken::{GgufBytes, set_weight};
pub use browser::{Browser, HOST};
pub use c_library::c_library;
pub use client::{Client, Event, Events, Stream, chat, metric_in, text};
pub use exactness::{Judge, TOLERANCE, token_bytes};
pub use model_files::ModelFiles;
pub use mutants::Mutants;
pub use plugin_folder::{Listed, PluginFolder, install, list};
pub use rows::{Row, RowReader, largest_difference};
pub use schemas::{Example, examples};
pub use server::{PATIENCE, Server, ServerOptions, smollm2, start_echo};
pub use workers::{ends_within, kill};
