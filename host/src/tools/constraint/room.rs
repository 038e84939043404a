use std::cell::Cell;

use crate::grammar::GrammarError;

/// Most patterns of the arguments of all functions, and values of the schemas in them.
const MOST: usize = 200_000;

/// How much larger the grammar of the arguments of all functions may become.
pub struct GrammarRoom(Cell<usize>);

impl Default for GrammarRoom {
    fn default() -> Self {
        Self(Cell::new(MOST))
    }
}

impl GrammarRoom {
    /// Takes room for this number of patterns or values.
    ///
    /// # Errors
    /// There is too little room.
    pub fn take(&self, size: usize) -> Result<(), GrammarError> {
        let left = self.0.get().checked_sub(size).ok_or_else(|| {
            let message = "too many members and values of arguments are within each other: make the schema smaller";
            GrammarError::Invalid(message.to_owned())
        })?;
        self.0.set(left);
        Ok(())
    }
}
