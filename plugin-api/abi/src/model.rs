//! Facts about a model that cross the library boundary as they are.

use abi_stable::{StableAbi, std_types::ROption};

use crate::Hints;

/// What a model can do beyond the basics, as bits. A bit that the host does not know is a capability that it does not use.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// `encode` of a continuation gives the tokens that the model itself writes for it, and the bytes of these tokens are
    /// the text. With this the host can insert tokens that a grammar forces, without asking the model for each.
    pub const CANONICAL_TOKENIZER: Self = Self(1);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Sampling parameters that the model's makers recommend. None: they recommend no value.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SamplingDefaults {
    temperature: ROption<f32>,
    top_p: ROption<f32>,
    min_p: ROption<f32>,
    top_k: ROption<u32>,
    repetition_penalty: ROption<f32>,
    #[cfg_attr(feature = "serde", serde(skip))]
    hints: Hints<4>,
}

macro_rules! sampling_defaults {
    ($($field:ident, $with:ident: $type:ty;)*) => {
        impl SamplingDefaults {
            /// These values, and those of `others` where these are None.
            pub fn or(self, others: Self) -> Self {
                Self { $($field: self.$field.or(others.$field),)* ..self }
            }

            $(
                #[doc = concat!("The recommended `", stringify!($field), "`.")]
                pub fn $field(&self) -> Option<$type> { self.$field.into_option() }
                #[doc = concat!("The same with this `", stringify!($field), "`.")]
                pub fn $with(self, value: $type) -> Self {
                    Self { $field: ROption::RSome(value), ..self }
                }
            )*
        }
    };
}

sampling_defaults! {
    temperature, with_temperature: f32;
    top_p, with_top_p: f32;
    min_p, with_min_p: f32;
    top_k, with_top_k: u32;
    repetition_penalty, with_repetition_penalty: f32;
}
