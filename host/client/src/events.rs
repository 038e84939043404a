//! Server-sent events, as far as the OpenAI API uses them: each has its data in one line.

use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use reqwest::Response;

/// The events of a streamed answer. Dropping it cuts the connection.
pub struct Events {
    pieces: Pin<Box<dyn Stream<Item = reqwest::Result<Vec<u8>>> + Send>>,
    /// Bytes that are not a complete line yet.
    buffer: Vec<u8>,
}

impl Events {
    /// The events of a response.
    pub fn of(response: Response) -> Self {
        Self::from_pieces(response.bytes_stream().map(|piece| piece.map(Vec::from)))
    }

    fn from_pieces(pieces: impl Stream<Item = reqwest::Result<Vec<u8>>> + Send + 'static) -> Self {
        Self {
            pieces: Box::pin(pieces),
            buffer: Vec::new(),
        }
    }

    /// The data of the next event, without `[DONE]`. None at the end of the stream.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            while let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if let Some(data) = data(&line) {
                    return Ok(Some(data.to_vec()));
                }
            }
            match self.pieces.next().await {
                Some(piece) => self.buffer.extend(piece?),
                None => return Ok(None),
            }
        }
    }
}

/// The data in a line. None for comments, empty lines and the end.
fn data(line: &[u8]) -> Option<&[u8]> {
    let data = line.strip_prefix(b"data:")?.trim_ascii();
    (data != b"[DONE]").then_some(data)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    #[tokio::test]
    async fn events_are_found_however_the_stream_is_cut() {
        let text = b": ping\n\ndata: {\"a\": 1}\n\ndata:2\r\n\ndata: [DONE]\n\n";
        for size in 1..text.len() {
            let pieces: Vec<_> = text.chunks(size).map(|piece| Ok(piece.to_vec())).collect();
            let mut events = Events::from_pieces(stream::iter(pieces));
            let mut found = Vec::new();
            while let Some(data) = events.next().await.unwrap() {
                found.push(String::from_utf8(data).unwrap());
            }
            assert_eq!(found, ["{\"a\": 1}", "2"]);
        }
    }
}
