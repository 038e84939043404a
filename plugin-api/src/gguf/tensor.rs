//! The table of tensors.

use std::collections::HashMap;

use super::reader::{Fault, Reader, shown};
use crate::levels::{TENSOR_TYPES, TensorType};

/// A tensor: its shape, its number format, and its place in the file. No side is 0, rows divide into the format's blocks,
/// and all of its data is in the file.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Lengths of its sides, at most four. The first is the length of a row.
    sides: Vec<u64>,
    kind: TensorType,
    elements: u64,
    bytes: u64,
    /// First byte of the data. It counts from the start of all tensors' data until [`place`] makes it count from the start
    /// of the file.
    start: u64,
}

const MAX_SIDES: u32 = 4;

/// Number formats that tensors of weights do not have.
const OTHER_TYPES: [TensorType; 9] = [
    other("Q8_1", 9, 32, 36),
    other("I8", 24, 1, 1),
    other("I16", 25, 1, 2),
    other("I32", 26, 1, 4),
    other("I64", 27, 1, 8),
    other("F64", 28, 1, 8),
    other("NVFP4", 40, 64, 36),
    other("Q1_0", 41, 128, 18),
    other("Q2_0", 42, 64, 18),
];

impl Tensor {
    /// Lengths of the sides. The first is the length of a row.
    pub fn sides(&self) -> &[u64] {
        &self.sides
    }

    /// The number format.
    pub fn kind(&self) -> TensorType {
        self.kind
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.elements
    }

    /// Size of the data in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// First byte of the data in the file.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Reads the part of an entry that follows its name.
    pub(super) fn read(reader: &mut Reader) -> Result<Self, Fault> {
        let count = reader.u32()?;
        if !(1..=MAX_SIDES).contains(&count) {
            return Err(Fault::wrong(format!(
                "has {count} dimensions, but tensors have 1 to {MAX_SIDES}"
            )));
        }
        let sides: Vec<_> = (0..count).map(|_| reader.u64()).collect::<Result<_, _>>()?;
        let kind = find_type(reader.u32()?)?;
        let start = reader.u64()?;
        let (elements, bytes) = size(&sides, kind)?;
        Ok(Self {
            sides,
            kind,
            elements,
            bytes,
            start,
        })
    }

    fn end(&self) -> Option<u64> {
        self.start.checked_add(self.bytes)
    }
}

/// Turns the tensors' offsets into places in the file. Their data follows the header, which was just read.
pub fn place(
    tensors: &mut HashMap<String, Tensor>,
    header: &Reader,
    alignment: u64,
) -> Result<(), Fault> {
    let data = header.at().checked_next_multiple_of(alignment);
    // In a fixed order, so that the same file is always refused for the same reason.
    let mut named: Vec<_> = tensors.iter_mut().collect();
    named.sort_unstable_by_key(|(name, _)| *name);
    for (name, tensor) in named {
        if !tensor.start.is_multiple_of(alignment) {
            let start = tensor.start;
            let what = format!("begins at byte {start}, which is no multiple of {alignment}");
            return Err(Fault::wrong(what).of(name));
        }
        let start = data.and_then(|data| data.checked_add(tensor.start));
        tensor.start = start.unwrap_or(u64::MAX);
        let file_bytes = header.file_bytes();
        if tensor.end().is_none_or(|end| end > file_bytes) {
            let (bytes, start) = (tensor.bytes, tensor.start);
            let what =
                format!("takes {bytes} bytes from byte {start} on, but the file has {file_bytes}");
            return Err(Fault::wrong(what).of(name));
        }
    }
    check_apart(tensors)
}

/// Checks that tensors do not overlap. Otherwise a small file could claim any number of large tensors.
fn check_apart(tensors: &HashMap<String, Tensor>) -> Result<(), Fault> {
    let mut places: Vec<_> = tensors.iter().collect();
    places.sort_unstable_by_key(|(_, tensor)| tensor.start);
    for pair in places.windows(2) {
        let [(name, first), (other, second)] = pair else {
            continue;
        };
        if first.end() > Some(second.start) {
            let what = format!("reaches into the tensor {:?}", shown(other));
            return Err(Fault::wrong(what).of(name));
        }
    }
    Ok(())
}

/// Number of elements of a tensor, and its size in bytes.
fn size(sides: &[u64], kind: TensorType) -> Result<(u64, u64), Fault> {
    if sides.contains(&0) {
        return Err(Fault::wrong("has a dimension of 0"));
    }
    let elements = sides
        .iter()
        .try_fold(1u64, |product, &side| product.checked_mul(side));
    if !sides[0].is_multiple_of(kind.block.into()) {
        return Err(Fault::wrong(format!(
            "has rows of {}, which do not divide into the blocks of {} of {}",
            sides[0], kind.block, kind.name
        )));
    }
    let blocks = elements.map(|elements| elements / u64::from(kind.block));
    let bytes = blocks.and_then(|blocks| blocks.checked_mul(kind.block_bytes.into()));
    // Backends count in signed numbers.
    elements
        .zip(bytes.filter(|&bytes| i64::try_from(bytes).is_ok()))
        .ok_or_else(|| Fault::wrong(format!("has dimensions that are too large: {sides:?}")))
}

fn find_type(number: u32) -> Result<TensorType, Fault> {
    let mut types = TENSOR_TYPES.iter().chain(&OTHER_TYPES);
    let found = types.find(|kind| kind.ggml == number);
    found.copied().ok_or_else(|| {
        Fault::wrong(format!(
            "is of type {number}, which no weights have that are known"
        ))
    })
}

const fn other(name: &'static str, ggml: u32, block: u32, block_bytes: u32) -> TensorType {
    TensorType {
        name,
        ggml,
        block,
        block_bytes,
    }
}
