//! Encodes prompts into tokens.

use tenon_plugin_api::EncodeFlags;

use super::RenderedChat;

/// The part of a tokenizer that prompts need.
pub trait Encoder {
    /// Why a text could not be encoded.
    type Error;

    /// Token ids of a text.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    fn encode(&self, text: &str, flags: EncodeFlags) -> Result<Vec<u32>, Self::Error>;

    /// Token ids of each text.
    ///
    /// # Errors
    /// If the tokenizer refuses a text.
    fn encode_all(&self, texts: Vec<(String, EncodeFlags)>) -> Result<Vec<Vec<u32>>, Self::Error> {
        let encode = |(text, flags): &(String, _)| self.encode(text, *flags);
        texts.iter().map(encode).collect()
    }
}

/// Encodes a rendered chat. Its pieces are encoded separately, so that no control token forms across a cut.
///
/// # Errors
/// The tokenizer returns an error.
pub fn encode_chat<E: Encoder + ?Sized>(
    chat: &RenderedChat,
    encoder: &E,
) -> Result<Vec<u32>, E::Error> {
    let pieces = chat.pieces().iter().enumerate();
    let pieces = pieces.map(|(index, piece)| {
        let flags = chat_flags(index, chat.starts_with_bos());
        (piece.clone(), flags)
    });
    Ok(encoder.encode_all(pieces.collect())?.concat())
}

/// Encodes a plain completion prompt. Control tokens in it are read as such, because the caller wrote the template.
///
/// # Errors
/// The tokenizer returns an error.
pub fn encode_text<E: Encoder + ?Sized>(
    prompt: &str,
    special: Special,
    encoder: &E,
) -> Result<Vec<u32>, E::Error> {
    Ok(encode_texts(vec![prompt.to_owned()], special, encoder)?.concat())
}

/// Encodes plain prompts, each by itself, as [`encode_text`] does.
///
/// # Errors
/// The tokenizer returns an error.
pub fn encode_texts<E: Encoder + ?Sized>(
    prompts: Vec<String>,
    special: Special,
    encoder: &E,
) -> Result<Vec<Vec<u32>>, E::Error> {
    let flags = match special {
        Special::Added { .. } => EncodeFlags::PARSE_CONTROL | EncodeFlags::ADD_SPECIAL,
        Special::Left => EncodeFlags::PARSE_CONTROL,
    };
    let prompts = prompts.into_iter().map(|prompt| (prompt, flags));
    let mut encoded = encoder.encode_all(prompts.collect())?;
    let Special::Added { bos: Some(bos) } = special else {
        return Ok(encoded);
    };
    // A prompt that begins with BOS must not get a second one.
    let begins_twice = |tokens: &Vec<u32>| tokens.starts_with(&[bos, bos]);
    if encoded.iter().any(begins_twice)
        && encoder.encode("", EncodeFlags::ADD_SPECIAL)?.first() == Some(&bos)
    {
        for tokens in encoded.iter_mut().filter(|tokens| begins_twice(tokens)) {
            tokens.remove(0);
        }
    }
    Ok(encoded)
}

/// Encodes the texts of pairs, each of which is cut into pieces. The pieces contain their control tokens, so none are
/// added.
///
/// # Errors
/// The tokenizer returns an error.
pub fn encode_pairs<E: Encoder + ?Sized>(
    pairs: Vec<Vec<String>>,
    encoder: &E,
) -> Result<Vec<Vec<u32>>, E::Error> {
    let counts: Vec<usize> = pairs.iter().map(Vec::len).collect();
    let pieces = pairs.into_iter().flat_map(|pieces| {
        let pieces = pieces.into_iter().enumerate();
        pieces.map(|(index, piece)| (piece, chat_flags(index, true)))
    });
    let mut encoded = encoder.encode_all(pieces.collect())?.into_iter();
    let pairs = counts.into_iter();
    Ok(pairs
        .map(|count| encoded.by_ref().take(count).flatten().collect())
        .collect())
}

/// Whether the model's special tokens, such as BOS, are put around a plain prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// The tokens are added. `bos` is the model's BOS token, if it has one.
    Added { bos: Option<u32> },
    /// Only the prompt's own tokens.
    Left,
}

/// Flags for a piece of a chat. If the template wrote BOS itself, the tokenizer must not add another.
fn chat_flags(index: usize, starts_with_bos: bool) -> EncodeFlags {
    match index {
        0 if starts_with_bos => EncodeFlags::PARSE_CONTROL,
        0 => EncodeFlags::PARSE_CONTROL | EncodeFlags::ADD_SPECIAL,
        _ => EncodeFlags::PARSE_CONTROL | EncodeFlags::CONTINUATION,
    }
}
