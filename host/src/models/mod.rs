//! The models that are served: their names, states and facts, and how each is made.
//!
//! 1. A [`Catalog`] has all models. What it has at a moment is a [`Snapshot`], which requests read.
//! 2. [`Serving`] gives each configured model a [`ModelSource`], and loads those that are to be loaded at the start. Later, models are
//!    loaded and unloaded for requests, after idle times and by administrators (`lifecycle.rs`), and after changes of plugins
//!    (`serving.rs`), of the configuration (`configure.rs`) and of its directories of models (`folders.rs`). Each load makes a
//!    [`ModelSpec`], once the model's files are on this machine (`files.rs`).
//! 3. A [`ServedModel`] has a model's names and state. While it answers, the state holds a [`LoadedModel`]: the runner that
//!    computes, and the encoding of requests into prompts.
//! 4. [`LevelChange`] changes the level of a model while it is served.
//!
//! The facts about a loaded model ([`ModelFacts`](crate::plugin::ModelFacts)) are shared and never change. If the plugin
//! broke and the model was loaded again, all of them are replaced.
//!
//! Invariant: nothing here knows HTTP or wire types.

mod catalog;
mod chat;
mod checkpoints;
mod configure;
mod files;
mod folders;
mod lifecycle;
mod loaded;
mod loading;
mod option_check;
mod progress;
mod put_away;
mod requantize;
mod restart;
mod room;
mod served;
mod serving;
mod source;
mod spec;
mod start;

pub use catalog::{Catalog, Snapshot};
pub use chat::ChatOptions;
pub use configure::{ModelChanges, ModelWork};
pub use lifecycle::{Change, ChangeError, load, reload, state_for_request, unload};
pub use loaded::{ChatPrompt, LoadedModel, PromptError};
pub use loading::registry_options;
pub use option_check::wrong_options;
pub use progress::progress_bar;
pub use requantize::{LevelChange, RequantizeError, Requantized};
pub use served::{FormerModels, ModelState, RightToChange, ServedModel};
pub use serving::Serving;
pub use source::ModelSource;
pub use spec::{ModelSpec, weight_warnings};
