use tenon_plugin_api::{EncodeFlags, Vocabulary};

use super::Encoder;

/// Infill tokens of known models: those before the prefix, before the suffix, and before the infill. If the third is `""`,
/// there is none: the suffix comes before the prefix, and the infill continues the prefix. The names are those of model
/// cards; llama.cpp (`src/llama-vocab.cpp`) knows most of them.
const KNOWN: [[&str; 3]; 8] = [
    // Qwen Coder, CodeGemma
    ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"],
    // StarCoder, Granite Code
    ["<fim_prefix>", "<fim_suffix>", "<fim_middle>"],
    // SantaCoder
    ["<fim-prefix>", "<fim-suffix>", "<fim-middle>"],
    // DeepSeek Coder
    ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
    // Code Llama, whose tokens have a space that not every tokenizer shows
    [" <PRE>", " <SUF>", " <MID>"],
    ["▁<PRE>", "▁<SUF>", "▁<MID>"],
    // GLM
    ["<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"],
    // Codestral
    ["[PREFIX]", "[SUFFIX]", ""],
];

/// The infill tokens of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InfillTokens {
    prefix: u32,
    suffix: u32,
    /// None: the suffix comes before the prefix.
    middle: Option<u32>,
}

impl InfillTokens {
    /// Finds the infill tokens in a vocabulary. None if the model cannot infill.
    pub fn find(vocabulary: &Vocabulary) -> Option<Self> {
        let id = |name: &str| {
            let mut tokens = 0..vocabulary.len() as u32;
            tokens.find(|&token| vocabulary.bytes(token) == name.as_bytes())
        };
        KNOWN.iter().find_map(|[prefix, suffix, middle]| {
            Some(Self {
                prefix: id(prefix)?,
                suffix: id(suffix)?,
                middle: match *middle {
                    "" => None,
                    middle => Some(id(middle)?),
                },
            })
        })
    }

    /// The prompt for an infill between the tokens `before` and the text `after`. `bos` comes first if the tokenizer adds it.
    ///
    /// # Errors
    /// The tokenizer returns an error.
    pub fn prompt<E: Encoder + ?Sized>(
        self,
        before: &[u32],
        after: &str,
        bos: Option<u32>,
        encoder: &E,
    ) -> Result<Vec<u32>, E::Error> {
        let special = encoder.encode("", EncodeFlags::ADD_SPECIAL)?;
        let bos = bos.filter(|bos| special.contains(bos));
        let before = [&[self.prefix], before].concat();
        let after = [vec![self.suffix], encode_part(after, encoder)?].concat();
        let parts = match self.middle {
            Some(middle) => [before, after, vec![middle]],
            None => [after, before, Vec::new()],
        };
        Ok(bos.into_iter().chain(parts.concat()).collect())
    }
}

/// Encodes a text beside the infill. Control tokens in it are read as plain text.
///
/// # Errors
/// The tokenizer returns an error.
pub fn encode_part<E: Encoder + ?Sized>(text: &str, encoder: &E) -> Result<Vec<u32>, E::Error> {
    encoder.encode(text, EncodeFlags::CONTINUATION)
}

#[cfg(test)]
mod tests {
    use tenon_plugin_api::{ByteTokenizer, Error, Tokenizer};

    use super::*;

    struct Bytes(ByteTokenizer);

    impl Encoder for Bytes {
        type Error = Error;

        fn encode(&self, text: &str, flags: EncodeFlags) -> Result<Vec<u32>, Error> {
            self.0.encode(text, flags)
        }
    }

    const NAMES: [&str; 4] = ["<|begin|>", "<fim_middle>", "<fim_prefix>", "<fim_suffix>"];

    #[test]
    fn the_parts_stand_behind_their_tokens() {
        let tokenizer = Bytes(ByteTokenizer::new(&NAMES));
        let infill = InfillTokens::find(&tokenizer.0.vocabulary().unwrap()).unwrap();
        let before = encode_part("a<|begin|>", &tokenizer).unwrap();
        assert_eq!(before.len(), 10, "a control token in a part is text");
        let tokens = infill.prompt(&[97], "bc", Some(256), &tokenizer);
        assert_eq!(tokens.unwrap(), [256, 258, 97, 259, 98, 99, 257]);
        let tokens = infill.prompt(&[97], "b", None, &tokenizer);
        assert_eq!(tokens.unwrap(), [258, 97, 259, 98, 257]);
    }

    #[test]
    fn the_suffix_comes_first_where_nothing_stands_for_the_infill() {
        let tokenizer = Bytes(ByteTokenizer::new(&["[PREFIX]", "[SUFFIX]"]));
        let infill = InfillTokens::find(&tokenizer.0.vocabulary().unwrap()).unwrap();
        let tokens = infill.prompt(&[97], "bc", None, &tokenizer);
        assert_eq!(tokens.unwrap(), [257, 98, 99, 256, 97]);
    }

    #[test]
    fn a_model_with_only_some_of_them_cannot() {
        let vocabulary = |names| ByteTokenizer::new(names).vocabulary().unwrap();
        assert_eq!(InfillTokens::find(&vocabulary(&NAMES[..3])), None);
        assert_eq!(
            InfillTokens::find(&vocabulary(&["<PRE>", "<fim_suffix>"])),
            None
        );
    }
}
