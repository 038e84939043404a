//! What the machine offers this process: cores, memory, priorities, and the files installed beside the program.

pub mod cores;
pub(crate) mod installation;
pub(crate) mod memory;
pub(crate) mod niceness;
