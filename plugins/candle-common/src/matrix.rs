//! Activations: a matrix of floats that candle's kernels take without a copy.

use candle_core::CpuStorage;

/// `[rows, width]`, row by row.
pub struct Matrix {
    /// Always `F32`.
    storage: CpuStorage,
    width: usize,
}

impl Matrix {
    /// A matrix of whole rows of `width`.
    pub fn new(data: Vec<f32>, width: usize) -> Self {
        debug_assert!(data.len().is_multiple_of(width));
        Self {
            storage: CpuStorage::F32(data),
            width,
        }
    }

    pub fn zeros(rows: usize, width: usize) -> Self {
        Self::new(vec![0.0; rows * width], width)
    }

    /// Makes the matrix `rows` long and `width` wide. Its content is then unspecified. Keeps the memory.
    pub fn reshape(&mut self, rows: usize, width: usize) {
        self.width = width;
        self.vec_mut().resize(rows * width, 0.0);
    }

    /// Empties the matrix for rows of `width`, which the caller appends. Keeps the memory.
    pub fn restart(&mut self, width: usize) -> &mut Vec<f32> {
        self.width = width;
        let data = self.vec_mut();
        data.clear();
        data
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn rows(&self) -> usize {
        self.data().len() / self.width
    }

    pub fn data(&self) -> &[f32] {
        match &self.storage {
            CpuStorage::F32(data) => data,
            _ => unreachable!("a matrix is only made of floats"),
        }
    }

    pub fn data_mut(&mut self) -> &mut [f32] {
        self.vec_mut()
    }

    pub fn row(&self, row: usize) -> &[f32] {
        &self.data()[row * self.width..][..self.width]
    }

    /// Keeps only these rows. Their numbers ascend.
    pub fn select_rows(&mut self, rows: &[u32]) {
        let width = self.width;
        let data = self.vec_mut();
        for (to, &from) in rows.iter().enumerate() {
            let from = from as usize * width;
            data.copy_within(from..from + width, to * width);
        }
        data.truncate(rows.len() * width);
    }

    /// The numbers in the form that candle's kernels take.
    pub fn storage(&self) -> &CpuStorage {
        &self.storage
    }

    fn vec_mut(&mut self) -> &mut Vec<f32> {
        match &mut self.storage {
            CpuStorage::F32(data) => data,
            _ => unreachable!("a matrix is only made of floats"),
        }
    }
}
