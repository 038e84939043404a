//! The embedder of a model of a plugin in C.

use tenon_plugin_api::{
    Embedder, EmbedderInfo, Interrupt, Result,
    abi::c::{EmbedderVtable, Tokens},
};

use super::{
    call::{call, one, there},
    object::Owned,
};

/// Turns texts into vectors.
pub struct CEmbedder {
    object: Owned<EmbedderVtable>,
    info: EmbedderInfo,
}

// SAFETY: the header says that an embedder may be used on any thread, by one at a time.
unsafe impl Send for CEmbedder {}

impl CEmbedder {
    /// Asks the embedder for its facts, once.
    pub fn new(object: Owned<EmbedderVtable>) -> Result<Self> {
        const NAME: &str = "tenon_embedder_vtable.info";
        let info = there(object.table.info, NAME)?;
        // SAFETY: the object lives, and so do the sinks.
        let info = one(NAME, |out, error| unsafe { info(object.this, out, error) })?;
        Ok(Self { object, info })
    }
}

impl Embedder for CEmbedder {
    fn info(&self) -> EmbedderInfo {
        self.info.clone()
    }

    fn embed(&mut self, texts: &[&[u32]], interrupt: &Interrupt, out: &mut [f32]) -> Result<()> {
        const NAME: &str = "tenon_embedder_vtable.embed";
        let embed = there(self.object.table.embed, NAME)?;
        let texts: Vec<Tokens> = texts.iter().map(|text| lent(text)).collect();
        let (first, len) = (texts.as_ptr(), texts.len());
        // SAFETY: the object lives, and so does everything lent. `out` has room for a vector of each text.
        call(NAME, |error| unsafe {
            let out = out.as_mut_ptr();
            embed(self.object.this, first, len, interrupt.flag(), out, error)
        })
    }
}

fn lent(tokens: &[u32]) -> Tokens {
    Tokens {
        ptr: tokens.as_ptr(),
        len: tokens.len(),
    }
}
