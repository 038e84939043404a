//! Sends the answers to prompts, whole or as a stream.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use futures_util::future::try_join_all;

use super::{
    super::generation::{AnswerGrammar, Answers, ReadyPrompt, Settings, begin},
    format::{Format, Head, usage},
    stream::{ChunkWriter, streamed},
};
use crate::{
    app::App,
    error::ApiError,
    models::{LoadedModel, ServedModel},
    reply::{AnswerPiece, End, Reply, merged},
};

/// Generates the answers to these prompts, and sends them as a whole or as a stream.
pub async fn answer<F: Format>(
    app: &App,
    served: &ServedModel,
    model: &LoadedModel,
    prompts: Vec<ReadyPrompt>,
    settings: Settings,
    grammar: Option<AnswerGrammar>,
) -> Result<Response, ApiError> {
    let head = Head::new::<F>(served, model);
    settings.note_id(&head.id);
    let answers = begin(app, served, model, prompts, &settings, grammar).await?;
    let Answers {
        replies,
        mut tally,
        warnings,
    } = answers;
    if settings.stream {
        let choices = replies.len() as u32;
        let chunks = ChunkWriter::new(head, tally, warnings, choices, settings.include_usage);
        let keep_alive = app.now().config.server.keep_alive_interval;
        let end = app.cut_off.clone().cancelled_owned();
        return Ok(streamed::<F>(merged(replies), chunks, keep_alive, end));
    }
    let answers = try_join_all(replies.into_iter().map(Reply::collect)).await?;
    for (index, (_, end)) in (0..).zip(&answers) {
        tally.add(index, end);
    }
    let best = best(answers, &settings);
    Ok(Json(head.whole::<F>(best, usage(&tally), &warnings)).into_response())
}

/// Chooses, of the answers to each prompt, the `n` whose tokens are on average the most likely.
fn best(answers: Vec<(AnswerPiece, End)>, settings: &Settings) -> Vec<(AnswerPiece, End)> {
    if settings.best_of == settings.n {
        return answers;
    }
    let mut rest = answers.into_iter();
    let mut best = Vec::new();
    while rest.len() > 0 {
        let mut group: Vec<_> = rest.by_ref().take(settings.best_of as usize).collect();
        group.sort_by(|(_, a), (_, b)| b.mean_logprob.total_cmp(&a.mean_logprob));
        group.truncate(settings.n as usize);
        best.extend(group);
    }
    best
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{super::generation::settings::tests::settings, format::tests::answer},
        *,
    };

    #[test]
    fn the_likeliest_answers_to_each_prompt_are_the_best() {
        let mut settings = settings(json!({"n": 2})).unwrap();
        let answers = || {
            [
                ("a", -3.0),
                ("b", -1.0),
                ("c", -2.0),
                ("d", -9.0),
                ("e", -8.0),
                ("f", -10.0),
            ]
        };
        let best = |settings: &Settings| -> Vec<String> {
            let answers = answers().map(|(text, mean)| answer(text, mean));
            let best = super::best(answers.to_vec(), settings).into_iter();
            best.map(|(piece, _)| piece.text).collect()
        };
        assert_eq!(best(&settings), ["a", "b", "c", "d", "e", "f"]);
        settings.best_of = 3;
        assert_eq!(best(&settings), ["b", "c", "e", "d"]);
    }
}
