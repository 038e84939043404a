//! What the candle plugins share.
