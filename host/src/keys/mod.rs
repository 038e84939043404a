//! The keys of clients: what requests with a key may do, and how much of it.
//!
//! [`Keys`] finds a [`Key`] by what a client sends. A key has [`Rights`], and counts what of them is used at the moment. An
//! [`Account`] has what a single request uses, and how its answers ended. Invariant: nothing here knows HTTP, and no key is kept in plain text.

mod account;
mod answers;
mod bucket;
mod hash;
mod key;
mod keyring;
mod texts;

pub use self::{
    account::Account,
    answers::{AnswerEnd, Parameters},
    bucket::Level,
    hash::KeyHash,
    key::{Exceeded, Key, Rights},
    keyring::Keys,
    texts::Texts,
};
