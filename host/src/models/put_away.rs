//! Ends models that are to answer no more requests.

use std::time::Duration;

use tokio::time::timeout;

use super::{Catalog, ModelState, RightToChange, ServedModel};
use crate::system::memory;

/// The time to wait for the end of a model without requests, longer than it takes.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Gives a model a state in which it answers no more requests. Its running requests finish on it, and its memory is free once they
/// have.
pub async fn put_away(
    mut right: RightToChange,
    served: &ServedModel,
    catalog: &Catalog,
    state: ModelState,
) {
    let before = served.state();
    served.set_state(state);
    if let ModelState::Ready(model) = before {
        catalog.metrics.unloaded(&served.id, &model.facts().info);
        right.push(model.runner.end(), 0);
        drop(model);
        // The end takes longer only if requests still run.
        let _ = timeout(END_TIMEOUT, right.ended()).await;
        memory::give_back_soon();
    }
}
