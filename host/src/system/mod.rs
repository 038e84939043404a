//! What the machine offers this process: cores, memory, priorities, control groups, the files installed beside the program, changes of
//! files, and a sandbox.

pub(crate) mod cgroup;
pub mod cores;
pub(crate) mod file_state;
pub(crate) mod installation;
pub(crate) mod memory;
pub(crate) mod niceness;
pub mod sandbox;
pub(crate) mod watched;
