/// The random bits of one sequence: a function of its seed and the position only.
pub struct Draws(u64);

impl Draws {
    /// The draws of a request's sequence with this index.
    pub fn new(seed: u64, index: u64) -> Self {
        // Multiples of the golden ratio keep the seeds of one request apart from those of a request with the next seed.
        Self(seed.wrapping_add(index.wrapping_mul(GOLDEN_RATIO)))
    }

    /// Uniform bits for the token at this position.
    pub fn at(&self, position: u32) -> u64 {
        mix(mix(self.0).wrapping_add(position.into()))
    }
}

/// 2^64 divided by the golden ratio.
const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014): a bijection whose output bits all depend on all input bits.
fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(GOLDEN_RATIO);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
