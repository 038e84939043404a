//! The Responses API.
//!
//! 1. [`read`] reads a request: its parameters, items and tools.
//! 2. [`messages`] and [`tools`] convert these to the messages and tools of a chat. [`settings`] does so with the parameters.
//!    From here on a response is made as the answer to a chat is.
//! 3. [`items`] makes items of the answer's pieces, each with its events ([`open_item`]). [`writer`] makes the response around
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
