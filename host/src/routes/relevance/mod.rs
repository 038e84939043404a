//! How relevant texts are to queries. A cross-encoder reads both and judges them (`cross_encoder.rs`). A model that can chat is
//! asked (`yes_or_no.rs`).

mod cross_encoder;
mod judge;
mod yes_or_no;

use std::sync::Arc;

use self::judge::Judge;
pub use self::judge::{Pair, RelevanceRequest};
use super::lookup::loaded;
use crate::{app::App, error::ApiError, openai::EmbeddingUsage};

/// Most pairs of texts in a request.
pub const MAX_PAIRS: usize = 1000;

/// How relevant the texts are, from 0 to 1.
pub struct Relevance {
    /// Id of the model that judged.
    pub model: String,
    pub scores: Vec<f32>,
    /// How many tokens were read.
    pub usage: EmbeddingUsage,
}

/// Judges texts.
///
/// # Errors
/// The model cannot judge texts, or the question is too long for it.
pub async fn relevance(app: &Arc<App>, question: RelevanceRequest) -> Result<Relevance, ApiError> {
    let (served, model) = loaded(app, &question.client, question.model.as_deref()).await?;
    let account = question.client.account.clone();
    let judge = Judge {
        app,
        served: &served,
        model: &model,
    };
    let (scores, lengths) = match judge.is_cross_encoder() {
        true => cross_encoder::scores(judge, question).await?,
        false => yes_or_no::scores(judge, question).await?,
    };
    for &length in &lengths {
        app.metrics.prompt(&served.id, length, account.as_deref());
    }
    let tokens = lengths.iter().sum();
    Ok(Relevance {
        model: served.id.clone(),
        scores,
        usage: EmbeddingUsage {
            prompt_tokens: tokens,
            total_tokens: tokens,
        },
    })
}
