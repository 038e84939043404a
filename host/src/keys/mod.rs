//! The keys of clients: their rights, their limits and their current use.
//!
//! [`Keys`] finds the [`Key`] that a client sends. A key has [`Rights`], and counts its current use. An [`Account`] has the use of
//! a single request, and how its answers ended. Invariant: nothing here knows HTTP, and no key is kept in plain text.

mod account;
mod answers;
mod bucket;
mod hash;
mod key;
mod keyring;
mod texts;

pub use self::{
    account::Account,
    answers::{AnswerEnd, StatedParameters},
    bucket::BucketLevel,
    hash::KeyHash,
    key::{Exceeded, Key, Rights},
    keyring::Keys,
    texts::Texts,
};
