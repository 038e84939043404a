//! What crosses the library boundary between Tenon and its plugins: `#[repr(C)]` data and vtables, nothing else.
//!
//! Backend authors use the crate `tenon-plugin-api`: its safe traits and its macro `export_plugin!` fill in these tables. The
//! host reads them when it loads a plugin.
//!
//! Layouts contain the name and the major version of the crate that defines a type. So everything that crosses is defined
//! here, and this crate stays `1.x`. Its version is that of the ABI.
//!
//! Rules that every type here follows:
//!
//! - **Growth.** Vtables ([`PluginModule`] and the object traits) grow at the end. Structs that cross on every step end in
//!   words, and zero means that a later field is absent. Words of [`Reserved`], and flags, must be understood: a reader
//!   refuses a struct with one that it does not know. Words of [`Hints`] may be ignored. Structs that cross once end in
//!   `meta`, whose keys follow the same rule (see [`KeyValue`]).
//! - **Extensions.** Official calls are methods. Extensions are for objects that need nothing of the one that they were asked
//!   of. The id `org.tenon.generator/1` is kept for a later one.
//! - **Ownership.** The side that allocates also frees, through the container's own vtable (`RVec`, `RString`, `RBox`).
//!   Slices belong to the caller and are borrowed for the call only.
//! - **Unwinding.** No panic crosses: the SDK turns it into [`Code::PANICKED`]. After a panic the object answers every call
//!   with the same code until it is dropped.
//! - **Threads.** `[any thread]`: may be called from several threads at once. `[model thread]`: called by the one thread
//!   that owns the session, never by two at once.

#![deny(missing_docs)]

mod batch;
pub mod c;
mod code;
mod cpu;
mod embeddings;
mod extension;
mod interrupt;
mod layout;
mod log_level;
mod model;
mod module;
mod objects;
mod records;
mod request;
mod reserved;
mod text;

pub use batch::{Batch, KvStats, Span, SpanOut, ThreadPlan};
pub use code::Code;
pub use cpu::{COMPILED_FOR, CPU_FEATURES, CPU_FEATURES_SYMBOL, cpu_features};
pub use embeddings::{
    EMBEDDINGS, EmbedderBox, EmbedderInfoRecord, EmbedderObject, EmbedderObject_TO,
};
pub use extension::{Extension, Interface};
pub use interrupt::Interrupt;
pub use layout::{LayoutMismatch, layouts_agree};
pub use log_level::LogLevel;
pub use model::{Capabilities, SamplingDefaults};
pub use module::{
    AbiVersion, CRATE_SYMBOL, LOADER_SYMBOL, PluginModule, PluginModule_Ref, UNWINDS_SYMBOL,
};
pub use objects::{
    BackendBox, BackendObject, BackendObject_TO, HostBox, HostObject, HostObject_TO, ModelBox,
    ModelObject, ModelObject_TO, ProgressBox, ProgressObject, ProgressObject_TO, SessionBox,
    SessionObject, SessionObject_TO, TokenizerBox, TokenizerObject, TokenizerObject_TO,
};
pub use records::{
    DescriptorRecord, DeviceRecord, ErrorRecord, EstimateRecord, KeyValue, LoadArgsRecord,
    ModelInfoRecord, SessionArgsRecord, SessionInfoRecord, SupportRecord, UNLIMITED,
    VocabularyRecord,
};
pub use request::{
    NOT_FORCED, SampleParams, SampleRequest, Sampled, TokenBias, TokenCount, TokenLogprob,
};
pub use reserved::{Hints, Reserved};
pub use text::{EncodeFlags, TokenKind};

/// The crate that these types are made with. The types of extensions need its derives.
pub use abi_stable;
/// Types of `abi_stable` in the signatures of this crate.
pub use abi_stable::{
    prefix_type::PrefixTypeTrait,
    sabi_trait::TD_Opaque,
    std_types::{RBox, ROption, RResult, RSlice, RSliceMut, RStr, RString, RVec},
};
