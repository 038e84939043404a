//! Between text and tokens: what a token is, and how a text is read.

use abi_stable::StableAbi;

/// What a token is. An open enumeration; unknown kinds are treated as [`TokenKind::NORMAL`].
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TokenKind(pub u8);

impl TokenKind {
    /// Ordinary text.
    pub const NORMAL: Self = Self(0);
    /// Steers the model and is not text, for example `<|im_end|>`. Its bytes are its written form.
    pub const CONTROL: Self = Self(1);
    /// Stands for one byte (SentencePiece `<0x0A>`). Its bytes are that byte.
    pub const BYTE: Self = Self(2);
    /// Never used by the model.
    pub const UNUSED: Self = Self(3);
    /// The unknown token.
    pub const UNKNOWN: Self = Self(4);
    /// Added after training as a whole word, such as `<tool_call>`. It is found before a text is split, but is printed as
    /// text.
    pub const USER_DEFINED: Self = Self(5);
}

/// How `encode` of a tokenizer reads a text, as bits.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EncodeFlags(pub u32);

impl EncodeFlags {
    /// Plain text: no control tokens, nothing added.
    pub const NONE: Self = Self(0);
    /// Text that spells a control token becomes that token. Without this flag it is encoded as ordinary text.
    pub const PARSE_CONTROL: Self = Self(1);
    /// Adds BOS (and EOS) if the model is configured so.
    pub const ADD_SPECIAL: Self = Self(1 << 1);
    /// The text continues another: no SentencePiece space prefix.
    pub const CONTINUATION: Self = Self(1 << 2);

    /// Whether this version knows all flags that are set. Flags must be understood.
    pub fn is_understood(self) -> bool {
        let known = Self::PARSE_CONTROL | Self::ADD_SPECIAL | Self::CONTINUATION;
        known.contains(self)
    }

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for EncodeFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
