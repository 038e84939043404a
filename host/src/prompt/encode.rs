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
}

/// Encodes a rendered chat. Its pieces are encoded separately, so that no control token forms across a cut.
///
/// # Errors
/// Those of the tokenizer.
pub fn encode_chat<E: Encoder + ?Sized>(
    chat: &RenderedChat,
    encoder: &E,
) -> Result<Vec<u32>, E::Error> {
    let mut tokens = Vec::new();
    for (index, piece) in chat.pieces().iter().enumerate() {
        tokens.extend(encoder.encode(piece, chat_flags(index, chat.starts_with_bos()))?);
    }
    Ok(tokens)
}

/// Encodes a plain completion prompt. Control tokens in it are read as such, because the caller wrote the template.
///
/// # Errors
/// Those of the tokenizer.
pub fn encode_text<E: Encoder + ?Sized>(
    prompt: &str,
    special: Special,
    encoder: &E,
) -> Result<Vec<u32>, E::Error> {
    let Special::Added { bos } = special else {
        return encoder.encode(prompt, EncodeFlags::PARSE_CONTROL);
    };
    let flags = EncodeFlags::PARSE_CONTROL | EncodeFlags::ADD_SPECIAL;
    let mut tokens = encoder.encode(prompt, flags)?;
    // A prompt that begins with BOS must not get a second one.
    if let (Some(bos), [first, second, ..]) = (bos, tokens.as_slice())
        && (*first, *second) == (bos, bos)
        && encoder.encode("", EncodeFlags::ADD_SPECIAL)?.first() == Some(first)
    {
        tokens.remove(0);
    }
    Ok(tokens)
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
