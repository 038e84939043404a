//! A client of any server of the OpenAI API: requests in [`Server`], and the events of streams in [`Events`].

mod events;
mod server;

pub use events::Events;
pub use server::Server;
