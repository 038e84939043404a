//! From a request to tokens: render the model's chat template, then encode what it wrote.
//!
//! 1. [`ControlTokens::new`] with the texts that the vocabulary reads as control tokens, and [`ChatTemplate::parse`], both
//!    once per model.
//! 2. [`ChatTemplate::render`] per chat request gives a [`RenderedChat`].
//!    What a template does not know is said in a way that it knows: its [`Dialect`].
//! 3. [`encode_chat`] turns it into tokens; [`encode_text`] does so for a plain completion prompt, [`GapTokens`] for one whose
//!    answer fills a gap.
//!
//! Invariant: nothing here knows HTTP, wire types or the engine.

mod chat_template;
mod control_tokens;
mod dialect;
mod encode;
mod gap;
mod generic_tools;
mod python_json;
mod template_functions;

#[cfg(test)]
mod tests;

pub use chat_template::{
    ChatTemplate, Ending, RESERVED_VARIABLES, RenderRequest, RenderedChat, SpecialTokens,
    TemplateError,
};
pub use control_tokens::{ControlTokens, ControlTokensError};
pub use dialect::Dialect;
pub use encode::{Encoder, encode_chat, encode_text};
pub use gap::{GapTokens, encode_part};
