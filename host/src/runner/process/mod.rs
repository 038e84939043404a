//! Models that compute in processes of their own, the workers. A plugin that breaks its process only ends that worker.
//!
//! 1. A [`Spawner`] starts this same program as `tenon worker` (`spawn.rs`). The worker's standard input is the open library, its
//!    standard output a socket to the server, and its standard error output a pipe (`output.rs`).
//! 2. The server sends a [`Start`], and then orders. The worker ([`run`]) answers with news (`messages.rs`). Messages are framed
//!    (`frames.rs`), and written by the thread that sends them (`line.rs`, `socket.rs`). The tokens of a step are one message. No tensor
//!    crosses.
//! 3. In the server a `RemoteRunner` (`remote.rs`) sends orders over a `Connection`; in the worker a `Session` (`worker.rs`) carries
//!    them out. The model thread sends the events of its step (`relays.rs`). Events of a sequence wait in the worker as soon as its reader does
//!    not take them (`window.rs`).
//! 4. The worker ends itself when a call of the plugin takes too long (`watchdog.rs`), and the server ends one that does not answer
//!    (`spawn.rs`). When the worker ends, everything that waits for it fails, with a sentence about what happened (`end.rs`). When the
//!    server ends, its sockets close, and the workers end.

mod connection;
mod end;
mod entry;
mod frames;
mod line;
mod memory_limit;
mod messages;
mod outbox;
mod output;
mod relays;
mod remote;
mod socket;
mod spawn;
mod watchdog;
mod window;
mod worker;

pub use entry::run;
pub use messages::Start;
pub use spawn::Spawner;
