//! What the end-to-end tests share.

mod artifacts;
mod browser;
mod client;
mod server;

pub use artifacts::{Artifacts, artifacts};
pub use browser::{Browser, HOST};
pub use client::{Client, Event, Events, Stream, chat, text};
pub use server::{PATIENCE, Server, ServerOptions, smollm2};
