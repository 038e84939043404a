//! What the machine offers this process: cores, memory, priorities, the files installed beside the program, changes of
//! files, and a sandbox.

pub mod cores;
pub(crate) mod installation;
pub(crate) mod memory;
pub(crate) mod niceness;
pub mod sandbox;
pub(crate) mod watched;
