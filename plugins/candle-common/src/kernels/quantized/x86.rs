//! The kernel, for each of the instruction sets that there is one for: one loop, and what they do in it.

mod avx2;
mod avx512;

use std::{arch::x86_64::*, ops::Range};

use candle_core::quantized::GgmlDType;

use super::{
    GROUP, RoundedRows,
    packed::{LANES, Layout, Line, Packed, QUAD, QUADS},
};
use crate::kernels::gemm::Target;

/// Lines between what is read and what is asked for, so that it is there in time: measured, for so many rows at once.
const fn ahead(rows: usize) -> usize {
    match rows {
        1 => 32,
        _ => 256,
    }
}

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

    /// How much numbers are above what they stand for, as this kernel multiplies them.
    pub fn center(self, layout: Layout) -> i32 {
        match self {
            Self::Avx512 => layout.center,
            Self::Avx2 => avx2::center(layout),
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
    /// Most rows of a tile: so many that few sums or none go through memory.
    const ROWS: usize;
    type Floats: Copy;
    /// 32 bits each.
    type Wholes: Copy;
    /// Four of 8 bits for each output.
    type Bytes: Copy;
    /// What products are added up in.
    type Sums: Copy;

    /// For how many quads sums have room.
    fn room(layout: Layout) -> usize;
    /// Four numbers of each output from `lane` on, of a strip whose lines of a group begin at `lines`.
    unsafe fn numbers(layout: Layout, lines: *const Line, quad: usize, lane: usize) -> Self::Bytes;
    /// Sums for [`end`](Self::end), which has `total` too.
    unsafe fn begin(total: Self::Wholes) -> Self::Sums;
    /// Adds the products of numbers and the same four bytes of input.
    unsafe fn add(layout: Layout, sums: Self::Sums, numbers: Self::Bytes, input: i32)
    -> Self::Sums;
    /// `total` and the sums.
    unsafe fn end(total: Self::Wholes, sums: Self::Sums) -> Self::Wholes;

    /// Adds the products of two numbers of 8 bits of each output and the same two of 16 bits.
    unsafe fn add_pairs(total: Self::Wholes, pairs: *const u8, input: i32) -> Self::Wholes;

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

/// Sums of some rows for the registers of a strip.
type Tile<T, const R: usize, const W: usize> = [[T; R]; W];

impl Product<'_> {
    /// All rows with some strips. A strip has `W` registers.
    #[inline(always)]
    unsafe fn strips<I: Instructions, F: Format, const W: usize>(&self, strips: Range<usize>) {
        let rows = self.input.rows;
        // As even as possible: a tile of few rows takes more time for each.
        let height = rows.div_ceil(rows.div_ceil(I::ROWS).max(1));
        for strip in strips {
            let mut row = 0;
            while row < rows {
                let height = height.min(rows - row);
                // SAFETY: tiles are within the rows and strips that there are.
                unsafe {
                    match height {
                        1 => self.tile::<I, F, 1, W>(row, strip),
                        2 => self.tile::<I, F, 2, W>(row, strip),
                        3 => self.tile::<I, F, 3, W>(row, strip),
                        4 => self.tile::<I, F, 4, W>(row, strip),
                        5 => self.tile::<I, F, 5, W>(row, strip),
                        6 => self.tile::<I, F, 6, W>(row, strip),
                        7 if I::ROWS > 6 => self.tile::<I, F, 7, W>(row, strip),
                        8 if I::ROWS > 6 => self.tile::<I, F, 8, W>(row, strip),
                        _ => unreachable!("no tile is as high"),
                    }
                }
                row += height;
            }
        }
    }

    /// A tile of `R` rows from `row` on.
    #[inline(always)]
    unsafe fn tile<I: Instructions, F: Format, const R: usize, const W: usize>(
        &self,
        row: usize,
        strip: usize,
    ) {
        let layout = F::LAYOUT;
        let blocks = self.input.groups / layout.groups;
        // SAFETY: the weights have the strip, and the input the rows and blocks.
        unsafe {
            let lines = self.weights.lines(strip).as_ptr();
            let scales = self.weights.scales(strip).as_ptr();
            let mut sums = [[I::float(0.0); R]; W];
            for block in 0..blocks {
                let scales = scales.add(block * layout.scale_bytes());
                let mut own = self.offsets::<I, F, R, W>(scales, row, block);
                for number in 0..layout.groups {
                    let group = block * layout.groups + number;
                    let lines = lines.add(group * layout.lines());
                    prefetch(lines.wrapping_add(ahead(R)), layout.lines());
                    for part in 0..layout.parts {
                        let products = self.products::<I, F, R, W>(lines, row, group, part);
                        for (w, (own, products)) in own.iter_mut().zip(products).enumerate() {
                            let scale = scale::<I, F>(scales, w, number * layout.parts + part);
                            for (own, product) in own.iter_mut().zip(products) {
                                *own = I::multiply_add(I::widen(product), scale, *own);
                            }
                        }
                    }
                }
                for r in 0..R {
                    let scale = self.input.scales.get_unchecked((row + r) * blocks + block);
                    let scale = I::float(*scale);
                    for (sums, own) in sums.iter_mut().zip(&own) {
                        sums[r] = I::multiply_add(own[r], scale, sums[r]);
                    }
                }
            }
            self.store::<I, R, W>(&sums, row, strip);
        }
    }

    /// What the offsets of a block add, in the unit of its inputs.
    #[inline(always)]
    unsafe fn offsets<I: Instructions, F: Format, const R: usize, const W: usize>(
        &self,
        scales: *const u8,
        row: usize,
        block: usize,
    ) -> Tile<I::Floats, R, W> {
        let layout = F::LAYOUT;
        // SAFETY: as above.
        unsafe {
            let mut offsets = [[I::float(0.0); R]; W];
            if !layout.has_offset {
                return offsets;
            }
            for (w, offsets) in offsets.iter_mut().enumerate() {
                let lane = w * I::LANES;
                let of_block = I::halves(scales.add(2 * (LANES + lane)));
                for (r, offset) in offsets.iter_mut().enumerate() {
                    let at = (row + r) * self.input.groups + block * layout.groups;
                    let sums = self.input.sums.as_ptr().add(at);
                    let total = match layout.groups {
                        1 => I::whole((*sums).into()),
                        _ => {
                            let mut total = I::whole(0);
                            for pair in 0..layout.groups / 2 {
                                let own = layout.own_offsets() + 2 * (pair * LANES + lane);
                                let sums = sums.add(2 * pair).cast::<i32>().read_unaligned();
                                total = I::add_pairs(total, scales.add(own), sums);
                            }
                            total
                        }
                    };
                    *offset = I::multiply(of_block, I::widen(total));
                }
            }
            offsets
        }
    }

    /// Of a part of a group, in whole numbers.
    #[inline(always)]
    unsafe fn products<I: Instructions, F: Format, const R: usize, const W: usize>(
        &self,
        lines: *const Line,
        row: usize,
        group: usize,
        part: usize,
    ) -> Tile<I::Wholes, R, W> {
        let layout = F::LAYOUT;
        let quads = QUADS / layout.parts;
        let room = I::room(layout).min(quads);
        // SAFETY: as above.
        unsafe {
            let mut totals = self.starts::<I, F, R, W>(row, group, part);
            for some in 0..quads / room {
                for (w, totals) in totals.iter_mut().enumerate() {
                    let mut sums = totals.map(|total| I::begin(total));
                    for quad in 0..room {
                        let quad = part * quads + some * room + quad;
                        let numbers = I::numbers(layout, lines, quad, w * I::LANES);
                        for (r, sum) in sums.iter_mut().enumerate() {
                            let at = ((row + r) * self.input.groups + group) * GROUP + quad * QUAD;
                            let input = self.input.bytes.as_ptr().add(at).cast::<i32>();
                            *sum = I::add(layout, *sum, numbers, input.read_unaligned());
                        }
                    }
                    for (total, sum) in totals.iter_mut().zip(sums) {
                        *total = I::end(*total, sum);
                    }
                }
            }
            totals
        }
    }

    /// What the products of a part begin with.
    #[inline(always)]
    unsafe fn starts<I: Instructions, F: Format, const R: usize, const W: usize>(
        &self,
        row: usize,
        group: usize,
        part: usize,
    ) -> Tile<I::Wholes, R, W> {
        let starts = &self.input.starts;
        // SAFETY: as above.
        unsafe {
            let mut totals = [[I::whole(0); R]; W];
            if starts.is_empty() {
                return totals;
            }
            for r in 0..R {
                let at = ((row + r) * self.input.groups + group) * F::LAYOUT.parts + part;
                let start = I::whole(*starts.get_unchecked(at));
                totals.iter_mut().for_each(|totals| totals[r] = start);
            }
            totals
        }
    }

    #[inline(always)]
    unsafe fn store<I: Instructions, const R: usize, const W: usize>(
        &self,
        sums: &Tile<I::Floats, R, W>,
        row: usize,
        strip: usize,
    ) {
        for (w, sums) in sums.iter().enumerate() {
            let first = strip * LANES + w * I::LANES;
            let outputs = self.weights.outputs().saturating_sub(first).min(I::LANES);
            for (r, sum) in sums.iter().enumerate() {
                let at = (row + r) * self.target.stride + first;
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

/// What the products of a part are to be multiplied with: the block's number, of 16 bits, times the own one, of 8, if there are
/// any.
#[inline(always)]
unsafe fn scale<I: Instructions, F: Format>(
    scales: *const u8,
    register: usize,
    part: usize,
) -> I::Floats {
    let lane = register * I::LANES;
    // SAFETY: the caller has the scales of a block there.
    unsafe {
        let of_block = I::halves(scales.add(2 * lane));
        match F::LAYOUT.groups {
            1 => of_block,
            _ => {
                let own = F::LAYOUT.own_scales() + part * LANES + lane;
                I::multiply(of_block, I::bytes(scales.add(own)))
            }
        }
    }
}
