//! `org.tenon.embeddings/1`: the form in which a model's embedder crosses the library boundary.

#![allow(non_local_definitions, reason = "the code that sabi_trait generates")]

use abi_stable::{
    StableAbi, sabi_trait,
    std_types::{RBox, RResult, RSlice, RSliceMut, RString, RVec},
};

use crate::{ErrorRecord, Interface, Interrupt, KeyValue};

/// The extension of a [`ModelObject`](crate::ModelObject) whose value is an [`EmbedderBox`].
pub const EMBEDDINGS: &str = EmbedderBox::ID;

/// An owned [`EmbedderObject`].
pub type EmbedderBox = EmbedderObject_TO<'static, RBox<()>>;

impl Interface for EmbedderBox {
    const ID: &'static str = "org.tenon.embeddings/1";
}

/// Turns texts into vectors.
#[sabi_trait]
pub trait EmbedderObject: Send {
    /// `[any thread]` Facts about the embedder.
    fn info(&self) -> RResult<EmbedderInfoRecord, ErrorRecord>;
    /// `[one thread at a time]` Embeds texts; `out` is `[texts, dimensions]`.
    #[sabi(last_prefix_field)]
    fn embed(
        &mut self,
        texts: RSlice<'_, RSlice<'_, u32>>,
        interrupt: &Interrupt,
        out: RSliceMut<'_, f32>,
    ) -> RResult<(), ErrorRecord>;
}

/// `EmbedderInfo` of the SDK in the form that crosses the library boundary.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
#[expect(missing_docs, reason = "mirrors EmbedderInfo")]
pub struct EmbedderInfoRecord {
    pub dimensions: u32,
    pub max_tokens: u32,
    pub pooling: RString,
    pub meta: RVec<KeyValue>,
}
