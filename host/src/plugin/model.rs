//! A loaded model and its tokenizer, wrapped as ordinary Rust. What the plugin reports is checked here, once.

use std::sync::Arc;

use tenon_plugin_api::{
    EncodeFlags, ModelInfo, Result, SamplingDefaults, SessionArgs, Vocabulary,
    abi::{EMBEDDINGS, EmbedderBox, ModelBox, TokenizerBox},
};

use super::{
    Current, Embedder, Session,
    fault::plugin_fault,
    host_services::{ReportProgress, progress_box},
};

/// The model that is loaded now. None while it is loaded again, and after it broke.
pub type CurrentModel = Current<Option<Arc<Model>>>;

/// A loaded model. Sessions and tokenizers may outlive it.
pub struct Model {
    object: ModelBox,
    info: ModelInfo,
}

impl Model {
    pub(super) fn new(object: ModelBox) -> Result<Self> {
        let info = ModelInfo::from(object.info().into_result()?);
        check_info(&info)?;
        Ok(Self { object, info })
    }

    /// Facts about the model. All token ids in them are below `vocab_size`.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Replaces the model's recommended sampling parameters by those that `sampling` sets.
    pub fn recommend(&mut self, sampling: SamplingDefaults) {
        self.info.sampling = sampling.or(self.info.sampling);
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Ok(Tokenizer {
            object: self.object.tokenizer().into_result()?,
            vocab_size: self.info.vocab_size,
        })
    }

    /// Makes a session: a KV pool for many sequences. It stays on the calling thread, which is the model thread.
    pub fn session(&self, args: &SessionArgs) -> Result<Session> {
        let object = self.object.session(&args.clone().into()).into_result()?;
        Session::new(object, &self.info)
    }

    /// The model's embedder. None if the model makes no embeddings. It may outlive the model.
    pub fn embedder(&self) -> Result<Option<Embedder>> {
        let extension = self.object.extension(EMBEDDINGS.into()).into_option();
        let embedder = extension.map(|extension| Embedder::new(extension.open::<EmbedderBox>()?));
        embedder.transpose()
    }

    /// Makes a new model at another level. This one stays as it is.
    pub fn requantize(&self, level: &str, progress: ReportProgress) -> Result<Model> {
        let model = self.object.requantize(level.into(), progress_box(progress));
        Self::new(model.into_result()?)
    }
}

/// Encodes text into token ids. Usable on any thread.
pub struct Tokenizer {
    object: TokenizerBox,
    vocab_size: u32,
}

impl Tokenizer {
    /// Token ids of a text, all below `vocab_size`.
    pub fn encode(&self, text: &str, flags: EncodeFlags) -> Result<Vec<u32>> {
        let tokens = self.object.encode(text.into(), flags).into_result()?;
        match tokens.iter().find(|&&token| token >= self.vocab_size) {
            Some(token) => Err(plugin_fault(&format!(
                "encoded a text to the unknown token {token}"
            ))),
            None => Ok(tokens.into()),
        }
    }

    /// Bytes and kind of every token, `vocab_size` of them.
    pub fn vocabulary(&self) -> Result<Vocabulary> {
        let vocabulary = Vocabulary::try_from(self.object.vocabulary().into_result()?)?;
        vocabulary.meta().check()?;
        if vocabulary.len() != self.vocab_size as usize {
            let (len, vocab_size) = (vocabulary.len(), self.vocab_size);
            return Err(plugin_fault(&format!(
                "listed {len} tokens for a model of {vocab_size}"
            )));
        }
        Ok(vocabulary)
    }
}

/// Limit of a row of logits, many times that of any real model.
const MAX_LOGITS: u32 = 16 << 20;

fn check_info(info: &ModelInfo) -> Result<()> {
    info.meta.check()?;
    let wrong = |what: String| Err(plugin_fault(&format!("said of the model that {what}")));
    // u32::MAX is reserved for a token that is still on the device.
    if info.vocab_size == 0 || info.vocab_size == u32::MAX {
        return wrong(format!("it has {} tokens", info.vocab_size));
    }
    if info.logits_width < info.vocab_size {
        let (width, vocab_size) = (info.logits_width, info.vocab_size);
        return wrong(format!(
            "its rows have {width} logits for {vocab_size} tokens"
        ));
    }
    if info.logits_width > MAX_LOGITS {
        return wrong(format!("its rows have {} logits", info.logits_width));
    }
    if info.context_length == 0 {
        return wrong("it has no context".into());
    }
    let mut special = info.bos.iter().chain(&info.eos);
    match special.find(|&&token| token >= info.vocab_size) {
        Some(token) => wrong(format!("its BOS or EOS is the unknown token {token}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tenon_plugin_api::Code;

    use super::*;

    fn check(change: impl FnOnce(&mut ModelInfo), expected: &str) {
        let mut info = ModelInfo::new("test", 64, 260);
        info.logits_width = 288;
        info.bos = Some(256);
        info.eos = vec![257, 258];
        assert_eq!(check_info(&info), Ok(()));
        change(&mut info);
        let error = check_info(&info).unwrap_err();
        assert_eq!(error.code, Code::INTERNAL);
        assert!(error.message.contains(expected), "{error}");
    }

    #[test]
    fn facts_that_the_host_would_trip_over_are_refused() {
        check(|info| info.vocab_size = 0, "it has 0 tokens");
        check(|info| info.logits_width = 259, "259 logits for 260 tokens");
        check(|info| info.logits_width = u32::MAX, "4294967295 logits");
        check(|info| info.context_length = 0, "no context");
        check(|info| info.bos = Some(260), "unknown token 260");
        check(|info| info.eos.push(300), "unknown token 300");
    }
}
