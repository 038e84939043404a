//! Frames: the length of a message as four bytes, and the message in postcard's format.
//!
//! Both sides are the same program, so the format has no versions.

use std::io::{self, Read};

use futures_util::{Stream, StreamExt};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::AsyncRead;
use tokio_util::{
    bytes::{Buf, Bytes, BytesMut},
    codec::{Encoder, FramedRead, LengthDelimitedCodec},
};

/// Longest message: the facts of a model with the largest vocabulary, or a request of the largest size, fit in.
const MAX_BYTES: usize = 1 << 30;

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .max_frame_length(MAX_BYTES)
        .new_codec()
}

/// The frame of a message.
///
/// # Errors
/// The message is too long, or has JSON that is nested too deeply.
pub fn frame(message: &impl Serialize) -> io::Result<Bytes> {
    let message = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let mut frame = BytesMut::new();
    codec().encode(Bytes::from(message), &mut frame)?;
    Ok(frame.freeze())
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
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = length.as_slice().get_u32() as usize;
    if length > MAX_BYTES {
        return Err(io::Error::other("the first message is too long"));
    }
    let mut message = vec![0; length];
    input.read_exact(&mut message)?;
    postcard::from_bytes(&message).map_err(io::Error::other)
}
