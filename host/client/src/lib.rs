//! A client of any server of the OpenAI API: requests in [`Server`], and the events of streams in [`Events`]. [`client_builder`] makes
//! clients of other servers, which trust the same authorities.

mod events;
mod server;
mod trust;

pub use events::Events;
pub use server::Server;
pub use trust::{client_builder, is_distrust};
