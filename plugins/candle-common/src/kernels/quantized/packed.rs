//! Quantized weights in the order in which the kernel reads them.
//!
//! A vector has four numbers of each of [`LANES`] outputs. So one instruction adds to the sums of all of these outputs, or
//! of half of them if registers are smaller. These outputs are a *strip*: the kernel reads a strip's weights from one end to
//! the other. The weights take as much memory as in the order of the files, which this order replaces.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use bytemuck::{Pod, Zeroable};
use candle_core::quantized::GgmlDType;
use half::f16;

use super::{GROUP, blocks::DecodedBlock};
use crate::{
    kernels::memory::{Arena, Memory},
    pool,
};

/// Outputs of a vector and of a strip. A matrix is padded to whole strips.
pub const LANES: usize = 16;
/// Inputs of one output whose products are one instruction.
pub const QUAD: usize = 4;
/// Quads of a group.
pub const QUADS: usize = GROUP / QUAD;

/// A cache line, which is one vector.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Line(pub [u8; LANES * QUAD]);

impl Line {
    /// The four numbers of each output.
    fn quads(&mut self) -> &mut [[u8; QUAD]] {
        self.0.as_chunks_mut().0
    }
}

/// How a type encodes weights: `weight = scale · (number − center) + offset`.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Bits of a number: 8, or a nibble with one or two bits above it.
    pub bits: usize,
    /// Added to every number, so that no stored number is negative.
    pub center: i32,
    pub has_offset: bool,
    /// Groups of a block. If there are several, each group has small factors of its own for the block's scale and offset.
    pub groups: usize,
    /// Number of scales of a group.
    pub parts: usize,
}

impl Layout {
    /// None for types without a kernel.
    pub const fn of(kind: GgmlDType) -> Option<Self> {
        let (bits, center, has_offset, groups, parts) = match kind {
            GgmlDType::Q8_0 => (8, 128, false, 1, 1),
            GgmlDType::Q4_0 => (4, 8, false, 1, 1),
            GgmlDType::Q4_1 => (4, 0, true, 1, 1),
            GgmlDType::Q5_0 => (5, 16, false, 1, 1),
            GgmlDType::Q5_1 => (5, 0, true, 1, 1),
            GgmlDType::Q4K => (4, 0, true, 8, 1),
            GgmlDType::Q5K => (5, 0, true, 8, 1),
            GgmlDType::Q6K => (6, 32, false, 8, 2),
            _ => return None,
        };
        Some(Self {
            bits,
            center,
            has_offset,
            groups,
            parts,
        })
    }

    /// Number of lines that a group has in a strip. The first lines have the nibbles of two quads each. Then come lines with
    /// the bits above the nibbles, of eight or four quads each.
    pub const fn lines(self) -> usize {
        match self.bits {
            8 => QUADS,
            bits => QUADS / 2 + bits - 4,
        }
    }

    /// Place of the bits above a quad's nibbles: the line, and the lowest of these bits in each byte. None if there are no
    /// such bits.
    pub const fn high(self, quad: usize) -> Option<(usize, usize)> {
        match self.bits {
            5 => Some((QUADS / 2, quad)),
            6 => Some((QUADS / 2 + quad / 4, quad % 4 * 2)),
            _ => None,
        }
    }

    /// A mask for the bits that a number has above its nibble, at the lowest place.
    pub const fn high_mask(self) -> u32 {
        (1 << (self.bits - 4)) - 1
    }

    /// Bytes that the scales of one block take in a strip.
    pub const fn scale_bytes(self) -> usize {
        self.own_offsets()
            + if self.has_offset && self.groups > 1 {
                self.groups * LANES
            } else {
                0
            }
    }

    /// Where the parts' own scales begin in those bytes: behind the block's scales and offsets, which have 16 bits each.
    pub const fn own_scales(self) -> usize {
        2 * LANES * if self.has_offset { 2 } else { 1 }
    }

    /// Where the groups' own offsets begin in those bytes. Groups come in pairs: for each pair, every output has one byte of
    /// the first group and one of the second.
    pub const fn own_offsets(self) -> usize {
        self.own_scales()
            + if self.groups > 1 {
                self.groups * self.parts * LANES
            } else {
                0
            }
    }
}

/// A matrix of weights: `[outputs, inputs]`.
pub struct Packed {
    kind: GgmlDType,
    layout: Layout,
    outputs: usize,
    inputs: usize,
    /// `[strips, groups, layout.lines()]`
    lines: Memory<Line>,
    /// `[strips, blocks, layout.scale_bytes()]`
    scales: Memory<u8>,
}

impl Packed {
    /// Packs whole rows of weights for `inputs` inputs. None for types without a kernel.
    ///
    /// # Errors
    /// The system's error if it refuses that much memory.
    pub fn new(
        bytes: &[u8],
        kind: GgmlDType,
        inputs: usize,
        arena: &Arena,
    ) -> io::Result<Option<Self>> {
        let Some(layout) = Layout::of(kind) else {
            return Ok(None);
        };
        let row_bytes = inputs / kind.block_size() * kind.type_size();
        let outputs = bytes.len() / row_bytes;
        let strips = outputs.div_ceil(LANES);
        let (groups, blocks) = (inputs / GROUP, inputs / GROUP / layout.groups);
        let (strip_lines, strip_scales) = (groups * layout.lines(), blocks * layout.scale_bytes());
        let mut packed = Self {
            kind,
            layout,
            outputs,
            inputs,
            lines: arena.zeros(strips * strip_lines)?,
            scales: arena.zeros(strips * strip_scales)?,
        };
        let rows = bytes.chunks(LANES * row_bytes);
        let lines = packed.lines.chunks_mut(strip_lines);
        let scales = packed.scales.chunks_mut(strip_scales);
        let strips: Vec<_> = rows.zip(lines.zip(scales)).map(Mutex::new).collect();
        pool::for_each_apart(strips.len(), |strip| {
            let mut strip = strips[strip].lock().unwrap_or_else(PoisonError::into_inner);
            let (rows, (lines, scales)) = &mut *strip;
            for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
                for (at, block) in row.chunks_exact(kind.type_size()).enumerate() {
                    let block = DecodedBlock::read(block, kind);
                    layout.put_scales(&block, scales, at, lane);
                    layout.put_numbers(&block, lines, at, lane);
                }
            }
        });
        Ok(Some(packed))
    }

    pub fn kind(&self) -> GgmlDType {
        self.kind
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn bytes(&self) -> usize {
        size_of_val(&*self.lines) + self.scales.len()
    }

    pub fn strips(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    /// `[groups, layout.lines()]` of a strip.
    pub fn lines(&self, strip: usize) -> &[Line] {
        let len = self.lines.len() / self.strips();
        &self.lines[strip * len..][..len]
    }

    /// `[blocks, layout.scale_bytes()]` of a strip.
    pub fn scales(&self, strip: usize) -> &[u8] {
        let len = self.scales.len() / self.strips();
        &self.scales[strip * len..][..len]
    }

    /// The weights of one output, as floats.
    pub fn row(&self, output: usize) -> impl Iterator<Item = f32> {
        let layout = self.layout;
        let (strip, lane) = (output / LANES, output % LANES);
        let (lines, scales) = (self.lines(strip), self.scales(strip));
        let len = GROUP / layout.parts;
        (0..self.inputs / len).flat_map(move |part| {
            let group = part / layout.parts;
            let (scale, offset) = layout.scale_and_offset(scales, group, part, lane);
            let first = part % layout.parts * len;
            (first..first + len).map(move |input| {
                let number = layout.number(lines, group, input, lane) - layout.center;
                scale * number as f32 + offset
            })
        })
    }
}

// The places of scales and numbers. `lane` is an output of a strip. Blocks, groups, parts and inputs are counted within a
// row of weights.
impl Layout {
    fn put_scales(self, block: &DecodedBlock, strip: &mut [u8], number: usize, lane: usize) {
        let to = &mut strip[number * self.scale_bytes()..];
        to[2 * lane..][..2].copy_from_slice(&block.scale.to_le_bytes());
        if self.has_offset {
            to[2 * (LANES + lane)..][..2].copy_from_slice(&block.offset.to_le_bytes());
        }
        if self.groups == 1 {
            return;
        }
        for part in 0..self.groups * self.parts {
            to[self.own_scales() + part * LANES + lane] = block.scales[part];
        }
        if self.has_offset {
            for group in 0..self.groups {
                to[self.own_offset(group, lane)] = block.offsets[group];
            }
        }
    }

    fn put_numbers(self, block: &DecodedBlock, strip: &mut [Line], number: usize, lane: usize) {
        let groups = block.numbers.as_chunks::<GROUP>().0;
        for (group, numbers) in groups.iter().take(self.groups).enumerate() {
            let lines = &mut strip[(number * self.groups + group) * self.lines()..];
            for (quad, numbers) in numbers.as_chunks::<QUAD>().0.iter().enumerate() {
                if self.bits == 8 {
                    lines[quad].quads()[lane] = *numbers;
                    continue;
                }
                let (numbers, shift) = (u32::from_le_bytes(*numbers), quad % 2 * 4);
                let nibbles = (numbers & 0x0f0f_0f0f) << shift;
                let to = &mut lines[quad / 2].quads()[lane];
                *to = (u32::from_le_bytes(*to) | nibbles).to_le_bytes();
                if let Some((line, bit)) = self.high(quad) {
                    let bits = ((numbers >> 4) & (self.high_mask() * 0x0101_0101)) << bit;
                    let to = &mut lines[line].quads()[lane];
                    *to = (u32::from_le_bytes(*to) | bits).to_le_bytes();
                }
            }
        }
    }

    fn scale_and_offset(self, strip: &[u8], group: usize, part: usize, lane: usize) -> (f32, f32) {
        let at = &strip[group / self.groups * self.scale_bytes()..];
        let half = |number: usize| {
            let at = &at[2 * (number * LANES + lane)..];
            f16::from_le_bytes([at[0], at[1]]).to_f32()
        };
        let own = |place: usize| match self.groups {
            1 => 1.0,
            _ => f32::from(at[place] as i8),
        };
        let part = part % (self.groups * self.parts);
        let scale = half(0) * own(self.own_scales() + part * LANES + lane);
        match self.has_offset {
            true => (
                scale,
                half(1) * own(self.own_offset(group % self.groups, lane)),
            ),
            false => (scale, 0.0),
        }
    }

    fn number(self, strip: &[Line], group: usize, input: usize, lane: usize) -> i32 {
        let lines = &strip[group * self.lines()..][..self.lines()];
        let (quad, byte) = (input / QUAD, lane * QUAD + input % QUAD);
        if self.bits == 8 {
            return lines[quad].0[byte].into();
        }
        let nibble = (lines[quad / 2].0[byte] >> (quad % 2 * 4)) & 15;
        let high = self.high(quad).map_or(0, |(line, bit)| {
            u32::from(lines[line].0[byte] >> bit) & self.high_mask()
        });
        i32::from(nibble) + (high << 4) as i32
    }

    fn own_offset(self, group: usize, lane: usize) -> usize {
        self.own_offsets() + (group / 2 * LANES + lane) * 2 + group % 2
    }
}
