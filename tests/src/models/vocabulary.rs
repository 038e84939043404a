//! Small vocabularies that are learned from the [texts](super::texts).
//!
//! They are learned from whole lines, so some tokens begin in one word and end in another. These tokens reveal a
//! pre-tokenizer that cuts in the wrong place.

use candle_core::quantized::gguf_file::Value;
use serde_json::{Value as Json, json};
use tokenizers::{
    PreTokenizerWrapper, Tokenizer,
    models::{
        TrainerWrapper,
        bpe::{BPE, BpeTrainerBuilder},
    },
    normalizers::Replace,
    pre_tokenizers::byte_level::ByteLevel,
};

use super::texts::{CODE, LANGUAGES, TEXTS};

/// Tokens, with what is needed to encode text into them.
#[derive(Clone)]
pub struct TestVocabulary {
    kind: Kind,
    tokens: Vec<Token>,
    /// Merges, ordered by rank.
    merges: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// GPT-2's scheme.
    ByteLevel,
    /// SentencePiece's scheme, with or without a space before the text.
    SentencePiece { space_prefix: bool },
}

#[derive(Clone)]
struct Token {
    text: String,
    /// GGUF's number of the kind.
    kind: i32,
}

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// The first tokens of byte-level vocabularies. The others begin with the three tokens that GGUF takes for granted.
const CHAT_TOKENS: [(&str, i32); 5] = [
    ("<|endoftext|>", CONTROL),
    ("<|im_start|>", CONTROL),
    ("<|im_end|>", CONTROL),
    ("<tool_call>", USER_DEFINED),
    ("</tool_call>", USER_DEFINED),
];
const PIECE_TOKENS: [(&str, i32); 3] = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)];

impl TestVocabulary {
    /// A byte-level vocabulary like those of Llama 3, Qwen2 and SmolLM2. Its end of turn is `<|im_end|>`.
    pub fn byte_level(size: usize) -> Self {
        let mut tokenizer = Tokenizer::new(BPE::default());
        let whole_lines = ByteLevel::new(false, false, false);
        tokenizer.with_pre_tokenizer(Some(PreTokenizerWrapper::from(whole_lines)));
        let alphabet = ByteLevel::alphabet().into_iter().collect();
        let trainer = BpeTrainerBuilder::new().initial_alphabet(alphabet);
        let learned = learn(tokenizer, trainer, size - CHAT_TOKENS.len());
        Self::new(
            Kind::ByteLevel,
            CHAT_TOKENS.map(Token::from).into(),
            learned,
        )
    }

    /// A SentencePiece vocabulary like those of Llama 2 (with a space before the text) and Gemma (without one).
    pub fn sentence_piece(size: usize, space_prefix: bool) -> Self {
        let mut tokens: Vec<Token> = PIECE_TOKENS.map(Token::from).into();
        let bytes = (0..256).map(|byte| Token::new(&format!("<0x{byte:02X}>"), BYTE));
        tokens.extend(bytes);
        tokens.extend(CHAT_TOKENS.map(Token::from));
        tokens.extend(["\n\n", "\n\n\n"].map(|text| Token::new(text, USER_DEFINED)));
        let mut tokenizer = Tokenizer::new(BPE::default());
        let visible = Replace::new(" ", "▁").expect("a normalizer");
        tokenizer
            .with_normalizer(Some(visible))
            .expect("a normalizer");
        let trainer = BpeTrainerBuilder::new().limit_alphabet(150);
        let learned = learn(tokenizer, trainer, size - tokens.len());
        Self::new(Kind::SentencePiece { space_prefix }, tokens, learned)
    }

    /// Puts the learned tokens behind the given ones, except those that are given already.
    fn new(kind: Kind, mut tokens: Vec<Token>, mut learned: Learned) -> Self {
        let given = |text: &str| tokens.iter().any(|token| token.text == text);
        learned
            .merges
            .retain(|merge| !given(&merge.replacen(' ', "", 1)));
        learned.tokens.retain(|text| !given(text));
        tokens.extend(learned.tokens.iter().map(|text| Token::new(text, NORMAL)));
        Self {
            kind,
            tokens,
            merges: learned.merges,
        }
    }

    /// The same vocabulary, padded with unused tokens to this size.
    pub fn padded(mut self, size: usize) -> Self {
        for id in self.tokens.len()..size {
            self.tokens.push(Token::new(&format!("[PAD{id}]"), UNUSED));
        }
        self
    }

    pub fn size(&self) -> usize {
        self.tokens.len()
    }

    pub fn bos(&self) -> u32 {
        match self.kind {
            Kind::ByteLevel => 0,
            Kind::SentencePiece { .. } => 1,
        }
    }

    pub fn eos(&self) -> u32 {
        2
    }

    /// The GGUF keys `tokenizer.ggml.*`.
    pub fn gguf(&self, pre: &str) -> Vec<(String, Value)> {
        let text = |text: &str| Value::String(text.to_owned());
        let texts = self.tokens.iter().map(|token| text(&token.text));
        let kinds = self.tokens.iter().map(|token| Value::I32(token.kind));
        let mut pairs = vec![
            ("tokens", Value::Array(texts.collect())),
            ("token_type", Value::Array(kinds.collect())),
            ("bos_token_id", Value::U32(self.bos())),
            ("eos_token_id", Value::U32(self.eos())),
        ];
        match self.kind {
            Kind::ByteLevel => {
                let merges = self.merges.iter().map(|merge| text(merge)).collect();
                pairs.push(("model", text("gpt2")));
                pairs.push(("pre", text(pre)));
                pairs.push(("merges", Value::Array(merges)));
            }
            Kind::SentencePiece { space_prefix } => {
                // The earlier a token was learned, the better its score.
                let scores = (0..self.tokens.len()).map(|id| Value::F32(-(id as f32)));
                pairs.push(("model", text("llama")));
                pairs.push(("scores", Value::Array(scores.collect())));
                pairs.push(("unknown_token_id", Value::U32(0)));
                pairs.push(("add_space_prefix", Value::Bool(space_prefix)));
            }
        }
        let named = |(name, value)| (format!("tokenizer.ggml.{name}"), value);
        pairs.into_iter().map(named).collect()
    }

    /// tokenizer.json.
    pub fn tokenizer_json(&self) -> Json {
        let (spaces, bytes) = match self.kind {
            Kind::ByteLevel => (
                Json::Null,
                json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}),
            ),
            Kind::SentencePiece { space_prefix } => {
                let replace =
                    json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
                let prepend = json!({"type": "Prepend", "prepend": "▁"});
                let steps = match space_prefix {
                    true => vec![prepend, replace],
                    false => vec![replace],
                };
                (
                    json!({"type": "Sequence", "normalizers": steps}),
                    Json::Null,
                )
            }
        };
        let pieces = bytes.is_null();
        json!({
            "version": "1.0",
            "added_tokens": self.added_tokens(),
            "normalizer": spaces,
            "pre_tokenizer": bytes,
            "post_processor": null,
            "decoder": bytes,
            "model": {
                "type": "BPE",
                "unk_token": pieces.then_some("<unk>"),
                "byte_fallback": pieces,
                "vocab": self.ids(),
                "merges": self.merges,
            },
        })
    }

    /// tokenizer_config.json.
    pub fn tokenizer_config(&self) -> Json {
        let text = |id: u32| &self.tokens[id as usize].text;
        json!({
            "bos_token": text(self.bos()),
            "eos_token": text(self.eos()),
            "add_bos_token": self.kind != Kind::ByteLevel,
        })
    }

    fn ids(&self) -> serde_json::Map<String, Json> {
        let ids = self.tokens.iter().zip(0..);
        ids.map(|(token, id)| (token.text.clone(), json!(id)))
            .collect()
    }

    fn added_tokens(&self) -> Vec<Json> {
        let added = |(token, id): (&Token, u32)| {
            let special = [CONTROL, UNKNOWN].contains(&token.kind);
            let is_added = special || token.kind == USER_DEFINED;
            is_added.then(|| {
                json!({"id": id, "content": token.text, "special": special, "normalized": false,
                       "single_word": false, "lstrip": false, "rstrip": false})
            })
        };
        self.tokens.iter().zip(0..).filter_map(added).collect()
    }
}

impl Token {
    fn new(text: &str, kind: i32) -> Self {
        Self {
            text: text.to_owned(),
            kind,
        }
    }
}

impl From<(&str, i32)> for Token {
    fn from((text, kind): (&str, i32)) -> Self {
        Self::new(text, kind)
    }
}

struct Learned {
    /// Single characters, then the results of the merges in their order.
    tokens: Vec<String>,
    merges: Vec<String>,
}

fn learn(mut tokenizer: Tokenizer, trainer: BpeTrainerBuilder, size: usize) -> Learned {
    let trainer = trainer.vocab_size(size).show_progress(false).build();
    let texts = [TEXTS, LANGUAGES, CODE].concat();
    let texts = texts.iter().map(|text| without_chat_tokens(text));
    let mut trainer = TrainerWrapper::BpeTrainer(trainer);
    tokenizer.train(&mut trainer, texts).expect("a model");
    let model = serde_json::to_value(tokenizer.get_model()).expect("JSON");
    let pairs: Vec<(String, String)> =
        serde_json::from_value(model["merges"].clone()).expect("pairs");
    let mut tokens: Vec<_> = tokenizer.get_vocab(false).into_iter().collect();
    tokens.sort_by_key(|&(_, id)| id);
    Learned {
        tokens: tokens.into_iter().map(|(text, _)| text).collect(),
        merges: pairs
            .iter()
            .map(|(left, right)| format!("{left} {right}"))
            .collect(),
    }
}

/// A text without the chat tokens. Real vocabularies are not learned from these either. If one could be merged from its
/// parts, llama.cpp would always make it.
fn without_chat_tokens(text: &str) -> String {
    let remove = |text: String, (token, _): &(&str, i32)| text.replace(token, "");
    CHAT_TOKENS.iter().fold(text.to_owned(), remove)
}
