//! From token events to text: whole characters, stop strings, and the one stream of deltas that every answer is made of.
//!
//! Runs on the receiving side, off the model thread. Invariant: nothing here knows HTTP or wire types.

mod detokenize;
mod echo;
mod merged;
mod scored;
mod stop;
mod stream;

pub use detokenize::Detokenizer;
pub use echo::Echo;
pub use merged::merged;
pub use scored::{HeldTokens, ScoredToken};
pub use stop::{Matched, StopMatcher};
pub use stream::{Delta, End, Piece, Reply, ReplyOptions};
