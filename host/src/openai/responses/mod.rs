//! The wire types of the Responses API.
//!
//! `routes` deserializes some fields separately, so that an error names its place in them. Here these fields are only documented.

mod events;
mod input;
mod kept;
mod object;
mod output;
mod request;
mod tools;

use serde::{Deserialize, Deserializer, de::IgnoredAny};

pub use events::{
    CallArgumentsDelta, CallArgumentsDone, CustomInputDone, ItemEvent, OutputTextDelta,
    OutputTextDone, PartEvent, ReasoningTextDelta, ReasoningTextDone, ResponseErrorEvent,
    ResponseEvent, ResponseStreamEvent,
};
pub use input::{
    InputCallOutput, InputContent, InputCustomCall, InputFunctionCall, InputItem, InputMessage,
    InputPart, InputReasoning, InputRole, ResponseInput,
};
pub use kept::{DeletedResponse, InputItemList, InputItemsQuery, ItemOrder, RetrieveQuery};
pub use object::{
    IncompleteDetails, InputTokensDetails, OutputTokensDetails, ResponseFailure, ResponseObject,
    ResponseStatus, ResponseUsage,
};
pub use output::{
    ItemStatus, OutputCustomCall, OutputFunctionCall, OutputItem, OutputMessage, OutputPart,
    OutputReasoning, OutputText, ReasoningText,
};
pub use request::{
    ReasoningOptions, ResponseRequest, ResponseStreamOptions, SummaryKind, TextFormat, TextKind,
    TextOptions, Truncation,
};
pub use tools::{
    AllowedTool, AllowedTools, CustomTool, CustomToolFormat, CustomToolSyntax, FunctionTool,
    NamespaceTool, ResponseTool, ResponseToolChoice, ToolOfNamespace,
};

/// Skips a field. With `skip_deserializing` it would be missing in the documentation.
fn read_apart<'a, D: Deserializer<'a>, T: Default>(field: D) -> Result<T, D::Error> {
    IgnoredAny::deserialize(field).map(|_| T::default())
}
