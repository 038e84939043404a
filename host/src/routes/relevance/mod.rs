//! How relevant texts are to queries. A cross-encoder reads both and judges them (`cross_encoder.rs`). A model that can chat is
//! asked (`yes_or_no.rs`).

mod cross_encoder;
mod yes_or_no;

use std::sync::Arc;

use super::{blocking::blocking, lookup::loaded};
use crate::{
    app::App,
    error::ApiError,
    layers::{arrival::Arrival, client::Client},
    models::{LoadedModel, ServedModel},
    openai::EmbeddingUsage,
};

/// Most pairs of texts in a request.
pub const MAX_PAIRS: usize = 1000;

/// A query, and a text that may be relevant to it. Pairs with the same query share it.
pub type Pair = (Arc<str>, Arc<str>);

/// Texts to judge, with their request.
pub struct Question {
    pub client: Client,
    pub arrival: Arrival,
    /// The model that judges, as a request names it.
    pub model: Option<String>,
    /// What makes a text relevant. None: it answers a web search.
    pub instruction: Option<String>,
    pub pairs: Vec<Pair>,
}

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
pub async fn relevance(app: &Arc<App>, question: Question) -> Result<Relevance, ApiError> {
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

/// The scores of pairs, and how many tokens each had.
type Scores = (Vec<f32>, Vec<usize>);

/// The model that judges.
#[derive(Clone, Copy)]
struct Judge<'a> {
    app: &'a App,
    served: &'a ServedModel,
    model: &'a Arc<LoadedModel>,
}

impl Judge<'_> {
    fn is_cross_encoder(self) -> bool {
        let facts = self.model.facts();
        let embedder = facts.embedder.as_ref();
        embedder.is_some_and(|embedder| embedder.pair_template().is_some())
    }

    fn cannot(self, why: &str) -> ApiError {
        let message = format!("the model '{}' cannot judge texts: {why}", self.served.id);
        ApiError::unsupported("model", message)
    }
}
