//! The models that are served: their names, states and facts, and how each is made.
//!
//! 1. [`load_all`] makes a [`ModelSpec`] of each configured model, and loads the model from it. When plugins change, it loads
//!    models again.
//! 2. A [`ServedModel`] has a model's names and state. While it answers, the state holds a [`LoadedModel`]: what computes, and
//!    the encoding of requests into prompts.
//! 3. [`Requantize`] changes the level of a model while it is served.
//!
//! The facts about a loaded model ([`ModelFacts`](crate::plugin::ModelFacts)) are shared and never change. If the plugin
//! broke and the model was loaded again, all of them are replaced.
//!
//! Invariant: nothing here knows HTTP or wire types.

mod chat;
mod loaded;
mod loading;
mod progress;
mod requantize;
mod restart;
mod served;
mod serving;
mod spec;
mod start;

pub use chat::ChatOptions;
pub use loaded::{ChatPrompt, LoadedModel, PromptError};
pub use progress::progress_bar;
pub use requantize::{Requantize, RequantizeError, Requantized};
pub use served::{FormerModels, ModelState, RightToChange, ServedModel};
pub use serving::load_all;
pub use spec::{ModelSpec, weight_warnings};
