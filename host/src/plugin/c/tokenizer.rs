//! The tokenizer of a model of a plugin in C.

use tenon_plugin_api::{
    EncodeFlags, Result, Tokenizer, Vocabulary,
    abi::c::{Token, TokenizerVtable, Tokens},
};

use super::{
    call::{SinkRecord, call, gave, sink, there},
    lend,
    object::Owned,
    read, records,
};

/// Encodes text into tokens, and says what each token is.
pub struct CTokenizer {
    object: Owned<TokenizerVtable>,
}

// SAFETY: the header says that every function of a tokenizer may be called on any thread.
unsafe impl Send for CTokenizer {}
// SAFETY: the header says that several threads may call them at once.
unsafe impl Sync for CTokenizer {}

impl CTokenizer {
    pub fn new(object: Owned<TokenizerVtable>) -> Self {
        Self { object }
    }
}

impl Tokenizer for CTokenizer {
    fn encode(&self, text: &str, flags: EncodeFlags) -> Result<Vec<u32>> {
        const NAME: &str = "tenon_tokenizer_vtable.encode";
        let encode = there(self.object.table.encode, NAME)?;
        let mut all = Ok(Vec::new());
        let mut take = |tokens: *const Tokens| {
            let Ok(all_so_far) = &mut all else {
                return;
            };
            // SAFETY: the plugin puts valid tokens.
            match unsafe {
                read::one(tokens, "tenon_tokens")
                    .and_then(|tokens| records::tokens(tokens, "tokens"))
            } {
                Ok(more) => all_so_far.extend(more),
                Err(what) => all = Err(what),
            }
        };
        let out = sink(&mut take);
        // SAFETY: the object lives, and so does everything lent.
        call(NAME, |error| unsafe {
            encode(self.object.this, lend::text(text), flags.0, out, error)
        })?;
        all.map_err(|what: String| gave(NAME, &what))
    }

    fn vocabulary(&self) -> Result<Vocabulary> {
        const NAME: &str = "tenon_tokenizer_vtable.vocabulary";
        let vocabulary = there(self.object.table.vocabulary, NAME)?;
        let (mut all, mut wrong) = (Vocabulary::default(), None);
        let mut bytes = 0;
        let mut take = |token: *const Token| {
            // SAFETY: the plugin puts valid tokens.
            match unsafe { read::grown(token).and_then(|token| token.plain()) } {
                Ok((own, kind)) if bytes + own.len() <= MAX_BYTES => {
                    bytes += own.len();
                    all.push(&own, kind);
                }
                Ok(_) => wrong = Some("more than 1 GiB of tokens".to_owned()),
                Err(what) => wrong = Some(what),
            }
        };
        let out = sink(&mut take);
        // SAFETY: the object lives, and so does everything lent.
        call(NAME, |error| unsafe {
            vocabulary(self.object.this, out, error)
        })?;
        match wrong {
            Some(what) => Err(gave(NAME, &what)),
            None => Ok(all),
        }
    }
}

/// More bytes than any vocabulary has. Offsets into them are 32-bit numbers.
const MAX_BYTES: usize = 1 << 30;
