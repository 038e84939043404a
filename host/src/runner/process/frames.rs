//! Frames: the length of a message as four bytes, and the message in postcard's format.
//!
//! Both sides are the same program, so the format has no versions.

use std::io::{self, Read};

use futures_util::{Stream, StreamExt};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::AsyncRead;
use tokio_util::{
    bytes::Buf,
    codec::{FramedRead, LengthDelimitedCodec},
};

/// Longest message: the facts of a model with the largest vocabulary, or a request of the largest size, fit in.
const MAX_BYTES: usize = 1 << 30;

/// Size of the length before a message.
const LENGTH_BYTES: usize = size_of::<u32>();

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .max_frame_length(MAX_BYTES)
        .new_codec()
}

/// The frame of a message.
///
/// # Errors
/// The message is too long, or has JSON that is nested too deeply.
pub fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    frame_in(Vec::new(), message)
}

/// The frame of a message, in a buffer whose memory is reused.
///
/// # Errors
/// The errors of [`frame`].
pub fn frame_in(mut buffer: Vec<u8>, message: &impl Serialize) -> io::Result<Vec<u8>> {
    buffer.clear();
    buffer.extend([0; LENGTH_BYTES]);
    let mut frame = postcard::to_extend(message, buffer).map_err(io::Error::other)?;
    let length = frame.len() - LENGTH_BYTES;
    let field = u32::try_from(length).ok().filter(|_| length <= MAX_BYTES);
    let field = field.ok_or_else(|| io::Error::other("the message is too long"))?;
    frame[..LENGTH_BYTES].copy_from_slice(&field.to_be_bytes());
    Ok(frame)
}

/// The messages that arrive.
pub fn messages<T: DeserializeOwned>(
    input: impl AsyncRead + Unpin,
) -> impl Stream<Item = io::Result<T>> + Unpin {
    FramedRead::new(input, codec())
        .map(|frame| postcard::from_bytes(&frame?).map_err(io::Error::other))
}

/// Waits for one message, without a runtime.
pub fn read_one<T: DeserializeOwned>(mut input: impl Read) -> io::Result<T> {
    let mut length = [0; LENGTH_BYTES];
    input.read_exact(&mut length)?;
    let length = length.as_slice().get_u32() as usize;
    if length > MAX_BYTES {
        return Err(io::Error::other("the first message is too long"));
    }
    let mut message = vec![0; length];
    input.read_exact(&mut message)?;
    postcard::from_bytes(&message).map_err(io::Error::other)
}
