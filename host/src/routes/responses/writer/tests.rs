use std::{collections::HashMap, future::pending};

use axum::body::to_bytes;
use futures_util::FutureExt;
use serde_json::{Value, json};

use super::{
    super::{
        super::generation::{Answers, Tally, Warnings, settings::tests::settings},
        custom_input::arguments,
        settings::response,
        tools::ToolName,
    },
    *,
};
use crate::{
    markup::{CallBegin, CallPiece},
    openai::responses::ResponseRequest,
    reply::ScoredToken,
};

fn writer(encrypts: bool) -> ResponseWriter {
    let settings = settings(json!({})).unwrap();
    let response = response(ResponseRequest::default(), &settings, "m", "fp");
    let tool = |namespace: Option<&str>, name: &str, is_custom| ToolName {
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
        is_custom,
    };
    let names = [
        ("f", tool(None, "f", false)),
        ("n.f", tool(Some("n"), "f", false)),
        ("c", tool(None, "c", true)),
    ];
    let names = names.map(|(visible, tool)| (visible.to_owned(), tool));
    let answers = Answers {
        replies: Vec::new(),
        tally: Tally::new(2, 1),
        warnings: Warnings::default(),
    };
    let draft = Draft {
        response,
        items: Items::new(HashMap::from(names), encrypts),
        keeper: None,
    };
    ResponseWriter::new(draft, answers).0
}

fn text(text: &str) -> AnswerPiece {
    AnswerPiece {
        text: text.to_owned(),
        ..AnswerPiece::default()
    }
}

fn reasoning(text: &str) -> AnswerPiece {
    AnswerPiece {
        reasoning: text.to_owned(),
        ..AnswerPiece::default()
    }
}

/// A piece of the call with this index. It begins the call if it has a name.
fn call(index: u32, name: Option<&str>, arguments: &str) -> AnswerPiece {
    let begin = name.map(|name| CallBegin {
        id: format!("call_{index}"),
        name: name.to_owned(),
    });
    AnswerPiece {
        calls: vec![CallPiece {
            index,
            begin,
            arguments: arguments.to_owned(),
        }],
        ..AnswerPiece::default()
    }
}

fn end(reason: FinishReason) -> Delta {
    Delta::End(End {
        reason,
        stop: None,
        completion_tokens: 3,
        cached_tokens: 1,
        reasoning_tokens: Some(2),
        ends_with_calls: false,
        mean_logprob: 0.0,
    })
}

/// The events of a piece. Nothing waits, because the response is not kept.
fn written(writer: &mut ResponseWriter, delta: Result<Delta, ApiError>) -> Vec<Event> {
    writer.write(delta).now_or_never().unwrap()
}

/// The events of an answer. Checks their order.
fn events_of(pieces: Vec<AnswerPiece>, reason: FinishReason) -> Vec<Value> {
    let mut writer = writer(true);
    let mut events = writer.begin();
    let pieces = pieces.into_iter().map(Delta::Text);
    for delta in pieces.chain([end(reason)]) {
        events.extend(written(&mut writer, Ok(delta)));
    }
    let events = events.iter().map(|event| {
        let value = serde_json::to_value(event).unwrap();
        assert_eq!(value["type"], event.name());
        value
    });
    let events: Vec<Value> = events.collect();
    check_events(&events);
    events
}

/// Checks that events are numbered, that they agree about items, and that deltas make up the texts.
#[track_caller]
fn check_events(events: &[Value]) {
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], index, "{event}");
    }
    let last = &events.last().unwrap()["response"];
    let items = last["output"].as_array().unwrap();
    for (index, item) in items.iter().enumerate() {
        let is_own = |event: &&Value| event["output_index"] == index;
        let own: Vec<_> = events.iter().filter(is_own).collect();
        let (first, done) = (own.first().unwrap(), own.last().unwrap());
        assert_eq!(first["type"], "response.output_item.added");
        assert_eq!(first["item"]["status"], "in_progress");
        assert_eq!(done["type"], "response.output_item.done");
        assert_eq!(done["item"], *item);
        for event in &own[1..own.len() - 1] {
            assert_eq!(event["item_id"], item["id"], "{event}");
        }
        let deltas = own.iter().filter_map(|event| event["delta"].as_str());
        let deltas: String = deltas.collect();
        let whole = ["text", "arguments", "input"].map(|field| {
            own.iter()
                .find_map(|event| event[field].as_str())
                .map(str::to_owned)
        });
        assert_eq!(
            whole.into_iter().flatten().collect::<Vec<_>>(),
            std::slice::from_ref(&deltas)
        );
        let shown = [
            &item["content"][0]["text"],
            &item["arguments"],
            &item["input"],
        ];
        assert_eq!(
            shown.iter().find_map(|text| text.as_str()),
            Some(&deltas[..])
        );
    }
    let added = events
        .iter()
        .filter(|event| event["type"] == "response.output_item.added");
    assert_eq!(added.count(), items.len());
}

/// The types of events, without the beginning that all have.
fn types(events: &[Value]) -> Vec<&str> {
    let types = events.iter().map(|event| {
        let kind = event["type"].as_str().unwrap();
        kind.strip_prefix("response.").unwrap_or(kind)
    });
    types.collect()
}

#[test]
fn a_text_is_a_message_with_one_part() {
    let events = events_of(vec![text("Hi"), text(" é")], FinishReason::Stop);
    let expected = [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(types(&events), expected);
    let part = json!({"type": "output_text", "text": "Hi é", "annotations": [], "logprobs": []});
    let last = &events.last().unwrap()["response"];
    assert_eq!(last["output"][0]["content"], json!([part]));
    assert_eq!(last["output"][0]["role"], "assistant");
    assert_eq!(last["status"], "completed");
    let usage = json!({
        "input_tokens": 2, "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
        "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 5,
    });
    assert_eq!(last["usage"], usage);
    for event in &events[..2] {
        assert_eq!(event["response"]["status"], "in_progress");
        assert_eq!(event["response"]["output"], json!([]));
        assert_eq!(event["response"]["usage"], json!(null));
    }
}

#[test]
fn items_come_in_the_order_of_the_answer() {
    let custom = arguments("a\n\"b\"");
    let (begin, rest) = custom.split_at(14);
    let pieces = vec![
        reasoning("Hm"),
        reasoning("."),
        text("Let me see."),
        call(0, Some("n.f"), "{\"a\""),
        call(0, None, ": 1}"),
        call(1, Some("c"), begin),
        call(1, None, rest),
        text("Done."),
    ];
    let events = events_of(pieces, FinishReason::Stop);
    let output = events.last().unwrap()["response"]["output"].clone();
    let id = |index: usize| output[index]["id"].clone();
    let message = |index: usize, text: &str| {
        let part = json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
        json!({"type": "message", "id": id(index), "status": "completed", "role": "assistant", "content": [part]})
    };
    let expected = json!([
        {
            "type": "reasoning", "id": id(0), "status": "completed", "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm."}], "encrypted_content": "tenon:Hm.",
        },
        message(1, "Let me see."),
        {
            "type": "function_call", "id": id(2), "status": "completed",
            "call_id": "call_0", "namespace": "n", "name": "f", "arguments": "{\"a\": 1}",
        },
        {
            "type": "custom_tool_call", "id": id(3), "status": "completed",
            "call_id": "call_1", "name": "c", "input": "a\n\"b\"",
        },
        message(4, "Done."),
    ]);
    assert_eq!(output, expected);
    for (index, prefix) in ["rs_", "msg_", "fc_", "ctc_", "msg_"]
        .into_iter()
        .enumerate()
    {
        assert!(id(index).as_str().unwrap().starts_with(prefix));
    }
    let of_calls = types(&events)
        .into_iter()
        .filter(|kind| kind.contains("call_"));
    let expected = [
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
    ];
    assert_eq!(of_calls.collect::<Vec<_>>(), expected);
}

#[test]
fn the_end_of_one_call_and_the_beginning_of_the_next_may_be_in_one_piece() {
    let mut joint = call(0, None, "}");
    joint.calls.extend(call(1, Some("f"), "{}").calls);
    joint.text = "Next:".to_owned();
    let events = events_of(vec![call(0, Some("f"), "{"), joint], FinishReason::Stop);
    let output = &events.last().unwrap()["response"]["output"];
    assert_eq!(output[0]["arguments"], "{}");
    assert_eq!(output[1]["content"][0]["text"], "Next:");
    assert_eq!(output[2]["arguments"], "{}");
}

#[test]
fn an_answer_without_anything_is_an_empty_text() {
    for pieces in [vec![], vec![reasoning("Hm.")]] {
        let count = pieces.len();
        let events = events_of(pieces, FinishReason::Stop);
        let output = &events.last().unwrap()["response"]["output"];
        assert_eq!(output[count]["content"][0]["text"], "");
    }
}

#[test]
fn what_is_cut_off_is_incomplete() {
    for (pieces, status) in [
        (vec![text("Hi")], "incomplete"),
        (vec![reasoning("Hm")], "incomplete"),
        (vec![call(0, Some("f"), "{\"a\": ")], "incomplete"),
        (vec![call(0, Some("c"), "{\"input\": \"a")], "incomplete"),
        // The call itself is complete.
        (vec![call(0, Some("f"), "{}")], "completed"),
    ] {
        let events = events_of(pieces, FinishReason::Length);
        let last = events.last().unwrap();
        assert_eq!(last["type"], "response.incomplete");
        let last = &last["response"];
        assert_eq!(last["status"], "incomplete");
        assert_eq!(last["completed_at"], json!(null));
        let reason = json!({"reason": "max_output_tokens"});
        assert_eq!(last["incomplete_details"], reason);
        assert_eq!(last["output"].as_array().unwrap().len(), 1);
        assert_eq!(last["output"][0]["status"], status);
    }
    let events = events_of(vec![], FinishReason::Length);
    assert_eq!(events.last().unwrap()["response"]["output"], json!([]));
}

#[test]
fn an_error_fails_the_response() {
    let mut writer = writer(false);
    writer.begin();
    written(&mut writer, Ok(Delta::Text(text("Hi"))));
    let events = written(&mut writer, Err(ApiError::cut_off()));
    let events = serde_json::to_value(events).unwrap();
    let [error, failed] = &events.as_array().unwrap()[..] else {
        panic!("{events}")
    };
    assert_eq!(error["type"], "error");
    assert_eq!(error["sequence_number"], 5);
    assert_eq!(error["code"], "draining");
    assert_eq!(error["error"]["message"], error["message"]);
    assert_eq!(failed["type"], "response.failed");
    assert_eq!(failed["sequence_number"], 6);
    let response = &failed["response"];
    assert_eq!(response["status"], "failed");
    assert_eq!(response["error"]["code"], "server_error");
    assert_eq!(response["output"][0]["content"][0]["text"], "Hi");
    assert_eq!(response["output"][0]["status"], "incomplete");
}

#[test]
fn a_text_has_the_log_probabilities_of_its_own_tokens() {
    let token = |bytes: &str| ScoredToken {
        bytes: bytes.into(),
        logprob: Some(-1.0),
        top: Vec::new(),
        text_offset: 0,
    };
    let scored = |piece: AnswerPiece, tokens: &[&str]| AnswerPiece {
        tokens: Some(tokens.iter().map(|bytes| token(bytes)).collect()),
        ..piece
    };
    let pieces = vec![
        scored(reasoning("Hm."), &["<think>", "Hm."]),
        scored(text("Hi"), &["</think>", "\n", "H", "i"]),
        scored(text(" you"), &[" you"]),
        scored(AnswerPiece::default(), &["<|end|>"]),
    ];
    let events = events_of(pieces, FinishReason::Stop);
    let part = &events.last().unwrap()["response"]["output"][1]["content"][0];
    let tokens = |value: &Value| -> Vec<String> {
        let logprobs = value["logprobs"].as_array().unwrap();
        let tokens = logprobs
            .iter()
            .map(|one| one["token"].as_str().unwrap().to_owned());
        tokens.collect()
    };
    assert_eq!(tokens(part), ["H", "i", " you", "<|end|>"]);
    let deltas = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta");
    let of_deltas: Vec<_> = deltas.flat_map(tokens).collect();
    assert_eq!(of_deltas, tokens(part));
}

#[tokio::test]
async fn a_stream_names_its_events_and_ends_with_done() {
    let settings = settings(json!({})).unwrap();
    let response = response(ResponseRequest::default(), &settings, "m", "fp");
    let answers = Answers {
        replies: Vec::new(),
        tally: Tally::new(2, 1),
        warnings: Warnings::default(),
    };
    let draft = Draft {
        response,
        items: Items::new(HashMap::new(), false),
        keeper: None,
    };
    let stream = streamed(draft, answers, Duration::from_secs(10), pending());
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let body = to_bytes(stream.into_body(), usize::MAX).await.unwrap();
    let body = String::from_utf8(body.into()).unwrap();
    let events: Vec<_> = body.split_terminator("\n\n").collect();
    let (done, events) = events.split_last().unwrap();
    assert_eq!(*done, "data: [DONE]");
    let names = events.iter().map(|event| {
        let (name, data) = event.split_once('\n').unwrap();
        let name = name.strip_prefix("event: ").unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data["type"], name);
        name
    });
    let names: Vec<_> = names.collect();
    assert_eq!(names[..2], ["response.created", "response.in_progress"]);
}
