use std::sync::Arc;

use crate::{
    engine::ClientId,
    keys::{Account, Key},
};

/// Who sent a request. Each request that is let in has this extension.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// What the client is told apart by from others.
    pub id: ClientId,
    /// What the request uses. None if nobody asks for it.
    pub account: Option<Arc<Account>>,
}

impl Client {
    /// The request's key. None if it has none.
    pub fn key(&self) -> Option<&Key> {
        self.account.as_ref()?.key()
    }
}
