//! The kernel, for each of the instruction sets that there is one for: one loop, and what they do in it.

mod avx2;
mod avx512;

use std::{arch::x86_64::*, ops::Range};

use candle_core::quantized::GgmlDType;

use super::{
    GROUP, RoundedRows,
    packed::{LANES, Layout, Line, Packed, QUAD, QUADS, STRIP, VECTORS},
};
use crate::kernels::gemm::Target;

/// Lines between what is read and what is asked for, so that it is there in time: measured, for so many rows at once.
const fn ahead(rows: usize) -> usize {
    match rows {
        1 => 32,
        _ => 256,
    }
}

/// Registers of outputs in a tile. With them and up to six rows, few sums or none go through memory: measured.
const REGISTERS: usize = 2;

/// Instructions that there is a kernel for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// AVX-512 with VNNI.
    Avx512,
    /// AVX2 with FMA and F16C.
    Avx2,
}

impl Kernel {
    /// The fastest first.
    pub const ALL: [Self; 2] = [Self::Avx512, Self::Avx2];

    /// Whether this CPU has them.
    pub fn is_available(self) -> bool {
        match self {
            Self::Avx512 => avx512::is_available(),
            Self::Avx2 => avx2::is_available(),
        }
    }

    /// # Safety
    /// As for [`super::multiply`].
    pub unsafe fn multiply(
        self,
        input: &RoundedRows,
        weights: &Packed,
        strips: Range<usize>,
        target: Target,
    ) {
        let product = Product {
            input,
            weights,
            target,
        };
        // SAFETY: the caller promises it.
        unsafe {
            match weights.kind() {
                GgmlDType::Q8_0 => self.run::<Q8_0>(&product, strips),
                GgmlDType::Q4_0 => self.run::<Q4_0>(&product, strips),
                GgmlDType::Q4_1 => self.run::<Q4_1>(&product, strips),
                GgmlDType::Q5_0 => self.run::<Q5_0>(&product, strips),
                GgmlDType::Q5_1 => self.run::<Q5_1>(&product, strips),
                GgmlDType::Q4K => self.run::<Q4K>(&product, strips),
                GgmlDType::Q5K => self.run::<Q5K>(&product, strips),
                GgmlDType::Q6K => self.run::<Q6K>(&product, strips),
                other => unreachable!("there is no kernel for {other:?}"),
            }
        }
    }

    unsafe fn run<F: Format>(self, product: &Product, strips: Range<usize>) {
        // SAFETY: the caller promises that the CPU has the instructions.
        unsafe {
            match self {
                Self::Avx512 => avx512::run::<F>(product, strips),
                Self::Avx2 => avx2::run::<F>(product, strips),
            }
        }
    }
}

/// A type, for code of its own.
trait Format {
    const LAYOUT: Layout;
}

macro_rules! formats {
    ($($kind:ident),*) => {
        $(
            struct $kind;

            impl Format for $kind {
                const LAYOUT: Layout = match Layout::of(GgmlDType::$kind) {
                    Some(layout) => layout,
                    None => unreachable!(),
                };
            }
        )*
    };
}

formats!(Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4K, Q5K, Q6K);

/// What the loop needs of instructions. A register has a number for each of some outputs, its lanes; pointers are to as many.
/// Everything is inlined into functions that have the instructions, and called by nobody else.
trait Instructions {
    const LANES: usize;
    /// Of a tile. Its registers are whole vectors.
    const VECTORS: usize = REGISTERS * Self::LANES / LANES;
    type Floats: Copy;
    /// 32 bits each.
    type Wholes: Copy;
    /// Four of 8 bits for each output.
    type Bytes: Copy;
    /// What products are added up in.
    type Sums: Copy;

    /// For how many quads sums have room.
    fn room(layout: Layout) -> usize;
    /// How much the bytes of [`numbers`](Self::numbers) are above what they stand for.
    fn center(layout: Layout) -> i32;

    /// Four numbers of each output from `lane` on, of a vector whose lines of a group begin at `lines`.
    unsafe fn numbers(layout: Layout, lines: *const Line, quad: usize, lane: usize) -> Self::Bytes;
    /// Sums for [`end`](Self::end), which has `total` too.
    unsafe fn begin(total: Self::Wholes) -> Self::Sums;
    /// Adds the products of numbers and the same four bytes of input.
    unsafe fn add(layout: Layout, sums: Self::Sums, numbers: Self::Bytes, input: i32)
    -> Self::Sums;
    /// `total` and the sums.
    unsafe fn end(total: Self::Wholes, sums: Self::Sums) -> Self::Wholes;

    unsafe fn whole(x: i32) -> Self::Wholes;
    unsafe fn float(x: f32) -> Self::Floats;
    unsafe fn widen(x: Self::Wholes) -> Self::Floats;
    unsafe fn multiply(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a · b + c`
    unsafe fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// Numbers of 16 bits.
    unsafe fn halves(at: *const u8) -> Self::Floats;
    /// Whole numbers of 8 bits.
    unsafe fn bytes(at: *const u8) -> Self::Floats;
    /// Writes the first `outputs`.
    unsafe fn store(to: *mut f32, outputs: usize, floats: Self::Floats);
}

struct Product<'a> {
    input: &'a RoundedRows,
    weights: &'a Packed,
    target: Target,
}

/// Some rows of input from `row` on, with some outputs of a strip from its vector `vector` on.
#[derive(Clone, Copy)]
struct Tile {
    row: usize,
    strip: usize,
    vector: usize,
}

impl Product<'_> {
    /// All rows with some strips.
    #[inline(always)]
    unsafe fn strips<I: Instructions, F: Format>(&self, strips: Range<usize>) {
        let rows = self.input.count();
        let tiles = strips.flat_map(|strip| {
            let vectors = (0..VECTORS).step_by(I::VECTORS);
            vectors.map(move |vector| Tile {
                row: 0,
                strip,
                vector,
            })
        });
        for mut tile in tiles {
            // SAFETY: tiles are within the rows and strips that there are.
            unsafe {
                while tile.row + 6 <= rows {
                    self.tile::<I, F, 6>(tile);
                    tile.row += 6;
                }
                match rows - tile.row {
                    1 => self.tile::<I, F, 1>(tile),
                    2 => self.tile::<I, F, 2>(tile),
                    3 => self.tile::<I, F, 3>(tile),
                    4 => self.tile::<I, F, 4>(tile),
                    5 => self.tile::<I, F, 5>(tile),
                    _ => {}
                }
            }
        }
    }

    /// A tile of `R` rows.
    #[inline(always)]
    unsafe fn tile<I: Instructions, F: Format, const R: usize>(&self, tile: Tile) {
        let layout = F::LAYOUT;
        let groups = self.input.groups;
        // SAFETY: the weights have the strip, and the input the rows and groups.
        unsafe {
            let lines = self.weights.lines(tile.strip).as_ptr();
            let lines = lines.add(tile.vector * layout.lines());
            let scales = self.weights.scales(tile.strip).as_ptr();
            let scales = scales.add(tile.vector * layout.scale_bytes());
            let mut sums = [[I::float(0.0); R]; REGISTERS];
            for group in 0..groups {
                let (block, own) = (group / layout.groups, group % layout.groups);
                let scales = scales.add(block * VECTORS * layout.scale_bytes());
                let lines = lines.add(group * VECTORS * layout.lines());
                prefetch(lines.wrapping_add(ahead(R)), I::VECTORS * layout.lines());
                for part in 0..layout.parts {
                    let products = self.products::<I, F, R>(lines, tile.row, group, part);
                    for (w, (sums, products)) in sums.iter_mut().zip(products).enumerate() {
                        let scale = scale::<I, F>(scales, w, own * layout.parts + part);
                        for (r, (sum, product)) in sums.iter_mut().zip(products).enumerate() {
                            let input = (tile.row + r) * groups + group;
                            let input = I::float(*self.input.scales.get_unchecked(input));
                            let scale = I::multiply(scale, input);
                            *sum = I::multiply_add(I::widen(product), scale, *sum);
                        }
                    }
                }
                if layout.has_offset {
                    for (w, sums) in sums.iter_mut().enumerate() {
                        let offset = offset::<I, F>(scales, w, own);
                        for (r, sum) in sums.iter_mut().enumerate() {
                            let input = (tile.row + r) * groups + group;
                            let input = I::float(*self.input.sums.get_unchecked(input));
                            *sum = I::multiply_add(offset, input, *sum);
                        }
                    }
                }
            }
            self.store::<I, R>(&sums, tile);
        }
    }

    /// Of a part of a group, in whole numbers.
    #[inline(always)]
    unsafe fn products<I: Instructions, F: Format, const R: usize>(
        &self,
        lines: *const Line,
        row: usize,
        group: usize,
        part: usize,
    ) -> [[I::Wholes; R]; REGISTERS] {
        let layout = F::LAYOUT;
        let quads = QUADS / layout.parts;
        let room = I::room(layout).min(quads);
        // SAFETY: as above.
        unsafe {
            let mut totals = self.totals::<I, F, R>(row, group, part);
            for some in 0..quads / room {
                let mut sums = [[I::begin(totals[0][0]); R]; REGISTERS];
                for (sums, totals) in sums.iter_mut().zip(totals) {
                    for (sum, total) in sums.iter_mut().zip(totals) {
                        *sum = I::begin(total);
                    }
                }
                // One register after the other, so that memory is read from one end to the other.
                for (w, sums) in sums.iter_mut().enumerate() {
                    let (vector, lane) = place::<I>(w);
                    let lines = lines.add(vector * layout.lines());
                    for quad in 0..room {
                        let quad = part * quads + some * room + quad;
                        let numbers = I::numbers(layout, lines, quad, lane);
                        for (r, sum) in sums.iter_mut().enumerate() {
                            let at = ((row + r) * self.input.groups + group) * GROUP + quad * QUAD;
                            let input = self.input.bytes.as_ptr().add(at).cast::<i32>();
                            *sum = I::add(layout, *sum, numbers, input.read_unaligned());
                        }
                    }
                }
                for (totals, sums) in totals.iter_mut().zip(sums) {
                    for (total, sum) in totals.iter_mut().zip(sums) {
                        *total = I::end(*total, sum);
                    }
                }
            }
            totals
        }
    }

    /// What the products of a part begin with: the numbers are above what they stand for.
    #[inline(always)]
    unsafe fn totals<I: Instructions, F: Format, const R: usize>(
        &self,
        row: usize,
        group: usize,
        part: usize,
    ) -> [[I::Wholes; R]; REGISTERS] {
        // SAFETY: as above.
        unsafe {
            let mut totals = [[I::whole(0); R]; REGISTERS];
            let center = I::center(F::LAYOUT);
            if center == 0 {
                return totals;
            }
            for r in 0..R {
                let at = ((row + r) * self.input.groups + group) * 2;
                let halves = &self.input.halves;
                let sum = match F::LAYOUT.parts {
                    1 => halves.get_unchecked(at) + halves.get_unchecked(at + 1),
                    _ => *halves.get_unchecked(at + part),
                };
                for totals in &mut totals {
                    totals[r] = I::whole(-center * sum);
                }
            }
            totals
        }
    }

    #[inline(always)]
    unsafe fn store<I: Instructions, const R: usize>(
        &self,
        sums: &[[I::Floats; R]; REGISTERS],
        tile: Tile,
    ) {
        for (w, sums) in sums.iter().enumerate() {
            let first = tile.strip * STRIP + tile.vector * LANES + w * I::LANES;
            let outputs = self.weights.outputs().saturating_sub(first).min(I::LANES);
            for (r, sum) in sums.iter().enumerate() {
                let at = (tile.row + r) * self.target.stride + first;
                // SAFETY: the target has the rows, and nothing is written beyond the last output.
                unsafe { I::store(self.target.start.wrapping_add(at), outputs, *sum) };
            }
        }
    }
}

/// Asks for lines that are read soon, into the second cache.
#[inline(always)]
unsafe fn prefetch(lines: *const Line, count: usize) {
    for line in 0..count {
        // SAFETY: this reads nothing, and may ask for what does not exist.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(lines.wrapping_add(line).cast()) };
    }
}

/// The vector and the lane where a register of a tile begins.
#[inline(always)]
fn place<I: Instructions>(register: usize) -> (usize, usize) {
    let output = register * I::LANES;
    (output / LANES, output % LANES)
}

/// What the products of a part are to be multiplied with.
#[inline(always)]
unsafe fn scale<I: Instructions, F: Format>(
    scales: *const u8,
    register: usize,
    part: usize,
) -> I::Floats {
    let own = F::LAYOUT.own_scales() + part * LANES;
    // SAFETY: the caller has the scales of a block there.
    unsafe { factor::<I, F>(scales, register, 0, own) }
}

/// What the sum of a group's inputs is to be multiplied with.
#[inline(always)]
unsafe fn offset<I: Instructions, F: Format>(
    scales: *const u8,
    register: usize,
    group: usize,
) -> I::Floats {
    let own = F::LAYOUT.own_offsets() + group * LANES;
    // SAFETY: as above.
    unsafe { factor::<I, F>(scales, register, 2 * LANES, own) }
}

/// The block's number, of 16 bits, times the own one, of 8, if there are any: `of_block` and `own` are where those of a vector
/// begin.
#[inline(always)]
unsafe fn factor<I: Instructions, F: Format>(
    scales: *const u8,
    register: usize,
    of_block: usize,
    own: usize,
) -> I::Floats {
    let (vector, lane) = place::<I>(register);
    // SAFETY: as above.
    unsafe {
        let scales = scales.add(vector * F::LAYOUT.scale_bytes());
        let of_block = I::halves(scales.add(of_block + 2 * lane));
        match F::LAYOUT.groups {
            1 => of_block,
            _ => I::multiply(of_block, I::bytes(scales.add(own + lane))),
        }
    }
}
