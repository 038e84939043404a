//! Turns token events into a stream of deltas, from which every answer is made: tokens → whole characters → reasoning,
//! text and tool calls → text up to a stop string.
//!
//! Runs on the receiving side, off the model thread. Invariant: nothing here knows HTTP or wire types.

mod echo;
mod interpret;
mod merged;
mod piece;
mod scored;
mod stop;
mod stream;
mod transcript;

pub use echo::Echo;
pub use interpret::{Interpreter, Reading};
pub use merged::merged;
pub use piece::AnswerPiece;
pub use scored::{HeldTokens, ScoredToken};
pub use stop::{Matched, StopMatcher};
pub use stream::{Delta, End, Reply, ReplyOptions};
pub use transcript::note_prompt;
