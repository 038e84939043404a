//! `[grammar]`: what grammars of requests may cost.

use std::{num::NonZeroU32, thread::available_parallelism, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::by_name;

/// What grammars of requests may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grammar {
    pub json_whitespace: JsonWhitespace,
    pub compile_timeout: Duration,
    pub compile_threads: usize,
    pub mask_timeout: Duration,
    pub mask_threads: usize,
    pub cache_entries: usize,
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

/// What grammars of requests may cost, and how they are used.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawGrammar {
    /// Whitespace in JSON whose schema does not say itself what it wants (`x-guidance`): `compact` is none, `flexible` as
    /// much as the model likes.
    #[serde(deserialize_with = "by_name")]
    json_whitespace: JsonWhitespace,
    /// Milliseconds that compiling a grammar may take. Longer is answered with 400.
    compile_timeout_ms: NonZeroU32,
    /// Grammars that are compiled at the same time.
    compile_threads: NonZeroU32,
    /// Milliseconds that finding the next allowed tokens may take. A request that needs longer fails.
    mask_timeout_ms: NonZeroU32,
    /// Threads that find the next allowed tokens. 0: as many as the machine has.
    mask_threads: u32,
    /// Compiled grammars that each model keeps for the next request with the same.
    cache_entries: NonZeroU32,
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
const DEFAULT_COMPILE_THREADS: NonZeroU32 = non_zero(2);
const DEFAULT_MASK_TIMEOUT_MS: NonZeroU32 = non_zero(500);
const DEFAULT_CACHE_ENTRIES: NonZeroU32 = non_zero(64);
const DEFAULT_MAX_SYMBOLS: NonZeroU32 = non_zero(500_000);
const DEFAULT_MAX_ITEMS: NonZeroU32 = non_zero(50_000);
const DEFAULT_MAX_COMPILE_FUEL: NonZeroU32 = non_zero(1_000_000);
const DEFAULT_MAX_MASK_FUEL: NonZeroU32 = non_zero(200_000);

impl Default for RawGrammar {
    fn default() -> Self {
        Self {
            json_whitespace: JsonWhitespace::default(),
            compile_timeout_ms: DEFAULT_COMPILE_TIMEOUT_MS,
            compile_threads: DEFAULT_COMPILE_THREADS,
            mask_timeout_ms: DEFAULT_MASK_TIMEOUT_MS,
            mask_threads: 0,
            cache_entries: DEFAULT_CACHE_ENTRIES,
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
            mask_threads: match self.mask_threads {
                0 => available_parallelism().map_or(1, usize::from),
                threads => threads as usize,
            },
            cache_entries: self.cache_entries.get() as usize,
            max_symbols: self.max_symbols.get() as usize,
            max_items: self.max_items.get() as usize,
            max_compile_fuel: self.max_compile_fuel.get().into(),
            max_mask_fuel: self.max_mask_fuel.get().into(),
        }
    }
}
