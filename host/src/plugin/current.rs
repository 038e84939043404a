//! Values that are replaced while others use them.

use std::{future::pending, sync::Arc};

use tokio::sync::watch;

/// A value that may be replaced. All clones see the replacement.
#[derive(Clone)]
pub struct Current<T>(Arc<watch::Sender<T>>);

impl<T: Clone> Current<T> {
    pub fn new(value: T) -> Self {
        Self(Arc::new(watch::Sender::new(value)))
    }

    /// The current value.
    pub fn get(&self) -> T {
        self.0.borrow().clone()
    }

    /// Whether both are clones of the same value, so that each sees the other's replacements.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub fn set(&self, value: T) {
        self.0.send_replace(value);
    }
}

impl<T: Clone> Current<Option<T>> {
    /// Waits until there is a value. Never ready if there will be none.
    pub async fn filled(self) -> T {
        let mut changes = self.0.subscribe();
        drop(self);
        loop {
            let value = changes.borrow_and_update().clone();
            if let Some(value) = value {
                return value;
            }
            if changes.changed().await.is_err() {
                return pending().await;
            }
        }
    }
}

impl<T: Clone + Default> Default for Current<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}
