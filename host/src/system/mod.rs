//! What the machine offers this process: cores, memory, priorities, and the files installed beside the program.

pub mod cores;
pub mod installation;
pub mod memory;
pub mod niceness;
