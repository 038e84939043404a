//! Random weights that are the same on every machine.

/// SplitMix64: its numbers are good whatever the seed is.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number evenly distributed around 0, with a standard deviation of 1.
    pub fn number(&mut self) -> f32 {
        // The variance of the unit interval is a twelfth.
        let unit = (self.bits() >> 40) as f32 / (1 << 24) as f32;
        (unit - 0.5) * 12_f32.sqrt()
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
