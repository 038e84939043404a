//! `[grammar]`: the limits of requests' grammars.

use std::{num::NonZeroU32, thread::available_parallelism, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{bounded::Bounded, by_name::by_name};

/// Most threads of one kind; machines have no use for more.
const MAX_THREADS: u32 = 256;

/// The limits of requests' grammars, and how they are used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grammar {
    pub json_whitespace: JsonWhitespace,
    pub compile_timeout: Duration,
    pub compile_threads: usize,
    pub mask_timeout: Duration,
    pub mask_threads: usize,
    pub cache_entries: usize,
    pub cache_bytes: usize,
    pub max_text_bytes: usize,
    pub max_symbols: usize,
    pub max_items: usize,
    pub max_compile_fuel: u64,
    pub max_mask_fuel: u64,
}

/// Whitespace between the parts of JSON that a schema describes.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JsonWhitespace {
    /// None.
    #[default]
    Compact,
    /// As much as the model likes, which may be all of its answer.
    Flexible,
}

/// The limits of requests' grammars, and how they are used.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawGrammar {
    /// Whitespace in JSON, unless the schema itself states it (`x-guidance`): `compact` is none, `flexible` is as much as
    /// the model likes.
    #[serde(deserialize_with = "by_name")]
    json_whitespace: JsonWhitespace,
    /// Milliseconds that compiling a grammar may take, first in the process that tries it out and then in the server. A
    /// request whose grammar takes longer is answered with 400.
    compile_timeout_ms: NonZeroU32,
    /// Grammars that are compiled at the same time.
    compile_threads: Bounded<1, MAX_THREADS>,
    /// Milliseconds that finding the next allowed tokens may take. A request that needs longer fails.
    mask_timeout_ms: NonZeroU32,
    /// Threads that find the next allowed tokens. 0: as many as the machine has.
    mask_threads: Bounded<0, MAX_THREADS>,
    /// Compiled grammars that each model keeps for later requests with the same grammar.
    cache_entries: Bounded<1, 65_536>,
    /// Most bytes of the compiled grammars that each model keeps, besides the latest one (256 MiB).
    cache_bytes: NonZeroU32,
    /// Longest text of a grammar in bytes (1 MiB): of a schema, or of all tools of a request together. A longer one is
    /// answered with 400.
    max_text_bytes: NonZeroU32,
    /// Most symbols in the rules of a grammar. A few megabytes of schema have half a million.
    max_symbols: NonZeroU32,
    /// Most items that the parser may make for one token.
    max_items: NonZeroU32,
    /// Most steps to build a grammar's regular expressions: about 50000 take a millisecond.
    max_compile_fuel: NonZeroU32,
    /// Most steps to build the part of the lexer that one token needs: about 14000 take a millisecond.
    max_mask_fuel: NonZeroU32,
}

const fn non_zero(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).unwrap()
}

const DEFAULT_COMPILE_TIMEOUT_MS: NonZeroU32 = non_zero(5000);
const DEFAULT_MASK_TIMEOUT_MS: NonZeroU32 = non_zero(500);
const DEFAULT_CACHE_BYTES: NonZeroU32 = non_zero(256 << 20);
const DEFAULT_MAX_TEXT_BYTES: NonZeroU32 = non_zero(1 << 20);
const DEFAULT_MAX_SYMBOLS: NonZeroU32 = non_zero(500_000);
const DEFAULT_MAX_ITEMS: NonZeroU32 = non_zero(50_000);
const DEFAULT_MAX_COMPILE_FUEL: NonZeroU32 = non_zero(1_000_000);
const DEFAULT_MAX_MASK_FUEL: NonZeroU32 = non_zero(200_000);

impl Default for RawGrammar {
    fn default() -> Self {
        Self {
            json_whitespace: JsonWhitespace::default(),
            compile_timeout_ms: DEFAULT_COMPILE_TIMEOUT_MS,
            compile_threads: Bounded::new(2),
            mask_timeout_ms: DEFAULT_MASK_TIMEOUT_MS,
            mask_threads: Bounded::new(0),
            cache_entries: Bounded::new(64),
            cache_bytes: DEFAULT_CACHE_BYTES,
            max_text_bytes: DEFAULT_MAX_TEXT_BYTES,
            max_symbols: DEFAULT_MAX_SYMBOLS,
            max_items: DEFAULT_MAX_ITEMS,
            max_compile_fuel: DEFAULT_MAX_COMPILE_FUEL,
            max_mask_fuel: DEFAULT_MAX_MASK_FUEL,
        }
    }
}

impl RawGrammar {
    pub fn resolve(self) -> Grammar {
        let milliseconds = |value: NonZeroU32| Duration::from_millis(value.get().into());
        Grammar {
            json_whitespace: self.json_whitespace,
            compile_timeout: milliseconds(self.compile_timeout_ms),
            compile_threads: self.compile_threads.get() as usize,
            mask_timeout: milliseconds(self.mask_timeout_ms),
            mask_threads: match self.mask_threads.get() {
                0 => available_parallelism().map_or(1, usize::from),
                threads => threads as usize,
            },
            cache_entries: self.cache_entries.get() as usize,
            cache_bytes: self.cache_bytes.get() as usize,
            max_text_bytes: self.max_text_bytes.get() as usize,
            max_symbols: self.max_symbols.get() as usize,
            max_items: self.max_items.get() as usize,
            max_compile_fuel: self.max_compile_fuel.get().into(),
            max_mask_fuel: self.max_mask_fuel.get().into(),
        }
    }
}
