use std::{
    pin::Pin,
    task::{Context, Poll},
};

use super::{Delta, Reply};
use crate::engine::Failure;
use futures_util::{Stream, stream};

type BoxedDeltas = Pin<Box<dyn Stream<Item = Result<Delta, Failure>> + Send>>;

/// Merges replies into one stream. Each piece comes with the index of its reply. The replies take turns, so that a fast
/// one does not hold back the others. A piece costs no allocation here. The stream ends after the first error.
///
/// No crate's merged stream does this: `SelectAll` of futures allocates for each piece, and `StreamMap` of tokio-stream
/// takes turns at random, so the order of pieces would differ from run to run.
pub fn merged(replies: Vec<Reply>) -> impl Stream<Item = (u32, Result<Delta, Failure>)> + Send {
    let mut merged = Merged {
        replies: replies
            .into_iter()
            .map(|reply| Some(Box::pin(reply.into_stream()) as BoxedDeltas))
            .collect(),
        turn: 0,
    };
    stream::poll_fn(move |context| merged.poll(context))
}

struct Merged {
    /// None for a reply that is over.
    replies: Vec<Option<BoxedDeltas>>,
    /// Index of the reply that is asked first.
    turn: usize,
}

impl Merged {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<(u32, Result<Delta, Failure>)>> {
        let count = self.replies.len();
        let mut is_over = true;
        for at in (0..count).map(|step| (self.turn + step) % count) {
            let Some(reply) = &mut self.replies[at] else {
                continue;
            };
            match reply.as_mut().poll_next(context) {
                Poll::Ready(Some(delta)) => {
                    self.turn = at + 1;
                    if delta.is_err() {
                        self.replies.clear();
                    }
                    return Poll::Ready(Some((at as u32, delta)));
                }
                Poll::Ready(None) => self.replies[at] = None,
                Poll::Pending => is_over = false,
            }
        }
        match is_over {
            true => Poll::Ready(None),
            false => Poll::Pending,
        }
    }
}
