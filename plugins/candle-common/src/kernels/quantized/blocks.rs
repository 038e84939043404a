//! Decodes blocks of weights from the form in which files store them.

use candle_core::quantized::GgmlDType;

/// One block: `weight = scale · own scale · (number − center) + offset · own offset`.
pub struct DecodedBlock {
    /// The block's scale and offset, as bits of 16-bit floats.
    pub scale: u16,
    pub offset: u16,
    /// Scales and offsets of each part of 16 or 32 numbers, for types whose parts have their own.
    pub scales: [u8; 16],
    pub offsets: [u8; 8],
    /// The numbers. A type fills as many as it has in a block.
    pub numbers: [u8; 256],
}

/// The sign bit of a 16-bit float.
const SIGN: u16 = 0x8000;

impl DecodedBlock {
    /// Decodes a block of this type.
    pub fn read(bytes: &[u8], kind: GgmlDType) -> Self {
        let mut block = Self {
            scale: half(bytes, 0),
            offset: 0,
            scales: [0; 16],
            offsets: [0; 8],
            numbers: [0; 256],
        };
        match kind {
            GgmlDType::Q8_0 => block.read_bytes(&bytes[2..]),
            GgmlDType::Q4_0 => block.read_nibbles(&bytes[2..]),
            GgmlDType::Q5_0 => block.read_five_bits(&bytes[2..]),
            GgmlDType::Q4_1 => {
                block.offset = half(bytes, 2);
                block.read_nibbles(&bytes[4..]);
            }
            GgmlDType::Q5_1 => {
                block.offset = half(bytes, 2);
                block.read_five_bits(&bytes[4..]);
            }
            GgmlDType::Q4K | GgmlDType::Q5K => block.read_four_or_five_bits(bytes, kind),
            GgmlDType::Q6K => block.read_six_bits(bytes),
            other => unreachable!("{other:?} has no layout"),
        }
        block
    }

    fn read_bytes(&mut self, bytes: &[u8]) {
        for (number, byte) in self.numbers.iter_mut().zip(bytes) {
            *number = byte ^ 0x80;
        }
    }

    /// Reads 32 numbers of 4 bits: first the low halves of all bytes, then the high halves.
    fn read_nibbles(&mut self, bytes: &[u8]) {
        for (at, byte) in bytes[..16].iter().enumerate() {
            self.numbers[at] = byte & 15;
            self.numbers[at + 16] = byte >> 4;
        }
    }

    fn read_five_bits(&mut self, bytes: &[u8]) {
        self.read_nibbles(&bytes[4..]);
        for (at, number) in self.numbers[..32].iter_mut().enumerate() {
            *number |= (bytes[at / 8] >> (at % 8) & 1) << 4;
        }
    }

    /// Reads a block of a K type with offsets. The file's offsets are subtracted, so their sign is inverted.
    fn read_four_or_five_bits(&mut self, bytes: &[u8], kind: GgmlDType) {
        self.offset = half(bytes, 2) ^ SIGN;
        let packed = &bytes[4..16];
        for group in 0..8 {
            // Scales and offsets have six bits each. Those of the last groups are split into two pieces.
            (self.scales[group], self.offsets[group]) = match group {
                0..4 => (packed[group] & 63, packed[group + 4] & 63),
                _ => (
                    packed[group + 4] & 15 | packed[group - 4] >> 6 << 4,
                    packed[group + 4] >> 4 | packed[group] >> 6 << 4,
                ),
            };
        }
        let (fifth, halves) = match kind {
            GgmlDType::Q5K => bytes[16..].split_at(32),
            _ => (&[][..], &bytes[16..]),
        };
        // Two groups share bytes: the first has the low halves, the second the high ones.
        let pairs = self.numbers.chunks_exact_mut(64);
        for (numbers, bytes) in pairs.zip(halves.chunks_exact(32)) {
            let (low, high) = numbers.split_at_mut(32);
            for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
                (*low, *high) = (byte & 15, byte >> 4);
            }
        }
        for (group, numbers) in self.numbers.chunks_exact_mut(32).enumerate() {
            for (number, byte) in numbers.iter_mut().zip(fifth) {
                *number |= (byte >> group & 1) << 4;
            }
        }
    }

    fn read_six_bits(&mut self, bytes: &[u8]) {
        let (low, high) = (&bytes[..128], &bytes[128..192]);
        self.scales.copy_from_slice(&bytes[192..208]);
        self.scale = half(bytes, 208);
        // Each half of the block has four rows of 32 numbers. Two rows share bytes of low bits, and all four share bytes of
        // high bits.
        for (at, row) in self.numbers.chunks_exact_mut(32).enumerate() {
            let (half, at) = (at / 4, at % 4);
            let low = &low[half * 64 + at % 2 * 32..][..32];
            let high = &high[half * 32..][..32];
            for ((number, low), high) in row.iter_mut().zip(low).zip(high) {
                *number = low >> (at / 2 * 4) & 15 | (high >> (at * 2) & 3) << 4;
            }
        }
    }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}
