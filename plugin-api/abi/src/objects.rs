//! The objects behind the root module, as vtables. The safe traits of the SDK document what each method means; this module has
//! only the signatures that cross the library boundary.

#![allow(non_local_definitions, reason = "the code that sabi_trait generates")]

use abi_stable::{
    sabi_trait,
    std_types::{RBox, ROption, RResult, RSlice, RSliceMut, RStr, RString, RVec},
};

use crate::{
    Batch, DeviceRecord, EncodeFlags, ErrorRecord, EstimateRecord, Extension, KvStats,
    LoadArgsRecord, LogLevel, ModelInfoRecord, SampleRequest, Sampled, SessionArgsRecord,
    SessionInfoRecord, SpanOut, SupportRecord, ThreadPlan, VocabularyRecord,
};

/// An owned [`HostObject`].
pub type HostBox = HostObject_TO<'static, RBox<()>>;
/// An owned [`ProgressObject`].
pub type ProgressBox = ProgressObject_TO<'static, RBox<()>>;
/// An owned [`BackendObject`].
pub type BackendBox = BackendObject_TO<'static, RBox<()>>;
/// An owned [`ModelObject`].
pub type ModelBox = ModelObject_TO<'static, RBox<()>>;
/// An owned [`TokenizerObject`].
pub type TokenizerBox = TokenizerObject_TO<'static, RBox<()>>;
/// An owned [`SessionObject`].
pub type SessionBox = SessionObject_TO<'static, RBox<()>>;

/// Services of the host.
#[sabi_trait]
pub trait HostObject: Send + Sync {
    /// `[any thread]` One line for the host's log.
    fn log(&self, level: LogLevel, target: RStr<'_>, message: RStr<'_>);
    /// `[any thread]` How many threads the plugin may use for computing.
    fn threads(&self) -> u32;
    /// `[any thread]` A directory that the plugin may keep files in.
    fn cache_dir(&self) -> RString;
    /// `[any thread]` A service that a later host may have.
    #[sabi(last_prefix_field)]
    fn extension(&self, id: RStr<'_>) -> ROption<Extension>;
}

/// Receives the progress of a long call.
#[sabi_trait]
pub trait ProgressObject: Send + Sync {
    /// `[any thread]` `fraction` in 0..=1, negative if unknown. `false` asks the plugin to stop with `CANCELLED`.
    #[sabi(last_prefix_field)]
    fn report(&self, fraction: f32, message: RStr<'_>) -> bool;
}

/// A plugin that was started. It finds out what it can load, and loads it.
#[sabi_trait]
pub trait BackendObject: Send + Sync {
    /// `[any thread]` Devices that models can be loaded to.
    fn devices(&self) -> RResult<RVec<DeviceRecord>, ErrorRecord>;
    /// `[any thread]` Whether the backend can load the file or directory at `path`. Reads a header, no more.
    fn supports(&self, path: RStr<'_>) -> RResult<SupportRecord, ErrorRecord>;
    /// `[any thread]` Memory that loading and serving would take, one record per device.
    fn estimate(
        &self,
        load: &LoadArgsRecord,
        session: &SessionArgsRecord,
    ) -> RResult<RVec<EstimateRecord>, ErrorRecord>;
    /// `[any thread]` Reads a model.
    fn load(&self, args: &LoadArgsRecord, progress: ProgressBox) -> RResult<ModelBox, ErrorRecord>;
    /// `[any thread]` Writes a model at another level.
    fn quantize(
        &self,
        args: &LoadArgsRecord,
        output: RStr<'_>,
        progress: ProgressBox,
    ) -> RResult<ModelInfoRecord, ErrorRecord>;
    /// `[any thread]` An optional interface by its id.
    #[sabi(last_prefix_field)]
    fn extension(&self, id: RStr<'_>) -> ROption<Extension>;
}

/// A loaded model.
#[sabi_trait]
pub trait ModelObject: Send + Sync {
    /// `[any thread]` Facts about the model.
    fn info(&self) -> RResult<ModelInfoRecord, ErrorRecord>;
    /// `[any thread]` The model's tokenizer, which may outlive the model.
    fn tokenizer(&self) -> RResult<TokenizerBox, ErrorRecord>;
    /// `[model thread]` A KV pool and whatever else a run needs. May outlive the model object.
    fn session(&self, args: &SessionArgsRecord) -> RResult<SessionBox, ErrorRecord>;
    /// `[any thread]` A new model at another level, beside this one.
    fn requantize(&self, level: RStr<'_>, progress: ProgressBox) -> RResult<ModelBox, ErrorRecord>;
    /// `[any thread]` An optional interface by its id.
    #[sabi(last_prefix_field)]
    fn extension(&self, id: RStr<'_>) -> ROption<Extension>;
}

/// Encodes text into tokens, and says what each token is.
#[sabi_trait]
pub trait TokenizerObject: Send + Sync {
    /// `[any thread]` Text to token ids.
    fn encode(&self, text: RStr<'_>, flags: EncodeFlags) -> RResult<RVec<u32>, ErrorRecord>;
    /// `[any thread]` Bytes and kind of every token.
    #[sabi(last_prefix_field)]
    fn vocabulary(&self) -> RResult<VocabularyRecord, ErrorRecord>;
}

/// One KV pool and the sequences in it. `forward`, `sample`, `fork`, `truncate` and `free` allocate nothing in the SDK.
#[sabi_trait]
pub trait SessionObject {
    /// `[model thread]` What the session grants.
    fn info(&self) -> SessionInfoRecord;
    /// `[model thread]` Puts a ragged batch through the model. `out` is as long as `batch.spans`.
    fn forward(
        &mut self,
        batch: Batch<'_>,
        out: RSliceMut<'_, SpanOut>,
    ) -> RResult<(), ErrorRecord>;
    /// `[model thread]` Picks a token for each request. `out` is as long as `requests`.
    fn sample(
        &mut self,
        requests: RSlice<'_, SampleRequest<'_>>,
        out: RSliceMut<'_, Sampled<'_>>,
    ) -> RResult<(), ErrorRecord>;
    /// `[model thread]` Copies a row of logits; `out` is `[logits_width]`.
    fn read_logits(&mut self, row: u32, out: RSliceMut<'_, f32>) -> RResult<(), ErrorRecord>;
    /// `[model thread]` Shares the first `len` positions of `src` with the empty sequence `dst`. Takes no room in the KV pool,
    /// but may copy the state of a recurrent model. `len` is the length of `src` unless `fork_any_len` was granted.
    fn fork(&mut self, src: u32, dst: u32, len: u32) -> RResult<(), ErrorRecord>;
    /// `[model thread]` Drops the positions of `seq` from `len` on. At most `max_rollback` positions are dropped.
    fn truncate(&mut self, seq: u32, len: u32) -> RResult<(), ErrorRecord>;
    /// `[model thread]` Drops the sequence.
    fn free(&mut self, seq: u32);
    /// `[model thread]` How full the pool is, as a hint.
    fn kv_stats(&mut self) -> KvStats;
    /// `[model thread, between forwards]` Changes how many threads compute.
    #[sabi(last_prefix_field)]
    fn set_threads(&mut self, plan: ThreadPlan) -> RResult<(), ErrorRecord>;
}
