//! The plugin's model that an engine runs, for what is asked of it beside its session.

use std::sync::{Arc, Mutex, PoisonError};

use crate::plugin::Model;

/// None while it is loaded anew, and after it broke.
#[derive(Clone, Default)]
pub struct CurrentModel(Arc<Mutex<Option<Arc<Model>>>>);

impl CurrentModel {
    pub fn set(&self, model: Model) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(model));
    }

    pub fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub fn get(&self) -> Option<Arc<Model>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
