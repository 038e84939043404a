//! `tenon run` and `tenon chat`: a question, or a conversation, in a terminal. Both talk to a server over HTTP. They use a running
//! server, or start their own (`local`), which serves a model as long as they need it.
//!
//! 1. `target` finds or starts the server.
//! 2. `request` makes the body of a request from the messages and the arguments.
//! 3. `reply` reads the answer while it is written. `markdown` gives it colours.

mod chat;
mod local;
mod markdown;
mod printable;
mod reply;
mod request;
mod run;
mod target;

pub use chat::Chat;
pub use run::Run;
