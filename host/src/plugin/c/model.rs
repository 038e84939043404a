//! A model of a plugin in C.

use std::sync::{Mutex, PoisonError};

use tenon_plugin_api::{
    Code, Embedder, Error, Model, ModelInfo, Progress, Result, Session, SessionArgs, Tokenizer,
    abi::c::ModelVtable,
};

use super::{
    call::{one, there},
    embedder::CEmbedder,
    lend,
    object::Owned,
    services::{Report, progress},
    session::CSession,
    tokenizer::CTokenizer,
};

/// A loaded model.
pub struct CModel {
    object: Owned<ModelVtable>,
    info: ModelInfo,
    /// The embedder, until the host asks for it.
    embedder: Mutex<Option<CEmbedder>>,
}

// SAFETY: the header says that the functions of a model may be called on any thread, except `session`, which the host calls on
// the model thread.
unsafe impl Send for CModel {}
// SAFETY: the header says that several threads may call them at once.
unsafe impl Sync for CModel {}

impl CModel {
    /// Asks the model for its facts and its embedder, once.
    pub fn new(object: Owned<ModelVtable>) -> Result<Self> {
        const NAME: &str = "tenon_model_vtable.info";
        let info = there(object.table.info, NAME)?;
        // SAFETY: the object lives, and so do the sinks.
        let info = one(NAME, |out, error| unsafe { info(object.this, out, error) })?;
        let embedder = Mutex::new(embedder(&object)?);
        Ok(Self {
            object,
            info,
            embedder,
        })
    }
}

impl Model for CModel {
    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn tokenizer(&self) -> Result<Box<dyn Tokenizer>> {
        const NAME: &str = "tenon_model_vtable.tokenizer";
        let tokenizer = there(self.object.table.tokenizer, NAME)?;
        // SAFETY: the object lives, and so does everything lent.
        let made = Owned::made(NAME, |made, error| unsafe {
            tokenizer(self.object.this, made, error)
        });
        Ok(Box::new(CTokenizer::new(made?)))
    }

    fn session(&self, args: &SessionArgs) -> Result<Box<dyn Session>> {
        const NAME: &str = "tenon_model_vtable.session";
        let Some(session) = self.object.table.session else {
            return Err(Error::unsupported("generating text"));
        };
        let made = lend::with_session_args(args, |lent| {
            // SAFETY: the object lives, and so does everything lent.
            Owned::made(NAME, |made, error| unsafe {
                session(self.object.this, lent, made, error)
            })
        });
        let session = CSession::new(made?, self.info.logits_width, args.interrupt.clone())?;
        Ok(Box::new(session))
    }

    fn requantize(&self, level: &str, sdk: &Progress) -> Result<Box<dyn Model>> {
        let Some(requantize) = self.object.table.requantize else {
            return Err(Error::unsupported("requantizing"));
        };
        let report = |fraction: f32, what: &str| {
            let known = (fraction >= 0.0).then_some(fraction);
            sdk.report(known, what).is_ok()
        };
        let report: &Report<'_> = &report;
        // SAFETY: the object lives, and so does everything lent.
        let made = Owned::made("tenon_model_vtable.requantize", |made, error| unsafe {
            let level = lend::text(level);
            requantize(self.object.this, level, progress(&report), made, error)
        });
        Ok(Box::new(CModel::new(made?)?))
    }

    fn embedder(&self) -> Option<Box<dyn Embedder>> {
        let mut embedder = self.embedder.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Box::new(embedder.take()?))
    }
}

/// Makes the model's embedder. None if it makes no embeddings.
fn embedder(model: &Owned<ModelVtable>) -> Result<Option<CEmbedder>> {
    let Some(embedder) = model.table.embedder else {
        return Ok(None);
    };
    // SAFETY: the object lives, and so does everything lent.
    let made = Owned::made("tenon_model_vtable.embedder", |made, error| unsafe {
        embedder(model.this, made, error)
    });
    match made {
        Err(error) if error.code == Code::UNSUPPORTED => Ok(None),
        made => CEmbedder::new(made?).map(Some),
    }
}
