//! `org.tenon.embeddings/1`: the form in which the embedder of [`Model::embedder`](crate::Model::embedder) crosses the
//! library boundary.

#![allow(non_local_definitions, reason = "the code that sabi_trait generates")]

use abi_stable::{
    StableAbi, sabi_trait,
    std_types::{RBox, RResult, RSlice, RSliceMut, RString, RVec},
};

use super::{ErrorRecord, KeyValue};
use crate::{EmbedderInfo, Interrupt};

/// The extension of a [`ModelObject`](super::ModelObject) whose value is an [`EmbedderBox`].
pub const EMBEDDINGS: &str = "org.tenon.embeddings/1";

/// An owned [`EmbedderObject`].
pub type EmbedderBox = EmbedderObject_TO<'static, RBox<()>>;

/// See [`Embedder`](crate::Embedder).
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

/// [`EmbedderInfo`] in the form that crosses the library boundary.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
#[expect(missing_docs, reason = "mirrors EmbedderInfo")]
pub struct EmbedderInfoRecord {
    pub dimensions: u32,
    pub max_tokens: u32,
    pub pooling: RString,
    pub meta: RVec<KeyValue>,
}

impl From<EmbedderInfo> for EmbedderInfoRecord {
    fn from(plain: EmbedderInfo) -> Self {
        Self {
            dimensions: plain.dimensions,
            max_tokens: plain.max_tokens,
            pooling: plain.pooling.into(),
            meta: RVec::new(),
        }
    }
}

impl From<EmbedderInfoRecord> for EmbedderInfo {
    fn from(record: EmbedderInfoRecord) -> Self {
        Self {
            dimensions: record.dimensions,
            max_tokens: record.max_tokens,
            pooling: record.pooling.into(),
        }
    }
}
