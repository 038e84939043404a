//! Orders to read the configuration again, and their outcomes.

use tokio::sync::{mpsc, oneshot};

use crate::models::ModelChanges;

/// A handle that orders readings of the configuration. All clones share one reader.
#[derive(Clone)]
pub struct Rereading(mpsc::UnboundedSender<RereadOrder>);

/// The orders to read the configuration again.
pub type Orders = mpsc::UnboundedReceiver<RereadOrder>;

/// An order: the sender of its outcome.
pub type RereadOrder = oneshot::Sender<Result<Reread, String>>;

/// The changes that a reading of the configuration has made. Keys are written as in TOML: `server.port`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reread {
    /// Keys outside of `[[models]]` whose new values count now.
    pub changed: Vec<String>,
    /// Keys outside of `[[models]]` whose new values count from the next start on.
    pub needs_restart: Vec<String>,
    /// Why the certificate stays as it is. None: its files were read.
    pub certificate_failed: Option<String>,
    /// Changes of the models.
    pub models: ModelChanges,
}

impl Rereading {
    /// A handle that orders readings, and the receiver of its orders.
    pub fn channel() -> (Self, Orders) {
        let (sender, orders) = mpsc::unbounded_channel();
        (Self(sender), orders)
    }

    /// Orders a reading. It happens also if the receiver of its outcome is dropped.
    pub fn order(&self) -> oneshot::Receiver<Result<Reread, String>> {
        let (order, outcome) = oneshot::channel();
        // An error means that the server ends.
        let _ = self.0.send(order);
        outcome
    }
}
