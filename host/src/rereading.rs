//! Orders to read the configuration again, and what comes of them.

use tokio::sync::{mpsc, oneshot};

use crate::models::ModelChanges;

/// Has the configuration read again. Clones order from the same reader.
#[derive(Clone)]
pub struct Rereading(mpsc::UnboundedSender<Order>);

/// The orders to read the configuration again.
pub type Orders = mpsc::UnboundedReceiver<Order>;

/// An order, and who waits for what comes of it.
pub type Order = oneshot::Sender<Result<Reread, String>>;

/// What a new reading of the configuration has changed. Keys are written as in TOML: `server.port`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reread {
    /// Keys outside of `[[models]]` whose new values count now.
    pub changed: Vec<String>,
    /// Keys outside of `[[models]]` whose new values count from the next start on.
    pub needs_restart: Vec<String>,
    /// What has become of the models.
    pub models: ModelChanges,
}

impl Rereading {
    /// The giver of orders and their receiver.
    pub fn channel() -> (Self, Orders) {
        let (sender, orders) = mpsc::unbounded_channel();
        (Self(sender), orders)
    }

    /// Orders a reading. What comes of it can be waited for; it happens anyway.
    pub fn order(&self) -> oneshot::Receiver<Result<Reread, String>> {
        let (order, outcome) = oneshot::channel();
        // An error means that the server ends.
        let _ = self.0.send(order);
        outcome
    }
}
