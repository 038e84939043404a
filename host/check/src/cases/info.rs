//! Facts about the model.

use tenon_plugin_api::levels;

use crate::{
    finding::{Checked, Finding, ensure},
    subject::Subject,
};

pub fn consistent(subject: &Subject) -> Checked {
    let backend = subject.backend()?;
    let model = subject.load(&backend)?;
    let info = model.info();
    let known = |level: &&String| levels::find(level).is_none();
    let unknown = info.requantize_levels.iter().find(known);
    ensure(unknown.is_none(), || {
        format!("the level {unknown:?} has no name in `levels`: use one of those names")
    })?;
    if info.eos.is_empty() {
        return Err(Finding::warning(
            "it has no end of generation, so answers go on until their limit: fill `ModelInfo::eos`",
        ));
    }
    Ok(format!(
        "{}: {} tokens, {} positions",
        info.architecture, info.vocab_size, info.context_length
    ))
}
