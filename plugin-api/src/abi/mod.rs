//! What crosses the library boundary: `#[repr(C)]` data and vtables, nothing else.
//!
//! Backend authors do not use this module: they implement the safe traits at the crate's root and call
//! [`export_plugin!`](crate::export_plugin). The host uses it to load plugins.
//!
//! Rules that every type here follows:
//!
//! - **Growth.** Vtables ([`PluginModule`] and the object traits) grow at the end. Structs that cross on every step end in
//!   `reserved: [u64; N]`. A later field becomes an accessor over it, and zero means that the field is absent. Structs that
//!   cross once end in `meta`.
//! - **Ownership.** The side that allocates also frees, through the container's own vtable (`RVec`, `RString`, `RBox`).
//!   Slices belong to the caller and are borrowed for the call only.
//! - **Unwinding.** No panic crosses: the SDK turns it into [`Code::PANICKED`](crate::Code::PANICKED). After a panic the
//!   object answers every call with the same code until it is dropped.
//! - **Threads.** `[any thread]`: may be called from several threads at once. `[model thread]`: called by the one thread
//!   that owns the session, never by two at once.

mod cpu;
mod embeddings;
mod extension;
mod layout;
mod module;
mod objects;
mod records;

pub use cpu::{COMPILED_FOR, CPU_FEATURES, CPU_FEATURES_SYMBOL, cpu_features};
pub use embeddings::{
    EMBEDDINGS, EmbedderBox, EmbedderInfoRecord, EmbedderObject, EmbedderObject_TO,
};
pub use extension::Extension;
pub use layout::{LayoutMismatch, layouts_agree};
pub use module::{AbiVersion, LOADER_SYMBOL, PluginModule, PluginModule_Ref};
pub use objects::{
    BackendBox, BackendObject, BackendObject_TO, HostBox, HostObject, HostObject_TO, ModelBox,
    ModelObject, ModelObject_TO, ProgressBox, ProgressObject, ProgressObject_TO, SessionBox,
    SessionObject, SessionObject_TO, TokenizerBox, TokenizerObject, TokenizerObject_TO,
};
pub use records::{
    DescriptorRecord, DeviceRecord, ErrorRecord, EstimateRecord, KeyValue, LoadArgsRecord,
    ModelInfoRecord, SessionArgsRecord, SupportRecord, VocabularyRecord,
};

pub use abi_stable;
