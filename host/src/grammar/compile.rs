//! From a request's grammar to one that sequences can follow.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use llguidance::{
    ParserFactory, TokenParser,
    api::TopLevelGrammar,
    earley::{CGrammar, CSymIdx},
    toktrie::InferenceCapabilities,
};
use serde_json::Value;
use toktrie::TokEnv;

use super::{
    GrammarError, GrammarMetrics, Matcher, Workers,
    cache::Shared,
    schema::prepared,
    text::{Piece, lark},
};
use crate::config::{self, JsonWhitespace};

/// What an answer must look like.
#[derive(Clone, Debug, PartialEq)]
pub enum Grammar {
    /// All of it matches this regular expression.
    Regex(String),
    /// A context-free grammar in llguidance's variant of Lark.
    Lark(String),
    /// JSON that this schema validates.
    JsonSchema(Value),
    /// llguidance's own format: `{"grammars": [{"json_schema": …}, {"lark_grammar": …}]}`, or Lark.
    LlGuidance(String),
    /// This sequence of pieces.
    Pieces(Vec<Piece>),
}

/// A grammar that sequences can follow, each with a [`Matcher`] of its own.
pub struct CompiledGrammar {
    /// At the beginning, with its lexer as far as the first mask needs it. Locked while it is copied.
    prototype: Mutex<llguidance::Matcher>,
    /// What it has in common with the model's other grammars.
    pub(super) shared: Arc<Shared>,
}

/// Compiles the grammars of one model.
pub struct Compiler {
    factory: ParserFactory,
    whitespace: JsonWhitespace,
}

impl Compiler {
    pub fn new(environment: &TokEnv, config: &config::Grammar) -> anyhow::Result<Self> {
        let capabilities = InferenceCapabilities {
            ff_tokens: environment.tokenize_is_canonical(),
            ..InferenceCapabilities::default()
        };
        let slices = llguidance::earley::SlicedBiasComputer::json_slices();
        let mut factory = ParserFactory::new(environment, capabilities, &slices)?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        limits.initial_lexer_fuel = config.max_compile_fuel;
        limits.step_lexer_fuel = config.max_mask_fuel;
        limits.max_grammar_size = config.max_symbols;
        limits.step_max_items = config.max_items;
        Ok(Self {
            factory,
            whitespace: config.json_whitespace,
        })
    }

    /// Compiles, and finds out whether any text fits at all. Takes from a millisecond to seconds.
    pub fn compile(
        &self,
        grammar: &Grammar,
        shared: Arc<Shared>,
    ) -> Result<CompiledGrammar, GrammarError> {
        let parser = self
            .source(grammar)
            .and_then(|source| self.factory.create_parser(source))
            .map_err(|error| invalid(&format!("{error:#}")))?;
        let prototype = Mutex::new(begin(parser)?);
        Ok(CompiledGrammar { prototype, shared })
    }

    fn source(&self, grammar: &Grammar) -> anyhow::Result<TopLevelGrammar> {
        match grammar {
            Grammar::Regex(regex) => Ok(TopLevelGrammar::from_regex(regex)),
            Grammar::Lark(text) => Ok(TopLevelGrammar::from_lark(text.clone())),
            Grammar::JsonSchema(schema) => {
                let schema = prepared(schema.clone(), self.whitespace);
                Ok(TopLevelGrammar::from_json_schema(schema))
            }
            Grammar::LlGuidance(text) => {
                let mut source = TopLevelGrammar::from_lark_or_grammar_list(text)?;
                for part in &mut source.grammars {
                    let schema = part.json_schema.take();
                    part.json_schema = schema.map(|schema| prepared(schema, self.whitespace));
                }
                Ok(source)
            }
            Grammar::Pieces(pieces) => {
                let lark = lark(pieces, |schema| prepared(schema, self.whitespace));
                Ok(TopLevelGrammar::from_lark(lark))
            }
        }
    }
}

impl CompiledGrammar {
    /// A matcher at the beginning. Copies what is known of the lexer, which takes a while for a large grammar.
    pub fn matcher(&self) -> Matcher {
        let prototype = self.prototype.lock();
        let prototype = prototype.unwrap_or_else(PoisonError::into_inner);
        let matcher = prototype.deep_clone().into_cancellable();
        Matcher::new(matcher, self.shared.mask_words)
    }

    /// Words of a mask: `ceil(logits_width / 32)`.
    pub fn mask_words(&self) -> usize {
        self.shared.mask_words
    }

    /// How long finding one mask may take.
    pub fn mask_timeout(&self) -> Duration {
        self.shared.mask_timeout
    }

    /// Where its sequences are matched.
    pub fn workers(&self) -> &Workers {
        &self.shared.workers
    }

    /// Counters of all grammars of the model.
    pub fn metrics(&self) -> &GrammarMetrics {
        &self.shared.metrics
    }
}

impl std::fmt::Debug for CompiledGrammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompiledGrammar").finish_non_exhaustive()
    }
}

/// Computes the first mask, which shows whether any text fits.
fn begin(parser: TokenParser) -> Result<llguidance::Matcher, GrammarError> {
    if !can_end(parser.parser.grammar()) {
        let message = "no text is long enough for it: some part of it always needs another one";
        return Err(GrammarError::Invalid(message.into()));
    }
    let eos = parser.token_env.tok_trie().eos_token_set();
    let mut matcher = llguidance::Matcher::new(Ok(parser));
    match matcher.compute_mask() {
        Ok(mut mask) => {
            mask.sub(&eos);
            match mask.is_zero() {
                true => Err(GrammarError::Invalid("only the empty text fits it".into())),
                false => Ok(matcher),
            }
        }
        Err(error) if error.to_string().starts_with("NoExtension") => {
            Err(GrammarError::Invalid("no text fits it".into()))
        }
        Err(error) => Err(invalid(&error.to_string())),
    }
}

/// Whether the start symbol derives a finite text: all that a rule of it needs does.
fn can_end(grammar: &CGrammar) -> bool {
    let symbols = reachable(grammar);
    let mut ending = HashSet::new();
    loop {
        let before = ending.len();
        for &symbol in &symbols {
            let data = grammar.sym_data(symbol);
            let ends = data.rules.iter().any(|&rule| {
                let (parts, ..) = grammar.rule_rhs(rule);
                parts.iter().all(|part| ending.contains(part))
            });
            if ends || data.is_terminal || data.is_nullable {
                ending.insert(symbol);
            }
        }
        if ending.len() == before {
            return ending.contains(&grammar.start());
        }
    }
}

/// Symbols that the start symbol may lead to, those farthest from it first.
fn reachable(grammar: &CGrammar) -> Vec<CSymIdx> {
    let mut found = vec![grammar.start()];
    let mut seen = HashSet::from([grammar.start()]);
    let mut next = 0;
    while let Some(&symbol) = found.get(next) {
        next += 1;
        for &rule in grammar.rules_of(symbol) {
            let (parts, ..) = grammar.rule_rhs(rule);
            found.extend(parts.iter().filter(|part| seen.insert(**part)));
        }
    }
    found.reverse();
    found
}

/// llguidance's reason and place, without what only its developers can use.
fn invalid(message: &str) -> GrammarError {
    let end = ["\n<non-verbose/>", "\n<backtrace>", "\n<state>"];
    let ends = end.iter().filter_map(|end| message.find(end));
    let message = message[..ends.min().unwrap_or(message.len())].trim_end();
    let unsupported = ["Unimplemented keys", "Unknown format", "not supported"];
    if unsupported.iter().any(|what| message.contains(what)) {
        let hint = "leave that out, or put \"x-guidance\": {\"lenient\": true} into the schema to have it ignored";
        return GrammarError::Invalid(format!("{message}: {hint}"));
    }
    GrammarError::Invalid(message.to_owned())
}
