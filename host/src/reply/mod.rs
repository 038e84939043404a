//! From token events to the one stream of deltas that every answer is made of: tokens → whole characters → up to a stop string
//! → thoughts, text and calls of tools.
//!
//! Runs on the receiving side, off the model thread. Invariant: nothing here knows HTTP or wire types.

mod detokenize;
mod echo;
mod interpret;
mod merged;
mod piece;
mod reasoning;
mod scored;
mod stop;
mod stream;

pub use detokenize::Detokenizer;
pub use echo::Echo;
pub use interpret::{Interpreter, Reading};
pub use merged::merged;
pub use piece::{CallBegin, CallPiece, Piece};
pub use reasoning::{ReasoningSplitter, ReasoningTags, Split, Thoughts};
pub use scored::{HeldTokens, ScoredToken};
pub use stop::{Matched, StopMatcher};
pub use stream::{Delta, End, Reply, ReplyOptions};
