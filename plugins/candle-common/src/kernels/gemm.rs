//! Products of float matrices, computed by `gemm`, the crate that candle multiplies with. Calls without candle write the
//! products into place without a copy, and each thread computes its own product.

use gemm::Parallelism;

/// A matrix to multiply, with rows of `width`.
#[derive(Clone, Copy)]
pub struct MatrixView<'a> {
    pub data: &'a [f32],
    pub width: usize,
}

impl<'a> MatrixView<'a> {
    pub fn count(&self) -> usize {
        self.data.len() / self.width
    }

    pub fn row(&self, row: usize) -> &'a [f32] {
        &self.data[row * self.width..][..self.width]
    }

    /// Up to `count` rows at a time, each chunk with the number of its first row.
    pub fn chunks(self, count: usize) -> impl Iterator<Item = (usize, Self)> {
        let chunks = self.data.chunks(count * self.width).enumerate();
        chunks.map(move |(chunk, data)| (chunk * count, Self { data, ..self }))
    }
}

/// Where a product is written: a part of a matrix with rows of `stride`.
pub struct Target {
    pub start: *mut f32,
    pub stride: usize,
}

impl Target {
    /// The part that begins `row` rows and `column` columns further on.
    pub fn at(&self, row: usize, column: usize) -> Self {
        Self {
            start: self.start.wrapping_add(row * self.stride + column),
            stride: self.stride,
        }
    }
}

/// `target = left · rightᵀ`: multiplies all rows of `left` with all rows of `right`.
///
/// # Safety
/// `target` has `left.count()` rows of `right.count()` numbers that nobody else uses meanwhile.
pub unsafe fn times_transposed(left: MatrixView, right: MatrixView, target: Target) {
    assert_eq!(left.width, right.width);
    // SAFETY: the shape is that of the slices; the caller promises the target.
    unsafe {
        gemm::gemm(
            left.count(),
            right.count(),
            left.width,
            target.start,
            1,
            target.stride as isize,
            false,
            left.data.as_ptr(),
            1,
            left.width as isize,
            right.data.as_ptr(),
            right.width as isize,
            1,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
