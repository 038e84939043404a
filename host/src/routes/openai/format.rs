//! How the answers of chats and completions are written. They differ in their [`Format`].

use std::time::SystemTime;

use serde::Serialize;
use uuid::Uuid;

use super::super::generation::{Tally, Warnings};
use crate::{
    engine::FinishReason,
    models::{LoadedModel, ServedModel},
    openai::{self, Completion, CompletionTokensDetails, Usage, unix_seconds},
    reply::{AnswerPiece, End},
};

/// How a route writes the choices of its answers.
pub trait Format: 'static {
    /// The choice of a whole answer.
    type Choice: Serialize;
    /// The choice of a chunk.
    type ChunkChoice: Serialize;

    /// The beginning of an answer's id.
    const ID_PREFIX: &str;
    /// The `object` of an answer.
    const OBJECT: &str;
    /// The `object` of a chunk.
    const CHUNK_OBJECT: &str;

    /// Writes a whole answer.
    fn whole(index: u32, answer: AnswerPiece, end: &End) -> Self::Choice;
    /// Writes the first chunk of an answer, before there is any text. None if the route has no such chunk.
    fn opening(index: u32) -> Option<Self::ChunkChoice>;
    /// Writes a piece of an answer.
    fn piece(index: u32, piece: AnswerPiece) -> Self::ChunkChoice;
    /// Writes the end of an answer.
    fn end(index: u32, end: &End) -> Self::ChunkChoice;
}

/// The fields that all parts of one answer have in common.
pub struct Head {
    pub id: String,
    pub created: u64,
    pub model: String,
    pub system_fingerprint: String,
}

impl Head {
    pub fn new<F: Format>(served: &ServedModel, model: &LoadedModel) -> Self {
        Self {
            id: format!("{}{}", F::ID_PREFIX, Uuid::new_v4().simple()),
            created: unix_seconds(SystemTime::now()),
            model: served.id.clone(),
            system_fingerprint: model.fingerprint.clone(),
        }
    }

    /// Makes a whole answer.
    pub fn whole<F: Format>(
        self,
        answers: Vec<(AnswerPiece, End)>,
        usage: Usage,
        warnings: &Warnings,
    ) -> Completion<F::Choice> {
        let told = (0..).zip(&answers);
        let told = told.flat_map(|(index, (answer, end))| warnings.of(index, answer, end));
        let warnings = told.collect();
        let answers = (0..).zip(answers);
        let choices = answers.map(|(index, (answer, end))| F::whole(index, answer, &end));
        Completion {
            warnings,
            ..self.completion(F::OBJECT, choices.collect(), Some(Some(usage)))
        }
    }

    /// Makes an answer or a chunk of one.
    pub fn completion<C>(
        &self,
        object: &'static str,
        choices: Vec<C>,
        usage: Option<Option<Usage>>,
    ) -> Completion<C> {
        Completion {
            id: self.id.clone(),
            object,
            created: self.created,
            model: self.model.clone(),
            system_fingerprint: self.system_fingerprint.clone(),
            choices,
            usage,
            warnings: Vec::new(),
        }
    }
}

/// Writes how many tokens a request took.
pub fn usage(tally: &Tally) -> Usage {
    let details = |reasoning_tokens| CompletionTokensDetails { reasoning_tokens };
    Usage {
        completion_tokens_details: tally.reasoning_tokens.map(details),
        ..Usage::new(
            tally.prompt_tokens,
            tally.cached_tokens,
            tally.completion_tokens,
        )
    }
}

/// Why an answer ended. An answer that was cut off may have calls, but its reason is the length.
pub fn finish_reason(end: &End) -> openai::FinishReason {
    match end.reason {
        FinishReason::Length => openai::FinishReason::Length,
        FinishReason::Stop if end.ends_with_calls => openai::FinishReason::ToolCalls,
        FinishReason::Stop => openai::FinishReason::Stop,
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;
    use crate::routes::chat_completions::ChatFormat;

    pub fn head() -> Head {
        Head {
            id: "x".to_owned(),
            created: 1,
            model: "m".to_owned(),
            system_fingerprint: "fp".to_owned(),
        }
    }

    pub fn answer(text: &str, mean_logprob: f32) -> (AnswerPiece, End) {
        let piece = AnswerPiece {
            text: text.to_owned(),
            ..AnswerPiece::default()
        };
        let end = End {
            reason: FinishReason::Stop,
            stop: None,
            completion_tokens: 3,
            cached_tokens: 1,
            reasoning_tokens: None,
            ends_with_calls: false,
            mean_logprob,
        };
        (piece, end)
    }

    #[test]
    fn a_whole_answer_has_its_usage() {
        let answers = vec![answer("Hi", 0.0), answer("Ho", 0.0)];
        let mut tally = Tally::new(2, 2);
        tally.add(0, &answers[0].1);
        tally.add(1, &answers[1].1);
        let answer = head().whole::<ChatFormat>(answers, usage(&tally), &Warnings::default());
        let answer = serde_json::to_value(answer).unwrap();
        let choice = |index, text| {
            json!({
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": null},
                "logprobs": null,
                "finish_reason": "stop",
            })
        };
        let expected = json!({
            "id": "x", "object": "chat.completion", "created": 1, "model": "m", "system_fingerprint": "fp",
            "choices": [choice(0, "Hi"), choice(1, "Ho")],
            "usage": {"prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8,
                "prompt_tokens_details": {"cached_tokens": 1}},
        });
        assert_eq!(answer, expected);
    }
}
