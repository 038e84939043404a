//! `tenon plugins check FILE.so`: checks whether a plugin keeps the promises of its ABI.
//!
//! 1. [`Check`] is the command. It chooses the cases of the `table` to run.
//! 2. `process` runs each case in a child process with a time limit: a plugin that crashes or hangs ends its case only. The child
//!    is this same program with a hidden argument.
//! 3. In the child, a case gets a `Subject`: the plugin, and the model if there is one. It opens them with the server's own code,
//!    and drives sessions with the SDK's `testing`.
//! 4. A case ends with a sentence, or with a `Finding`. Each promise belongs to one case. A case that finds another promise broken
//!    is skipped, and names the case that the promise belongs to.
//! 5. `report` prints the outcomes, as text or as JSON.

mod allocations;
mod bridge;
mod cases;
mod command;
mod finding;
mod measure;
mod model_files;
mod process;
mod report;
mod running;
mod subject;
mod table;

pub use command::Check;
