//! Puts one mistake at a chosen place of a model's file.

/// A valid GGUF file to put mistakes in.
#[derive(Clone)]
pub struct GgufBytes(pub Vec<u8>);

impl GgufBytes {
    /// Sets one of the file's last weights, which must have 32 bits.
    pub fn set_weight(mut self, weight: f32) -> Self {
        set_weight(&mut self.0, weight);
        self
    }

    /// Sets the value of a key. The type of the value stays.
    #[track_caller]
    pub fn set(mut self, key: &str, value: &[u8]) -> Self {
        let at = self.behind(key) + size_of::<u32>();
        self.0[at..at + value.len()].copy_from_slice(value);
        self
    }

    /// Sets a side of a tensor.
    #[track_caller]
    pub fn set_side(mut self, tensor: &str, side: usize, len: u64) -> Self {
        let at = self.behind(tensor) + size_of::<u32>() + side * size_of::<u64>();
        self.0[at..at + 8].copy_from_slice(&len.to_le_bytes());
        self
    }

    /// Sets the offset of a tensor's data. The tensor has two sides.
    #[track_caller]
    pub fn set_place(mut self, matrix: &str, place: u64) -> Self {
        let at = self.behind(matrix) + 2 * size_of::<u32>() + 2 * size_of::<u64>();
        self.0[at..at + 8].copy_from_slice(&place.to_le_bytes());
        self
    }

    /// Where the first occurrence of this name ends.
    fn behind(&self, name: &str) -> usize {
        let mut text = (name.len() as u64).to_le_bytes().to_vec();
        text.extend(name.as_bytes());
        let mut windows = self.0.windows(text.len());
        let at = windows.position(|window| window == text);
        at.unwrap_or_else(|| panic!("no {name}")) + text.len()
    }
}

/// Sets one of the last weights of a file whose weights have 32 bits.
pub fn set_weight(file: &mut [u8], weight: f32) {
    let at = (file.len() - 4096).next_multiple_of(size_of::<f32>());
    file[at..at + size_of::<f32>()].copy_from_slice(&weight.to_le_bytes());
}
