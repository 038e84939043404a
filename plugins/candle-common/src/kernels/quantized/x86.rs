//! The kernel for every supported instruction set: one loop, and the operations that it needs of an instruction set.

mod avx2;
mod avx512;

use std::{arch::x86_64::*, hint::black_box, ops::Range};

use candle_core::quantized::GgmlDType;

use super::{
    GROUP, RoundedRows,
    packed::{LANES, Layout, Line, Packed, QUAD, QUADS},
};
use crate::kernels::gemm::Target;

/// Distance in lines between what is read and what is prefetched, so that it arrives in time. Measured for this many rows at
/// once.
const fn ahead(rows: usize) -> usize {
    match rows {
        1 => 32,
        _ => 256,
    }
}

/// Instruction sets that there is a kernel for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// AVX-512 with VNNI.
    Avx512,
    /// AVX2 with FMA, F16C and AVX-VNNI.
    AvxVnni,
    /// AVX2 with FMA and F16C.
    Avx2,
}

impl Kernel {
    /// All kernels, the fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::AvxVnni, Self::Avx2];

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "AVX-512 VNNI",
            Self::AvxVnni => "AVX-VNNI",
            Self::Avx2 => "AVX2",
        }
    }

    /// Whether this CPU has the instructions.
    pub fn is_available(self) -> bool {
        match self {
            Self::Avx512 => avx512::is_available(),
            Self::AvxVnni => avx2::has_vnni(),
            Self::Avx2 => avx2::is_available(),
        }
    }

    /// How much the stored numbers are above the numbers that they stand for, as this kernel multiplies them.
    pub fn center(self, layout: Layout) -> i32 {
        match self {
            Self::Avx512 | Self::AvxVnni => layout.center,
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
                Self::AvxVnni => avx2::run_vnni::<F>(product, strips),
                Self::Avx2 => avx2::run::<F>(product, strips),
            }
        }
    }
}

/// A weight type, as a Rust type: each gets compiled code of its own.
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

/// The operations that the loop needs of an instruction set. A register has one number for each of its lanes, which are some
/// of a strip's outputs. Pointers point to as many numbers. All functions are inlined into functions that have the
/// instructions, and are called nowhere else.
trait Instructions {
    const LANES: usize;
    /// Most rows of a tile: so many that few or no sums go through memory.
    const ROWS: usize;
    type Floats: Copy;
    /// Integers of 32 bits.
    type Wholes: Copy;
    /// Four numbers of 8 bits for each output.
    type Bytes: Copy;
    /// The type in which products are summed.
    type Sums: Copy;

    /// The number of quads whose products fit into the sums.
    fn room(layout: Layout) -> usize;
    /// The four numbers of a quad for each output from `lane` on. The lines of the group begin at `lines`.
    unsafe fn numbers(layout: Layout, lines: *const Line, quad: usize, lane: usize) -> Self::Bytes;
    /// Initial sums. [`end`](Self::end) gets the same `total`.
    unsafe fn begin(total: Self::Wholes) -> Self::Sums;
    /// Adds the products of the numbers with four bytes of input, which are the same for all outputs.
    unsafe fn add(layout: Layout, sums: Self::Sums, numbers: Self::Bytes, input: i32)
    -> Self::Sums;
    /// The sum of `total` and the sums.
    unsafe fn end(total: Self::Wholes, sums: Self::Sums) -> Self::Wholes;

    /// Adds the products of two 8-bit numbers of each output with two 16-bit numbers, which are the same for all outputs.
    unsafe fn add_pairs(total: Self::Wholes, pairs: *const u8, input: i32) -> Self::Wholes;

    unsafe fn whole(x: i32) -> Self::Wholes;
    unsafe fn float(x: f32) -> Self::Floats;
    unsafe fn widen(x: Self::Wholes) -> Self::Floats;
    unsafe fn multiply(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a · b + c`
    unsafe fn multiply_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// Reads floats of 16 bits.
    unsafe fn halves(at: *const u8) -> Self::Floats;
    /// Reads integers of 8 bits.
    unsafe fn bytes(at: *const u8) -> Self::Floats;
    /// Writes the first `outputs` numbers.
    unsafe fn store(to: *mut f32, outputs: usize, floats: Self::Floats);
}

/// Aligns the stack of the calling function to cache lines. Sums that have no register are kept on the stack; unaligned, half
/// of them cross a cache line, which takes up to a fifth of the kernel's time. Rust aligns no stack to registers itself.
#[inline(always)]
fn align_stack() {
    #[repr(align(64))]
    struct CacheLine(#[expect(dead_code, reason = "only its address matters")] u8);
    black_box(&mut CacheLine(0));
}

struct Product<'a> {
    input: &'a RoundedRows,
    weights: &'a Packed,
    target: Target,
}

/// Sums of some rows, for the registers of a strip.
type Tile<T, const R: usize, const W: usize> = [[T; R]; W];

impl Product<'_> {
    /// Computes all rows with some strips. A strip has `W` registers.
    #[inline(always)]
    unsafe fn strips<I: Instructions, F: Format, const W: usize>(&self, strips: Range<usize>) {
        let rows = self.input.rows;
        // Tiles as even as possible: a tile of few rows takes more time per row.
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

    /// Computes a tile of `R` rows from `row` on.
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

    /// The contribution of a block's offsets, in units of the input's scale.
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

    /// The products of a part of a group, as integers.
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

    /// The initial sums of a part's products.
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

/// Prefetches lines that are read soon into the L2 cache.
#[inline(always)]
unsafe fn prefetch(lines: *const Line, count: usize) {
    for line in 0..count {
        // SAFETY: a prefetch reads nothing, and its address need not exist.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(lines.wrapping_add(line).cast()) };
    }
}

/// The factor of a part's products: the block's scale, of 16 bits, times the part's own scale, of 8 bits, if parts have
/// their own.
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
