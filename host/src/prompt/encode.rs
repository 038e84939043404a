//! Text to prompt tokens.

use tenon_plugin_api::EncodeFlags;

use super::RenderedChat;

/// What a prompt needs of a tokenizer.
pub trait Encoder {
    /// Why a text could not be encoded.
    type Error;

    /// Token ids of a text.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    fn encode(&self, text: &str, flags: EncodeFlags) -> Result<Vec<u32>, Self::Error>;
}

/// Tokens of a rendered chat. Its pieces are encoded one by one, so that no control token forms across a cut.
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

/// Tokens of a plain completion prompt. Control tokens in it are read as such: the caller wrote the template.
///
/// # Errors
/// Those of the tokenizer.
pub fn encode_text<E: Encoder + ?Sized>(prompt: &str, encoder: &E) -> Result<Vec<u32>, E::Error> {
    encoder.encode(
        prompt,
        EncodeFlags::PARSE_CONTROL | EncodeFlags::ADD_SPECIAL,
    )
}

/// A template that wrote BOS itself must not get a second one.
fn chat_flags(index: usize, starts_with_bos: bool) -> EncodeFlags {
    match index {
        0 if starts_with_bos => EncodeFlags::PARSE_CONTROL,
        0 => EncodeFlags::PARSE_CONTROL | EncodeFlags::ADD_SPECIAL,
        _ => EncodeFlags::PARSE_CONTROL | EncodeFlags::CONTINUATION,
    }
}
