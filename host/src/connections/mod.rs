//! The connections of clients: their number, their time limits and their end.
//!
//! hyper speaks HTTP on each connection, in a task of its own ([`connection`]), and rustls speaks TLS below it. The
//! [`register`](Register) knows all connections and tells one to close when its client is silent for too long, when another client
//! needs its place, or when the server stops. Invariant: nothing here knows the content of requests and answers.

mod activity;
mod body;
mod connection;
mod descriptors;
mod listener;
mod refusal;
mod register;
mod socket;
mod stream;
mod tls;

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use tokio::time::sleep;
use tracing::warn;

pub use self::{
    descriptors::raise_limit,
    listener::Listener,
    register::{ConnectionMetrics, Limits, Register},
    stream::Peer,
    tls::{Certificate, Tls},
};

/// The wait after an error of the listener.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections and serves each in its own task. Never returns.
pub async fn accept(listener: Listener, router: Router, register: Arc<Register>) {
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) if is_of_one(&error) => continue,
            Err(error) => {
                warn!("no connection can be taken ({error})");
                register.give_way();
                sleep(PAUSE).await;
                continue;
            }
        };
        stream.set_nodelay();
        let tls = listener.tls();
        let client = stream.peer().and_then(Peer::client_address);
        let activity = match register.enter(client) {
            Ok(activity) => activity,
            Err(full) => {
                // Words in TLS would take a place too.
                if tls.is_none() {
                    refusal::refuse(stream, full);
                }
                continue;
            }
        };
        let place = RegisterEntry(register.clone(), activity.clone());
        let router = router.clone();
        tokio::spawn(async move {
            connection::serve(stream, tls, router, activity).await;
            drop(place);
        });
    }
}

/// A connection's place in the register. The place is left on drop, also if the task panics.
struct RegisterEntry(Arc<Register>, Arc<activity::Activity>);

impl Drop for RegisterEntry {
    fn drop(&mut self) {
        self.0.leave(&self.1);
    }
}

/// Whether an error concerns only the connection that was to be accepted, and not the listener.
fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}
