//! The Responses API.
//!
//! 1. [`read`] reads a request: its parameters, items and tools.
//! 2. [`messages`], [`tools`] and [`settings`] convert these to the messages, tools and settings of a chat. From here on a
//!    response is generated like the answer to a chat.
//! 3. [`items`] turns the answer's pieces into items, each with its events ([`open_item`]). [`writer`] writes the response around
//!    them.
//! 4. [`keep`] keeps responses if the server is configured so, [`kept`] has the routes that read them.

pub mod create;
mod custom_input;
mod encode;
mod events;
mod items;
mod keep;
pub mod kept;
mod messages;
mod open_item;
mod read;
mod settings;
mod tools;
mod unsupported;
mod writer;
