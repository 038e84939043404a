//! The wire types of the Responses API.

mod events;
mod input;
mod kept;
mod object;
mod output;
mod request;
mod tools;

pub use events::{
    CallArgumentsDelta, CallArgumentsDone, CustomInputDone, ItemEvent, OutputTextDelta,
    OutputTextDone, PartEvent, ReasoningTextDelta, ReasoningTextDone, ResponseErrorEvent,
    ResponseEvent, ResponseStreamEvent,
};
pub use input::{
    InputCallOutput, InputContent, InputCustomCall, InputFunctionCall, InputItem, InputMessage,
    InputPart, InputReasoning, InputRole, ResponseInput,
};
pub use kept::{DeletedResponse, InputItemList, InputItemsQuery, ItemOrder};
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
