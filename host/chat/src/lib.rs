//! `tenon run` and `tenon chat`: a question, or a conversation, in a terminal. Both speak to a server over HTTP: to one that runs, or to
//! one of their own (`local`) that serves a model as long as they need it.
//!
//! 1. `target` finds or starts the server.
//! 2. `request` makes the body of a request from the messages and the arguments.
//! 3. `reply` reads the answer while it is written. `markdown` gives it colours.

mod chat;
mod local;
mod markdown;
mod reply;
mod request;
mod run;
mod target;

pub use chat::Chat;
pub use run::Run;
