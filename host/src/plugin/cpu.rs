//! The features of this CPU, and the levels of x86-64 CPUs as the psABI defines them.

use serde::Serialize;
use tenon_plugin_api::abi::{CPU_FEATURES, cpu_features};

/// A CPU level above plain x86-64. It includes the levels below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum CpuLevel {
    #[serde(rename = "x86-64-v2")]
    V2,
    #[serde(rename = "x86-64-v3")]
    V3,
    #[serde(rename = "x86-64-v4")]
    V4,
}

impl CpuLevel {
    /// The levels of the architecture that this program is built for, the lowest first.
    pub const ALL: &[Self] = if cfg!(target_arch = "x86_64") {
        &[Self::V2, Self::V3, Self::V4]
    } else {
        &[]
    };

    /// The level's name. Folders for the level have the same name.
    pub fn name(self) -> &'static str {
        match self {
            Self::V2 => "x86-64-v2",
            Self::V3 => "x86-64-v3",
            Self::V4 => "x86-64-v4",
        }
    }

    /// Features that the level adds to the one below. LAHF-SAHF is left out because it cannot be queried, and OSXSAVE because a
    /// program sees no AVX without it.
    fn adds(self) -> &'static [&'static str] {
        match self {
            Self::V2 => &["cmpxchg16b", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2"],
            Self::V3 => &[
                "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "lzcnt", "movbe",
            ],
            Self::V4 => &["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"],
        }
    }

    /// The level's features as the bits that a library declares.
    pub fn features(self) -> u64 {
        let levels = Self::ALL.iter().filter(|level| **level <= self);
        let names: Vec<&str> = levels.flat_map(|level| level.adds()).copied().collect();
        let bits = CPU_FEATURES.iter().enumerate();
        bits.filter(|(_, name)| names.contains(name))
            .map(|(bit, _)| 1_u64 << bit)
            .sum()
    }
}

/// The features of a CPU.
#[derive(Clone, Copy)]
pub struct Cpu {
    /// Feature bits, encoded like those that a library declares.
    pub features: u64,
}

impl Cpu {
    /// The CPU that this program runs on. A feature counts only if the operating system lets programs use it.
    pub fn detect() -> Self {
        Self {
            features: cpu_features(),
        }
    }

    /// The names of its features.
    pub fn names(&self) -> Vec<&'static str> {
        let bits = CPU_FEATURES.iter().enumerate();
        bits.filter(|(bit, _)| self.features >> bit & 1 == 1)
            .map(|(_, name)| *name)
            .collect()
    }

    /// The highest level that it has. None below the lowest, and on CPUs without levels.
    pub fn level(&self) -> Option<CpuLevel> {
        let mut levels = CpuLevel::ALL.iter().rev().copied();
        levels.find(|level| self.lacks(level.features()).is_none())
    }

    /// Names of the `features` that this CPU lacks, for a sentence. None if it has all.
    pub fn lacks(&self, features: u64) -> Option<String> {
        let lacks = features & !self.features;
        let bits = CPU_FEATURES.iter().enumerate();
        let names = bits.filter(|(bit, _)| lacks >> bit & 1 == 1);
        let names: Vec<String> = names.map(|(_, name)| name.to_uppercase()).collect();
        match lacks {
            0 => None,
            // The library was built with a newer version.
            _ if names.is_empty() => Some("features that this host does not know".into()),
            _ => Some(names.join(", ")),
        }
    }
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use super::*;

    #[test]
    fn a_level_includes_those_below_it() {
        let levels = CpuLevel::ALL.iter();
        let counts = levels.map(|level| level.features().count_ones());
        assert!(counts.eq([6_u32, 14, 19]));
        let v2 = Cpu {
            features: CpuLevel::V2.features(),
        };
        assert_eq!(v2.lacks(CpuLevel::V2.features()), None);
        let v3 = "AVX, AVX2, BMI1, BMI2, F16C, FMA, LZCNT, MOVBE";
        assert_eq!(v2.lacks(CpuLevel::V3.features()).unwrap(), v3);
        let v4 = v2.lacks(CpuLevel::V4.features()).unwrap();
        assert_eq!(
            v4,
            format!("{v3}, AVX512F, AVX512BW, AVX512CD, AVX512DQ, AVX512VL")
        );
    }

    #[test]
    fn a_feature_that_is_not_known_is_not_there() {
        let all = Cpu { features: u64::MAX };
        assert_eq!(all.lacks(1 << 63), None);
        let why = Cpu::detect().lacks(1 << 63).unwrap();
        assert_eq!(why, "features that this host does not know");
    }

    #[test]
    fn this_program_is_built_for_the_lowest_level() {
        assert_eq!(Cpu::detect().lacks(CpuLevel::V2.features()), None);
    }

    #[test]
    fn what_is_detected_is_what_linux_says() {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
        let flags: Vec<&str> = flags.unwrap().split_whitespace().collect();
        for level in CpuLevel::ALL {
            for name in level.adds() {
                let bit = CPU_FEATURES.iter().position(|known| known == name).unwrap();
                let flag = match *name {
                    "cmpxchg16b" => "cx16".to_owned(),
                    "sse3" => "pni".to_owned(),
                    "lzcnt" => "abm".to_owned(),
                    name => name.replace('.', "_"),
                };
                let has = Cpu::detect().lacks(1_u64 << bit).is_none();
                assert_eq!(flags.contains(&flag.as_str()), has, "{name}");
            }
        }
    }
}
