//! Turns a request into tokens: renders the model's chat template and encodes the result.
//!
//! 1. [`ControlTokens::new`] takes the texts that the vocabulary reads as control tokens, and [`ChatTemplate::parse`] the
//!    template. Both are called once per model.
//! 2. [`ChatTemplates::render`] makes a [`RenderedChat`] of each chat request. What the template does not support is
//!    rewritten according to its [`TemplateCapabilities`].
//! 3. [`encode_chat`] turns a rendered chat into tokens, [`encode_text`] a plain completion prompt, [`encode_pairs`] the texts of
//!    a [`PairTemplate`], and [`InfillTokens`] an infill prompt.
//!
//! Invariant: nothing here knows HTTP, wire types or the engine.

mod adapt;
mod capabilities;
mod chat_template;
mod chat_templates;
mod control_tokens;
mod default_variables;
mod encode;
mod generic_tools;
mod infill;
mod jinja;
mod pair;
mod past_answers;
mod quoted_tags;
mod render_request;
mod turns;
mod volatile_lines;

#[cfg(test)]
mod tests;

pub use capabilities::TemplateCapabilities;
pub use chat_template::{ChatTemplate, RenderedChat, SpecialTokens, TemplateError};
pub use chat_templates::ChatTemplates;
pub use control_tokens::{ControlTokens, ControlTokensError};
pub use encode::{Encoder, Special, encode_chat, encode_pairs, encode_text, encode_texts};
pub use infill::{InfillTokens, encode_part};
pub use pair::PairTemplate;
pub use past_answers::{PastAnswers, Recorder};
pub use render_request::{Ending, RESERVED_VARIABLES, RenderRequest};
pub use volatile_lines::VolatileLines;
