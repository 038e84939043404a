//! Values that are replaced while others use them.

use std::sync::{Arc, PoisonError, RwLock};

/// A value that may be replaced. All clones see the replacement.
#[derive(Clone, Default)]
pub struct Current<T>(Arc<RwLock<T>>);

impl<T: Clone> Current<T> {
    pub fn new(value: T) -> Self {
        Self(Arc::new(RwLock::new(value)))
    }

    /// The current value.
    pub fn get(&self) -> T {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether both are clones of the same one, so that each sees what the other is set to.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
    }
}
