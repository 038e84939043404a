//! The CPU features that a library was compiled for.
//!
//! A compiler that builds a library for newer CPUs may use their instructions anywhere in it, also in code that no trial run
//! reaches. So [`export_module!`](crate::export_module) stores a bit set in the library, and the host reads it before any
//! code of the library runs. Each feature has a bit. A new feature gets the next bit.

/// Name of the exported symbol of the bit set, a `u64`. A library without it states no features.
pub const CPU_FEATURES_SYMBOL: &str = "tenon_plugin_cpu_features";

macro_rules! features {
    ($detected:ident: $($name:tt)*) => {
        /// Names of the features, that of the lowest bit first.
        pub const CPU_FEATURES: &[&str] = &[$($name),*];

        /// Features that this library, or the program that it is linked into, was compiled for.
        pub const COMPILED_FOR: u64 = bits(&[$(cfg!(target_feature = $name)),*]);

        /// Features that the CPU has and that the operating system lets programs use.
        pub fn cpu_features() -> u64 {
            bits(&[$(std::arch::$detected!($name)),*])
        }
    };
}

#[cfg(target_arch = "x86_64")]
features! {
    is_x86_feature_detected:
    "cmpxchg16b" "popcnt" "sse3" "ssse3" "sse4.1" "sse4.2"
    "avx" "avx2" "bmi1" "bmi2" "f16c" "fma" "lzcnt" "movbe"
    "avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl"
    "avx512vnni" "avx512vbmi" "avx512vbmi2" "avx512bitalg" "avx512ifma" "avx512vpopcntdq" "avx512bf16" "avx512fp16"
    "avxvnni" "aes" "vaes" "pclmulqdq" "vpclmulqdq" "gfni" "sha" "adx" "sse4a"
}

#[cfg(target_arch = "aarch64")]
features! {
    is_aarch64_feature_detected:
    "lse" "crc" "rdm" "rcpc" "aes" "sha2" "sha3" "fp16" "fhm" "fcma" "dotprod" "i8mm" "bf16" "sve" "sve2"
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
features! { none: }

const fn bits(flags: &[bool]) -> u64 {
    let (mut bits, mut at) = (0, 0);
    while at < flags.len() {
        bits |= (flags[at] as u64) << at;
        at += 1;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_has_a_bit_and_this_cpu_has_what_this_test_was_compiled_for() {
        assert!(CPU_FEATURES.len() <= 64);
        assert_eq!(bits(&[true, false, true]), 0b101);
        assert_eq!(COMPILED_FOR & !cpu_features(), 0);
    }
}
