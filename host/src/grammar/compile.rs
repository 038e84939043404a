//! Compiles a request's grammar into one that sequences can follow.

use std::{
    collections::HashSet,
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
};

use llguidance::{
    CancellationHandle, ParserFactory, TokenParser,
    api::{ParserLimits, StopReason, TopLevelGrammar},
    earley::{CGrammar, CSymIdx},
    panic_utils::catch_unwind,
    toktrie::InferenceCapabilities,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use toktrie::TokEnv;

use super::{
    CompiledGrammar, GrammarError,
    compiled::GrammarRuntime,
    gbnf, json_text,
    matcher::Prototype,
    messages::{invalid, left_out},
    schema::prepared,
    text::{Pattern, lark},
};
use crate::config::{self, JsonWhitespace};

/// A grammar that an answer must match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Grammar {
    /// The whole answer matches this regular expression.
    Regex(String),
    /// A context-free grammar in llguidance's variant of Lark.
    Lark(String),
    /// A context-free grammar in GBNF, the notation of llama.cpp.
    Gbnf(String),
    /// JSON that this schema validates.
    JsonSchema(#[serde(with = "json_text")] Value),
    /// llguidance's own format: `{"grammars": [{"json_schema": …}, {"lark_grammar": …}]}`, or Lark.
    LlGuidance(String),
    /// The answer consists of texts that match these patterns, in order.
    Patterns(Vec<Pattern>),
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
        let mut factory = ParserFactory::new(environment, capabilities, &slices())?;
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

    /// Compiles a source and checks that some text fits it. Takes from a millisecond to seconds, and may never end, so
    /// a trial (`trial.rs`) must come first. The trial also tells the size in `bytes`. `stop` receives a handle that
    /// cancels the last part, the first mask.
    pub fn compile(
        &self,
        source: TopLevelGrammar,
        runtime: Arc<GrammarRuntime>,
        bytes: usize,
        stop: &OnceLock<CancellationHandle>,
    ) -> Result<CompiledGrammar, GrammarError> {
        let parser = self.factory.create_parser(source);
        let mut parser = parser.map_err(|error| invalid(&format!("{error:#}")))?;
        let warnings = parser.grammar_warnings();
        let unenforced = warnings.iter().flat_map(|warning| left_out(warning));
        Ok(CompiledGrammar {
            unenforced: unenforced.collect(),
            bytes,
            prototype: Arc::new(Prototype::new(begin(parser, stop)?, runtime.mask_words)),
            runtime,
        })
    }

    /// The limits that llguidance applies to every grammar.
    pub fn limits(&self) -> &ParserLimits {
        self.factory.limits()
    }

    /// Converts a grammar into llguidance's form. Takes a while if the text is long.
    pub fn source(&self, grammar: &Grammar) -> Result<TopLevelGrammar, GrammarError> {
        self.unchecked_source(grammar)
            .map_err(|error| invalid(&format!("{error:#}")))
    }

    fn unchecked_source(&self, grammar: &Grammar) -> anyhow::Result<TopLevelGrammar> {
        match grammar {
            Grammar::Regex(regex) => Ok(TopLevelGrammar::from_regex(regex)),
            Grammar::Lark(text) => Ok(TopLevelGrammar::from_lark(text.clone())),
            Grammar::Gbnf(text) => {
                let lark = gbnf::lark(text).map_err(anyhow::Error::msg)?;
                Ok(TopLevelGrammar::from_lark(lark))
            }
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
            Grammar::Patterns(patterns) => {
                let lark = lark(patterns, |schema| prepared(schema, self.whitespace));
                Ok(TopLevelGrammar::from_lark(
                    lark.map_err(anyhow::Error::msg)?,
                ))
            }
        }
    }
}

/// Regular expressions of texts that many grammars allow within strings. The part of a mask that allows these texts is
/// computed once.
pub fn slices() -> Vec<String> {
    llguidance::earley::SlicedBiasComputer::json_slices()
}

/// Computes the first mask of a parser, which shows whether any text fits, and makes the parser a matcher. `stop`
/// receives a handle that cancels this.
pub fn begin(
    mut parser: TokenParser,
    stop: &OnceLock<CancellationHandle>,
) -> Result<llguidance::Matcher, GrammarError> {
    if !can_end(parser.parser.grammar()) {
        let message = "no text is long enough for it: some part of it always needs another one";
        return Err(GrammarError::Invalid(message.into()));
    }
    // Nothing else sets `stop`, so this cannot fail.
    let _ = stop.set(parser.enable_cancellation());
    parser.start_without_prompt();
    // A matcher would compute the mask too, but its errors do not have the parser's stop reason.
    match catch_unwind(AssertUnwindSafe(|| parser.compute_mask())) {
        Ok(mut mask) => {
            mask.sub(&parser.token_env.tok_trie().eos_token_set());
            match mask.is_zero() {
                true => Err(GrammarError::Invalid("only the empty text fits it".into())),
                false => Ok(llguidance::Matcher::new(Ok(parser))),
            }
        }
        Err(_) if parser.stop_reason() == StopReason::NoExtensionBias => {
            Err(GrammarError::Invalid("no text fits it".into()))
        }
        Err(error) => Err(invalid(&error.to_string())),
    }
}

/// Whether the start symbol derives a finite text. A symbol does if one of its rules has only parts that do.
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

/// The symbols that can be reached from the start symbol, the farthest ones first.
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
