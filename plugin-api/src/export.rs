//! Vtables over the safe traits. Every call through them catches panics and converts its arguments and results.

use std::path::Path;

use crate::{
    Backend, Batch, Code, CpuSampler, Embedder, EncodeFlags, Error, Host, Interrupt, KvStats,
    LoadArgs, Model, Progress, Result, SampleRequest, Sampled, Session, SessionArgs, SessionInfo,
    SpanOut, ThreadPlan, Tokenizer,
    abi::{
        AbiVersion, BackendBox, BackendObject, BackendObject_TO, DescriptorRecord, DeviceRecord,
        EMBEDDINGS, EmbedderInfoRecord, EmbedderObject, EmbedderObject_TO, ErrorRecord,
        EstimateRecord, Extension, HostBox, LoadArgsRecord, ModelBox, ModelInfoRecord, ModelObject,
        ModelObject_TO, PluginModule, PluginModule_Ref, PrefixTypeTrait, ProgressBox, ROption,
        RResult, RSlice, RSliceMut, RStr, RVec, SessionArgsRecord, SessionBox, SessionInfoRecord,
        SessionObject, SessionObject_TO, SupportRecord, TD_Opaque, TokenizerBox, TokenizerObject,
        TokenizerObject_TO, VocabularyRecord,
    },
    unwinding::{Exported, caught},
};

/// Exports a [`Backend`] as the plugin of this `cdylib`. Call it once per crate.
///
/// ```standalone_crate
/// use std::path::Path;
/// use tenon_plugin_api::*;
///
/// struct MyBackend;
///
/// impl Backend for MyBackend {
///     fn descriptor() -> Descriptor {
///         Descriptor::new("org.example.mine", "Mine", "0.1.0")
///     }
///     fn init(_host: Host, _options: &str) -> Result<Self> {
///         Ok(Self)
///     }
///     fn supports(&self, _path: &Path) -> Support {
///         Support::no("it loads nothing yet")
///     }
///     fn load(&self, _args: &LoadArgs, _progress: &Progress) -> Result<Box<dyn Model>> {
///         Err(Error::unsupported("loading yet"))
///     }
/// }
///
/// export_plugin!(MyBackend);
/// ```
///
/// [The guide](crate::guide) goes through a whole backend.
#[macro_export]
macro_rules! export_plugin {
    ($backend:ty) => {
        $crate::abi::export_module!($crate::module::<$backend>);
    };
}

/// The root module of a backend, for [`export_plugin!`](crate::export_plugin).
#[doc(hidden)]
pub fn module<B: Backend>() -> PluginModule_Ref {
    PluginModule {
        abi: abi_version,
        descriptor: descriptor::<B>,
        init: init::<B>,
    }
    .leak_into_prefix()
}

extern "C" fn abi_version() -> AbiVersion {
    AbiVersion::CURRENT
}

extern "C" fn descriptor<B: Backend>() -> DescriptorRecord {
    caught(|| Ok(B::descriptor())).unwrap_or_default().into()
}

extern "C" fn init<B: Backend>(
    host: HostBox,
    options: RStr<'_>,
) -> RResult<BackendBox, ErrorRecord> {
    let backend = caught(|| B::init(Host::new(host), options.as_str()));
    across(
        backend.map(|backend| {
            BackendObject_TO::from_value(Exported::new(Box::new(backend)), TD_Opaque)
        }),
    )
}

impl<B: Backend> BackendObject for Exported<B> {
    fn devices(&self) -> RResult<RVec<DeviceRecord>, ErrorRecord> {
        across(self.call(|backend| Ok(backend.devices()?.into_iter().map(Into::into).collect())))
    }

    fn supports(&self, path: RStr<'_>) -> RResult<SupportRecord, ErrorRecord> {
        across(self.call(|backend| Ok(backend.supports(Path::new(path.as_str())).into())))
    }

    fn estimate(
        &self,
        load: &LoadArgsRecord,
        session: &SessionArgsRecord,
    ) -> RResult<RVec<EstimateRecord>, ErrorRecord> {
        across(self.call(|backend| {
            let estimates = backend.estimate(&load_args(load)?, &session_args(session)?)?;
            Ok(estimates.into_iter().map(Into::into).collect())
        }))
    }

    fn load(&self, args: &LoadArgsRecord, progress: ProgressBox) -> RResult<ModelBox, ErrorRecord> {
        across(self.call(|backend| {
            let model = backend.load(&load_args(args)?, &Progress::new(progress))?;
            Ok(model_box(model))
        }))
    }

    fn quantize(
        &self,
        args: &LoadArgsRecord,
        output: RStr<'_>,
        progress: ProgressBox,
    ) -> RResult<ModelInfoRecord, ErrorRecord> {
        across(self.call(|backend| {
            let (output, progress) = (Path::new(output.as_str()), Progress::new(progress));
            Ok(backend
                .quantize(&load_args(args)?, output, &progress)?
                .into())
        }))
    }

    fn extension(&self, id: RStr<'_>) -> ROption<Extension> {
        optional(self.call(|backend| Ok(backend.extension(id.as_str()))))
    }
}

impl ModelObject for Exported<dyn Model> {
    fn info(&self) -> RResult<ModelInfoRecord, ErrorRecord> {
        across(self.call(|model| Ok(model.info().into())))
    }

    fn tokenizer(&self) -> RResult<TokenizerBox, ErrorRecord> {
        across(self.call(|model| {
            let tokenizer = Exported::new(model.tokenizer()?);
            Ok(TokenizerObject_TO::from_value(tokenizer, TD_Opaque))
        }))
    }

    fn session(&self, args: &SessionArgsRecord) -> RResult<SessionBox, ErrorRecord> {
        across(self.call(|model| {
            let sampler = CpuSampler::for_tokens(model.info().vocab_size);
            let session = model.session(&session_args(args)?)?;
            let session = ExportedSession::new(session, sampler)?;
            Ok(SessionObject_TO::from_value(session, TD_Opaque))
        }))
    }

    fn requantize(&self, level: RStr<'_>, progress: ProgressBox) -> RResult<ModelBox, ErrorRecord> {
        across(self.call(|model| {
            Ok(model_box(
                model.requantize(level.as_str(), &Progress::new(progress))?,
            ))
        }))
    }

    fn extension(&self, id: RStr<'_>) -> ROption<Extension> {
        optional(self.call(|model| {
            Ok(match id.as_str() {
                EMBEDDINGS => model.embedder().map(embeddings),
                id => model.extension(id),
            })
        }))
    }
}

impl EmbedderObject for Exported<dyn Embedder> {
    fn info(&self) -> RResult<EmbedderInfoRecord, ErrorRecord> {
        across(self.call(|embedder| Ok(embedder.info().into())))
    }

    fn embed(
        &mut self,
        texts: RSlice<'_, RSlice<'_, u32>>,
        interrupt: &Interrupt,
        mut out: RSliceMut<'_, f32>,
    ) -> RResult<(), ErrorRecord> {
        let texts: Vec<&[u32]> = texts.iter().map(RSlice::as_slice).collect();
        across(self.call_mut(|embedder| embedder.embed(&texts, interrupt, out.as_mut_slice())))
    }
}

impl TokenizerObject for Exported<dyn Tokenizer> {
    fn encode(&self, text: RStr<'_>, flags: EncodeFlags) -> RResult<RVec<u32>, ErrorRecord> {
        across(understood(flags.is_understood()).and_then(|()| {
            self.call(|tokenizer| Ok(tokenizer.encode(text.as_str(), flags)?.into()))
        }))
    }

    fn vocabulary(&self) -> RResult<VocabularyRecord, ErrorRecord> {
        across(self.call(|tokenizer| Ok(tokenizer.vocabulary()?.into())))
    }
}

/// A session with what the SDK adds to it: the granted sizes and the sampler's scratch space.
struct ExportedSession {
    session: Exported<dyn Session>,
    info: SessionInfo,
    sampler: CpuSampler,
}

impl ExportedSession {
    /// # Errors
    /// `PANICKED`. The session is dropped after that panic was caught: a panic in the drop would end the process before.
    fn new(session: Box<dyn Session>, sampler: CpuSampler) -> Result<Self> {
        let session = Exported::new(session);
        Ok(Self {
            info: session.call(|session| Ok(session.info()))?,
            session,
            sampler,
        })
    }
}

impl SessionObject for ExportedSession {
    fn info(&self) -> SessionInfoRecord {
        self.info.into()
    }

    fn forward(
        &mut self,
        batch: Batch<'_>,
        mut out: RSliceMut<'_, SpanOut>,
    ) -> RResult<(), ErrorRecord> {
        let understood = understood(batch.is_understood());
        let session = &mut self.session;
        across(
            understood.and_then(|()| {
                session.call_mut(|session| session.forward(&batch, out.as_mut_slice()))
            }),
        )
    }

    fn sample(
        &mut self,
        requests: RSlice<'_, SampleRequest<'_>>,
        mut out: RSliceMut<'_, Sampled<'_>>,
    ) -> RResult<(), ErrorRecord> {
        let understood = understood(requests.iter().all(SampleRequest::is_understood));
        let (session, sampler) = (&mut self.session, &mut self.sampler);
        across(understood.and_then(|()| {
            session.call_mut(|session| {
                session.sample(sampler, requests.as_slice(), out.as_mut_slice())
            })
        }))
    }

    fn read_logits(&mut self, row: u32, mut out: RSliceMut<'_, f32>) -> RResult<(), ErrorRecord> {
        across(
            self.session
                .call_mut(|session| copy_row(session.logits(row)?, out.as_mut_slice())),
        )
    }

    fn fork(&mut self, src: u32, dst: u32, len: u32) -> RResult<(), ErrorRecord> {
        across(self.session.call_mut(|session| session.fork(src, dst, len)))
    }

    fn truncate(&mut self, seq: u32, len: u32) -> RResult<(), ErrorRecord> {
        across(self.session.call_mut(|session| session.truncate(seq, len)))
    }

    fn free(&mut self, seq: u32) {
        // A panic marks the session, so that the next call reports it.
        let _ = self.session.call_mut(|session| {
            session.free(seq);
            Ok(())
        });
    }

    fn kv_stats(&mut self) -> KvStats {
        self.session
            .call_mut(|session| Ok(session.kv_stats()))
            .unwrap_or_default()
    }

    fn set_threads(&mut self, plan: ThreadPlan) -> RResult<(), ErrorRecord> {
        let understood = understood(plan.is_understood());
        let session = &mut self.session;
        across(understood.and_then(|()| session.call_mut(|session| session.set_threads(plan))))
    }
}

fn embeddings(embedder: Box<dyn Embedder>) -> Extension {
    Extension::new(EmbedderObject_TO::from_value(
        Exported::new(embedder),
        TD_Opaque,
    ))
}

/// The object of a model, for hosts that have a model of their own.
#[doc(hidden)]
pub fn model_box(model: Box<dyn Model>) -> ModelBox {
    ModelObject_TO::from_value(Exported::new(model), TD_Opaque)
}

fn copy_row(row: &[f32], out: &mut [f32]) -> Result<()> {
    if row.len() != out.len() {
        return Err(Error::invalid(format!(
            "a row has {} logits, but the buffer has room for {}",
            row.len(),
            out.len()
        )));
    }
    out.copy_from_slice(row);
    Ok(())
}

fn load_args(record: &LoadArgsRecord) -> Result<LoadArgs> {
    let args = LoadArgs::from(record);
    args.meta.check().map(|()| args)
}

fn session_args(record: &SessionArgsRecord) -> Result<SessionArgs> {
    let args = SessionArgs::from(record);
    args.meta.check().map(|()| args)
}

/// Refuses a call if its arguments have parts that this version does not know.
fn understood(all: bool) -> Result<()> {
    all.then_some(()).ok_or_else(|| {
        Error::new(
            Code::UNSUPPORTED,
            "the host asks for something that this plugin does not know: build it with a newer tenon-plugin-api",
        )
    })
}

fn across<T>(result: Result<T>) -> RResult<T, ErrorRecord> {
    result.map_err(ErrorRecord::from).into()
}

/// A panic while looking an extension up counts as a missing extension. The next call reports the panic.
fn optional(extension: Result<Option<Extension>>) -> ROption<Extension> {
    extension.ok().flatten().into()
}

#[cfg(test)]
mod tests;
