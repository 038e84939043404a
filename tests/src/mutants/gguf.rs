//! Puts mistakes into GGUF files.

use fastrand::Rng;

/// A number in a header: its place and its length in bytes.
#[derive(Clone, Copy)]
pub struct Field {
    at: usize,
    len: usize,
}

/// Values that numbers are changed to.
const NUMBERS: [u64; 22] = [
    0,
    1,
    2,
    3,
    7,
    8,
    9,
    31,
    255,
    4095,
    65_535,
    1 << 20,
    i32::MAX as u64,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 40,
    (1 << 42) + 1,
    i64::MAX as u64,
    1 << 63,
    // Bits of floats of four bytes: NaN and infinity.
    0x7FC0_0000,
    0x7F80_0000,
];

/// Sets one of the numbers to a value that is likely to be wrong.
pub fn change_field(bytes: &mut [u8], fields: &[Field], random: &mut Rng) -> String {
    let Field { at, len } = fields[random.usize(0..fields.len())];
    let number = match random.u32(0..4) {
        0 => u64::MAX,
        1 => random.u64(..),
        _ => NUMBERS[random.usize(0..NUMBERS.len())],
    };
    let Some(place) = bytes.get_mut(at..at + len) else {
        return String::new();
    };
    place.copy_from_slice(&number.to_le_bytes()[..len]);
    format!("the {len} bytes at {at} are {number:#x}; ")
}

/// Sets one of the weights to NaN or to infinity.
pub fn break_weight(bytes: &mut [u8], data: usize, random: &mut Rng) -> String {
    let weights = bytes.len().saturating_sub(data) / 4;
    if weights == 0 {
        return String::new();
    }
    let at = data + 4 * random.usize(0..weights);
    let weight = if random.bool() {
        f32::NAN
    } else {
        f32::INFINITY
    };
    bytes[at..at + 4].copy_from_slice(&weight.to_le_bytes());
    format!("the weight at {at} is {weight}; ")
}

/// The numbers of a header, and where the tensors' data begins. Of long lists it has only the first numbers.
pub fn fields(bytes: &[u8]) -> (Vec<Field>, usize) {
    let mut header = Header {
        bytes,
        at: 4,
        fields: Vec::new(),
    };
    header.number(4);
    let (tensors, pairs) = (header.number(8), header.number(8));
    for _ in 0..pairs {
        header.text();
        let kind = header.number(4);
        header.value(kind);
    }
    for _ in 0..tensors {
        header.text();
        for _ in 0..header.number(4) {
            header.number(8);
        }
        header.number(4);
        header.number(8);
    }
    (header.fields, header.at.next_multiple_of(32))
}

struct Header<'a> {
    bytes: &'a [u8],
    at: usize,
    fields: Vec<Field>,
}

impl Header<'_> {
    fn number(&mut self, len: usize) -> u64 {
        self.fields.push(Field { at: self.at, len });
        let mut number = [0; 8];
        number[..len].copy_from_slice(&self.bytes[self.at..self.at + len]);
        self.at += len;
        u64::from_le_bytes(number)
    }

    fn text(&mut self) {
        self.at += self.number(8) as usize;
    }

    fn value(&mut self, kind: u64) {
        let len = match kind {
            8 => return self.text(),
            9 => return self.list(),
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            _ => 8,
        };
        self.number(len);
    }

    fn list(&mut self) {
        let (kind, count) = (self.number(4), self.number(8));
        let first = self.fields.len();
        for _ in 0..count {
            self.value(kind);
        }
        self.fields.truncate(first + 3);
    }
}
