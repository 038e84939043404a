//! Writes the tool calls of an answer.

use crate::{
    markup::CallPiece,
    openai::{FunctionCall, FunctionCallChunk, ToolCall, ToolCallChunk, ToolKind},
};

/// The calls of a whole answer. None if there are none.
pub fn whole(calls: Vec<CallPiece>) -> Option<Vec<ToolCall>> {
    let calls = calls.into_iter().filter_map(|call| {
        let begin = call.begin?;
        Some(ToolCall {
            id: begin.id,
            kind: ToolKind::Function,
            function: FunctionCall {
                name: begin.name,
                arguments: call.arguments,
            },
        })
    });
    let calls: Vec<_> = calls.collect();
    (!calls.is_empty()).then_some(calls)
}

/// The pieces of tool calls in a chunk. None if there are none.
pub fn chunks(calls: Vec<CallPiece>) -> Option<Vec<ToolCallChunk>> {
    let calls = calls.into_iter().map(|call| {
        let (id, name) = call.begin.map(|begin| (begin.id, begin.name)).unzip();
        ToolCallChunk {
            index: call.index,
            kind: id.is_some().then_some(ToolKind::Function),
            id,
            function: FunctionCallChunk {
                name,
                arguments: call.arguments,
            },
        }
    });
    let calls: Vec<_> = calls.collect();
    (!calls.is_empty()).then_some(calls)
}
