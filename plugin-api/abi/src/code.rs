//! Why a call failed, as a number.

use abi_stable::StableAbi;

/// Why a call failed. An open enumeration: a later version may add codes, so unknown ones are treated as [`Code::INTERNAL`].
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Code(pub u32);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $words:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Self = Self($value);)*
        }

        impl std::fmt::Debug for Code {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.0 {
                    $($value => f.write_str(stringify!($name)),)*
                    other => write!(f, "Code({other})"),
                }
            }
        }

        /// The code in a few words, for errors that say no more.
        impl std::fmt::Display for Code {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.0 {
                    $($value => f.write_str($words),)*
                    other => write!(f, "unknown error {other}"),
                }
            }
        }
    };
}

codes! {
    /// No error.
    OK = 0, "no error";
    /// The arguments make no sense, or the file is not what it should be.
    INVALID = 1, "the arguments of the call are not valid";
    /// The backend does not do this.
    UNSUPPORTED = 2, "this backend does not support that";
    /// The KV pool has no room. Nothing was changed: free or truncate sequences and try again.
    NO_KV_SPACE = 3, "the KV pool has no room";
    /// The machine or the device is out of memory.
    NO_MEMORY = 4, "there is not enough memory";
    /// A span does not begin where its sequence ends.
    BAD_POSITION = 5, "a span does not begin where its sequence ends";
    /// The sequence's KV could not be restored: free the sequence and compute it again.
    SEQUENCE_LOST = 6, "the KV of a sequence was lost";
    /// The mask allows no token.
    NO_ALLOWED_TOKEN = 7, "the mask allows no token";
    /// A row of logits has a NaN or infinity in it.
    BAD_LOGITS = 8, "a row of logits has a NaN or infinity in it";
    /// The host asked to stop, through [`Interrupt`](crate::Interrupt) or the progress of the call.
    CANCELLED = 9, "the host stopped the call";
    /// The device does not answer any more. The model must be loaded again.
    DEVICE_LOST = 10, "the device does not answer any more";
    /// The plugin panicked; the SDK caught it. The object answers every further call with this code.
    PANICKED = 11, "the plugin panicked";
    /// A file could not be read or written.
    IO = 12, "a file could not be read or written";
    /// A fault of the plugin.
    INTERNAL = 13, "the plugin made a mistake";
}
