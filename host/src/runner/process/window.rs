//! How many events of a sequence may be on their way to its reader. A reader that does not read stops its own sequence only.

/// Most events of a sequence that were sent and not taken by the reader.
pub const EVENTS: usize = 128;
/// The reader's side reports each time that this many events were taken.
pub const REPORTED: u32 = EVENTS as u32 / 2;
