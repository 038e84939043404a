//! llama.cpp's file types: the level of each, and whether this backend can make it.

use llama_cpp_sys_2 as sys;
use sys::llama_ftype;
use tenon_plugin_api::levels;

/// Levels by llama.cpp's numbers. Levels that can be made need neither an importance matrix nor a model that was trained for
/// them.
const FILE_TYPES: &[(llama_ftype, &str, Made)] = &[
    (sys::LLAMA_FTYPE_ALL_F32, "F32", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_F16, "F16", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_BF16, "BF16", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_Q8_0, "Q8_0", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_Q6_K, "Q6_K", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_Q5_K_M, "Q5_K_M", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_Q5_K_S, "Q5_K_S", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_Q5_1, "Q5_1", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_Q5_0, "Q5_0", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_Q4_K_M, "Q4_K_M", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_Q4_K_S, "Q4_K_S", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_IQ4_NL, "IQ4_NL", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_IQ4_XS, "IQ4_XS", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_Q4_1, "Q4_1", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_Q4_0, "Q4_0", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_Q3_K_L, "Q3_K_L", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_IQ3_M, "IQ3_M", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_Q3_K_M, "Q3_K_M", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_IQ3_S, "IQ3_S", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_Q3_K_S, "Q3_K_S", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_Q2_K, "Q2_K", Made::Here),
    (sys::LLAMA_FTYPE_MOSTLY_MXFP4_MOE, "MXFP4", Made::Elsewhere),
    (sys::LLAMA_FTYPE_MOSTLY_IQ3_XS, "IQ3_XS", Made::Elsewhere),
    (sys::LLAMA_FTYPE_MOSTLY_IQ3_XXS, "IQ3_XXS", Made::Elsewhere),
    (sys::LLAMA_FTYPE_MOSTLY_IQ2_M, "IQ2_M", Made::Elsewhere),
    (sys::LLAMA_FTYPE_MOSTLY_Q2_K_S, "Q2_K_S", Made::Elsewhere),
    (sys::LLAMA_FTYPE_MOSTLY_IQ2_S, "IQ2_S", Made::Elsewhere),
    (sys::LLAMA_FTYPE_MOSTLY_IQ2_XS, "IQ2_XS", Made::Elsewhere),
    (sys::LLAMA_FTYPE_MOSTLY_IQ2_XXS, "IQ2_XXS", Made::Elsewhere),
    (sys::LLAMA_FTYPE_MOSTLY_IQ1_M, "IQ1_M", Made::Elsewhere),
    (sys::LLAMA_FTYPE_MOSTLY_IQ1_S, "IQ1_S", Made::Elsewhere),
    (sys::LLAMA_FTYPE_MOSTLY_TQ2_0, "TQ2_0", Made::Elsewhere),
    (sys::LLAMA_FTYPE_MOSTLY_TQ1_0, "TQ1_0", Made::Elsewhere),
];

#[derive(Clone, Copy, PartialEq)]
enum Made {
    Here,
    Elsewhere,
}

/// The level of a file of this type; None for types that have no level.
pub fn level(file_type: llama_ftype) -> Option<&'static str> {
    // The loader sets a bit if it only guessed the type.
    let file_type = file_type & !sys::LLAMA_FTYPE_GUESSED;
    let found = FILE_TYPES.iter().find(|(known, ..)| *known == file_type);
    found.map(|(_, level, _)| *level)
}

/// The file type of a level that can be made.
pub fn file_type(level: &str) -> Option<llama_ftype> {
    let made = |(_, name, made): &&(_, &str, _)| *name == level && *made == Made::Here;
    FILE_TYPES
        .iter()
        .find(made)
        .map(|(file_type, ..)| *file_type)
}

/// Every level that can be made, from the most to the least faithful.
pub fn made() -> Vec<&'static str> {
    levels_from("")
}

/// The levels that a model whose file is at the level `source` can have.
pub fn levels_from(source: &str) -> Vec<&'static str> {
    levels::offered(source, |level| file_type(level).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_the_table_and_their_types_those_of_llama_cpp() {
        for &(file_type, level, _) in FILE_TYPES {
            let level = levels::LEVELS
                .iter()
                .find(|known| known.name == level)
                .unwrap();
            // SAFETY: the number is one of llama.cpp's file types.
            let name = unsafe { std::ffi::CStr::from_ptr(sys::llama_ftype_name(file_type)) };
            let name = name.to_str().unwrap().trim_start_matches("all ");
            let tensor = level.tensor.name;
            let mixed = name.split(' ').next() != Some(tensor);
            assert!(
                !mixed || tensor.starts_with("IQ") || tensor == "MXFP4",
                "{name}: {tensor}"
            );
        }
    }

    #[test]
    fn levels_come_in_order_with_the_file_s_own() {
        let levels = levels_from("IQ2_S");
        assert_eq!(levels.first(), Some(&"F32"));
        assert_eq!(levels.last(), Some(&"IQ2_S"));
        assert!(!levels_from("Q8_0").contains(&"IQ2_S"));
    }
}
