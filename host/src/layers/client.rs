use std::sync::Arc;

use crate::{
    engine::ClientId,
    keys::{Account, Key},
};

/// The client that sent a request. Each request that is let in has this extension.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Identifies the client.
    pub id: ClientId,
    /// The request's account. None if no record is kept of the request.
    pub account: Option<Arc<Account>>,
}

impl Client {
    /// The request's key. None if it has none.
    pub fn key(&self) -> Option<&Key> {
        self.account.as_ref()?.key()
    }

    /// The priority of a request that asks for this one: at most as urgent as the client's key allows. Lower numbers are more urgent.
    pub fn priority(&self, asked: Option<i32>) -> i32 {
        let most_urgent = self.key().and_then(|key| key.rights.priority_max);
        asked.unwrap_or(0).max(most_urgent.unwrap_or(i32::MIN))
    }
}
