//! Quantization levels: their names, their order of fidelity, and the types of tensors that they do not fit.
//!
//! A *level* is what users ask for, and it describes a whole model: `Q4_K_M`. A *tensor type* is the number format of one
//! tensor: `Q4_K`. Some levels are mixtures, which give a better type to the tensors that matter more. A backend without
//! mixtures has levels that are named after their tensor type.
//!
//! ```
//! use tenon_plugin_api::levels;
//!
//! let offered = ["F16", "Q8_0", "Q4_K_M"];
//! assert_eq!(levels::choose("q8-0", &offered).unwrap(), "Q8_0");
//! assert_eq!(levels::choose("Q4K", &offered).unwrap(), "Q4_K_M");
//! assert!(levels::choose("Q2K", &offered).is_err());
//!
//! let q4_k = levels::find("Q4K").unwrap().tensor;
//! assert_eq!(q4_k.fitting(576).name, "Q5_0");
//! ```

use crate::{Code, Error, Result};

/// A quantization level of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// The name as llama.cpp writes it, for example `Q4_K_M`.
    pub name: &'static str,
    /// Type of most tensors.
    pub tensor: TensorType,
}

/// The number format of a tensor. Rows are cut into blocks of weights, and the weights of a block share scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorType {
    /// The name as ggml writes it, for example `Q4_K`.
    pub name: &'static str,
    /// ggml's number of the type, which GGUF files contain.
    pub ggml: u32,
    /// Weights in a block. The length of a row must be a multiple of it.
    pub block: u32,
    /// Bytes of a block.
    pub block_bytes: u32,
}

impl TensorType {
    /// Bits per weight, scales included.
    pub fn bits_per_weight(&self) -> f32 {
        (self.block_bytes * 8) as f32 / self.block as f32
    }

    /// The type for a tensor whose rows have `row` weights, as llama.cpp chooses it. It is this type if the row is a
    /// multiple of its block. Otherwise it is a type with short blocks and more bits, or `F16` if those do not fit either.
    pub fn fitting(&self, row: u64) -> TensorType {
        let fits = |tensor: &TensorType| row.is_multiple_of(tensor.block.into());
        let candidates = [*self, self.with_short_blocks(), F16];
        candidates.into_iter().find(fits).unwrap_or(F16)
    }

    fn with_short_blocks(&self) -> TensorType {
        match self.name {
            "Q8_K" | "Q6_K" => Q8_0,
            "Q5_K" => Q5_1,
            "Q4_K" => Q5_0,
            "Q3_K" | "Q2_K" | "TQ2_0" | "TQ1_0" => Q4_0,
            "IQ4_XS" | "IQ3_S" | "IQ3_XXS" | "IQ2_S" | "IQ2_XS" | "IQ2_XXS" | "IQ1_M" | "IQ1_S" => {
                IQ4_NL
            }
            _ => *self,
        }
    }
}

/// The level with this name, in any spelling: `Q4_K_M`, `q4km`, `Q4-K-M`. None if there is no such level.
pub fn find(spelling: &str) -> Option<&'static Level> {
    let wanted = normal(spelling);
    LEVELS.iter().find(|level| normal(level.name) == wanted)
}

/// The level of `offered` (a model's levels) that `asked` names, in any spelling. A name without the size of a mixture means
/// the medium one (`Q4K` is `Q4_K_M`). Where there are no mixtures, a mixture's name means its tensor type.
///
/// # Errors
/// [`Code::INVALID`] if there is no such level, [`Code::UNSUPPORTED`] if it is not offered. The message lists the offered
/// levels.
pub fn choose<'a, S: AsRef<str>>(asked: &str, offered: &'a [S]) -> Result<&'a str> {
    let offers = |name: &str| {
        let mut names = offered.iter().map(AsRef::as_ref);
        names.find(|offered| normal(offered) == normal(name))
    };
    let known = find(asked);
    let kin = known.and_then(Level::kin);
    let found = offers(asked).or_else(|| offers(known?.name));
    found.or_else(|| offers(&kin?)).ok_or_else(|| {
        let offered: Vec<_> = offered.iter().map(AsRef::as_ref).collect();
        let choices = match offered.as_slice() {
            [] => "its backend has no levels".to_owned(),
            offered => format!("use one of {}", offered.join(", ")),
        };
        match known {
            Some(level) => Error::new(
                Code::UNSUPPORTED,
                format!(
                    "this model cannot be quantized to {}: {choices}",
                    level.name
                ),
            ),
            None => Error::invalid(format!(
                "there is no quantization level {asked:?}: {choices}"
            )),
        }
    })
}

/// The level to quantize weights of the level `source` to, if a user asks for `asked`. None if the weights stay as they are,
/// because `asked` is None or is `source` itself.
///
/// # Errors
/// As [`choose`].
pub fn change<'a, S: AsRef<str>>(
    asked: Option<&str>,
    source: &str,
    offered: &'a [S],
) -> Result<Option<&'a str>> {
    let level = asked.map(|asked| choose(asked, offered)).transpose()?;
    Ok(level.filter(|level| *level != source))
}

/// Names of the levels that a backend offers for weights at the level `source`: those that it makes, and `source` itself. The
/// most faithful level comes first.
pub fn offered(source: &str, makes: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let names = LEVELS.iter().map(|level| level.name);
    names
        .filter(|name| *name == source || makes(name))
        .collect()
}

impl Level {
    /// Position in the order of fidelity: 0 is the most faithful.
    pub fn rank(&self) -> usize {
        let place = LEVELS.iter().position(|level| level.name == self.name);
        place.unwrap_or(LEVELS.len())
    }

    /// Name of the level that stands in for this one where it is not offered.
    fn kin(&self) -> Option<String> {
        match self.name.strip_prefix(self.tensor.name)? {
            "" => Some(format!("{}_M", self.name)),
            _ => Some(self.tensor.name.to_owned()),
        }
    }
}

/// The same form for all spellings: capital letters, no separators, one name for each float type.
fn normal(spelling: &str) -> String {
    let letters = spelling.chars().filter(|c| !matches!(c, '_' | '-' | ' '));
    let letters = letters.collect::<String>().to_ascii_uppercase();
    match letters.as_str() {
        "FP32" | "FLOAT32" => "F32".into(),
        "FP16" | "FLOAT16" => "F16".into(),
        "BFLOAT16" => "BF16".into(),
        _ => letters,
    }
}

macro_rules! tensor_types {
    ($($name:ident: $ggml:literal, $block:literal, $block_bytes:literal;)*) => {
        $(const $name: TensorType = TensorType {
            name: stringify!($name),
            ggml: $ggml,
            block: $block,
            block_bytes: $block_bytes,
        };)*

        /// Every tensor type that a level or its fallback may use.
        pub const TENSOR_TYPES: &[TensorType] = &[$($name),*];
    };
}

// Name: ggml's number of the type, weights in a block, bytes of a block.
tensor_types! {
    F32: 0, 1, 4;
    F16: 1, 1, 2;
    BF16: 30, 1, 2;
    Q8_K: 15, 256, 292;
    Q8_0: 8, 32, 34;
    Q6_K: 14, 256, 210;
    Q5_K: 13, 256, 176;
    Q5_1: 7, 32, 24;
    Q5_0: 6, 32, 22;
    Q4_K: 12, 256, 144;
    Q4_1: 3, 32, 20;
    IQ4_NL: 20, 32, 18;
    Q4_0: 2, 32, 18;
    IQ4_XS: 23, 256, 136;
    MXFP4: 39, 32, 17;
    Q3_K: 11, 256, 110;
    IQ3_S: 21, 256, 110;
    IQ3_XXS: 18, 256, 98;
    Q2_K: 10, 256, 84;
    IQ2_S: 22, 256, 82;
    IQ2_XS: 17, 256, 74;
    IQ2_XXS: 16, 256, 66;
    TQ2_0: 35, 256, 66;
    IQ1_M: 29, 256, 56;
    TQ1_0: 34, 256, 54;
    IQ1_S: 19, 256, 50;
}

macro_rules! levels {
    ($($name:ident: $tensor:ident;)*) => {
        /// Every level, from the most to the least faithful.
        pub const LEVELS: &[Level] = &[$(Level { name: stringify!($name), tensor: $tensor }),*];
    };
}

// Ordered by llama.cpp's measurements (perplexity).
levels! {
    F32: F32;
    F16: F16;
    BF16: BF16;
    Q8_K: Q8_K;
    Q8_0: Q8_0;
    Q6_K: Q6_K;
    Q5_K_M: Q5_K;
    Q5_K_S: Q5_K;
    Q5_K: Q5_K;
    Q5_1: Q5_1;
    Q5_0: Q5_0;
    Q4_K_M: Q4_K;
    Q4_K_S: Q4_K;
    Q4_K: Q4_K;
    IQ4_NL: IQ4_NL;
    IQ4_XS: IQ4_XS;
    Q4_1: Q4_1;
    Q4_0: Q4_0;
    MXFP4: MXFP4;
    Q3_K_L: Q3_K;
    IQ3_M: IQ3_S;
    Q3_K_M: Q3_K;
    IQ3_S: IQ3_S;
    IQ3_XS: IQ3_S;
    Q3_K_S: Q3_K;
    Q3_K: Q3_K;
    IQ3_XXS: IQ3_XXS;
    Q2_K: Q2_K;
    IQ2_M: IQ2_S;
    Q2_K_S: Q2_K;
    IQ2_S: IQ2_XS;
    IQ2_XS: IQ2_XS;
    IQ2_XXS: IQ2_XXS;
    IQ1_M: IQ1_M;
    IQ1_S: IQ1_S;
    TQ2_0: TQ2_0;
    TQ1_0: TQ1_0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_level_is_understood() {
        for spelling in ["Q4_K_M", "q4_k_m", "q4km", "Q4-K-M", " Q4 K M "] {
            assert_eq!(find(spelling).map(|level| level.name), Some("Q4_K_M"));
        }
        for (spelling, name) in [("fp16", "F16"), ("bfloat16", "BF16"), ("Q4K", "Q4_K")] {
            assert_eq!(find(spelling).map(|level| level.name), Some(name));
        }
        assert_eq!(find("Q9_0"), None);
        assert_eq!(find(""), None);
    }

    #[test]
    fn no_two_levels_are_spelled_alike() {
        for level in LEVELS {
            assert_eq!(find(level.name), Some(level));
        }
    }

    #[test]
    fn weights_stay_as_they_are_at_their_own_level() {
        let offered = offered("IQ2_S", |level| level.starts_with("Q8"));
        assert_eq!(offered, ["Q8_K", "Q8_0", "IQ2_S"]);
        let change = |asked| change(asked, "IQ2_S", &offered);
        assert_eq!(change(None), Ok(None));
        assert_eq!(change(Some("iq2s")), Ok(None));
        assert_eq!(change(Some("q8-0")), Ok(Some("Q8_0")));
        assert!(change(Some("Q4_0")).is_err());
    }

    #[test]
    fn mixtures_and_their_tensor_type_stand_for_each_other() {
        let mixtures = ["Q5_K_M", "Q4_K_M", "Q4_K_S", "Q2_K"];
        assert_eq!(choose("Q4K", &mixtures), Ok("Q4_K_M"));
        assert_eq!(choose("q4_k_s", &mixtures), Ok("Q4_K_S"));
        assert_eq!(choose("Q2K", &mixtures), Ok("Q2_K"));
        let plain = ["Q4_K", "Q2_K"];
        assert_eq!(choose("q4_k_m", &plain), Ok("Q4_K"));
        assert_eq!(choose("Q2_K_S", &plain), Ok("Q2_K"));
        assert_eq!(choose("my_own", &["MyOwn"]), Ok("MyOwn"));
    }

    #[test]
    fn what_is_not_offered_is_refused_with_what_is() {
        let refused = choose("IQ2_S", &["Q8_0", "Q2_K"]).unwrap_err();
        assert_eq!(refused.code, Code::UNSUPPORTED);
        assert!(refused.message.contains("Q8_0, Q2_K"), "{refused}");
        let refused = choose("Q9", &["Q8_0"]).unwrap_err();
        assert_eq!(refused.code, Code::INVALID);
        assert!(refused.message.contains("\"Q9\""), "{refused}");
        let none: [&str; 0] = [];
        assert!(choose("Q8_0", &none).is_err());
    }

    /// The same choices as `tensor_type_fallback` in llama.cpp.
    #[test]
    fn rows_that_do_not_divide_get_another_type() {
        let fitting = |name, row| find(name).map(|level| level.tensor.fitting(row).name);
        assert_eq!(fitting("Q4_K", 1536), Some("Q4_K"));
        for (level, short) in [
            ("Q4_K", "Q5_0"),
            ("Q5_K", "Q5_1"),
            ("Q6_K", "Q8_0"),
            ("Q3_K", "Q4_0"),
            ("Q2_K", "Q4_0"),
            ("IQ4_XS", "IQ4_NL"),
        ] {
            assert_eq!(fitting(level, 576), Some(short));
            assert_eq!(fitting(level, 100), Some("F16"));
        }
        assert_eq!(fitting("Q8_0", 100), Some("F16"));
        assert_eq!(fitting("BF16", 7), Some("BF16"));
    }

    #[test]
    fn fewer_bits_are_further_down() {
        let ranks = ["F32", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q2_K"];
        let ranks = ranks.map(|name| find(name).unwrap().rank());
        assert!(ranks.is_sorted());
        assert_eq!(find("Q8_0").unwrap().tensor.bits_per_weight(), 8.5);
        assert_eq!(find("Q4_K").unwrap().tensor.bits_per_weight(), 4.5);
    }
}
