//! The models that are served: their names, states and facts, and how each is made.
//!
//! 1. [`load_all`] gives each configured model a [`Source`], and loads those that are to be loaded at the start. Later requests,
//!    idle times and administrators load and unload them (`lifecycle.rs`), and changes of plugins do (`serving.rs`). Each load
//!    makes a [`ModelSpec`].
//! 2. A [`ServedModel`] has a model's names and state. While it answers, the state holds a [`LoadedModel`]: what computes, and
//!    the encoding of requests into prompts.
//! 3. [`Requantize`] changes the level of a model while it is served.
//!
//! The facts about a loaded model ([`ModelFacts`](crate::plugin::ModelFacts)) are shared and never change. If the plugin
//! broke and the model was loaded again, all of them are replaced.
//!
//! Invariant: nothing here knows HTTP or wire types.

mod chat;
mod lifecycle;
mod loaded;
mod loading;
mod option_check;
mod progress;
mod requantize;
mod restart;
mod served;
mod serving;
mod source;
mod spec;
mod start;

pub use chat::ChatOptions;
pub use lifecycle::{Change, ChangeError, load, reload, state_for_request, unload};
pub use loaded::{ChatPrompt, LoadedModel, PromptError};
pub use option_check::wrong_options;
pub use progress::progress_bar;
pub use requantize::{Requantize, RequantizeError, Requantized};
pub use served::{FormerModels, ModelState, RightToChange, ServedModel};
pub use serving::load_all;
pub use source::Source;
pub use spec::{ModelSpec, weight_warnings};
