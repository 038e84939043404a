//! What the end-to-end tests share.

mod artifacts;

pub use artifacts::{Artifacts, artifacts};
