//! What the candle plugins share.

pub mod tokenizer;
