//! Facilities of the operating system: cores, memory, niceness, control groups, limits of processes, installed files, owners of ports,
//! changes of files, variables with secrets, and a sandbox.

pub mod cgroup;
pub mod cores;
pub(crate) mod file_state;
pub mod free_memory;
mod group_paths;
pub(crate) mod installation;
pub mod memory;
pub(crate) mod niceness;
pub mod port_owner;
pub(crate) mod resource_limits;
pub mod sandbox;
pub(crate) mod secret_variables;
pub(crate) mod watched;
