use std::sync::Arc;

use crate::{
    app::App,
    error::ApiError,
    layers::{arrival::Arrival, client::Client},
    models::{LoadedModel, ServedModel},
};

/// A query, and a text that may be relevant to it. Pairs with the same query share it.
pub type Pair = (Arc<str>, Arc<str>);

/// Texts to judge, with their request.
pub struct RelevanceRequest {
    pub client: Client,
    pub arrival: Arrival,
    /// The model that judges, as a request names it.
    pub model: Option<String>,
    /// What makes a text relevant. None: it answers a web search.
    pub instruction: Option<String>,
    pub pairs: Vec<Pair>,
}

/// The scores of pairs, and how many tokens each had.
pub type Scores = (Vec<f32>, Vec<usize>);

/// The model that judges.
#[derive(Clone, Copy)]
pub struct Judge<'a> {
    pub app: &'a App,
    pub served: &'a ServedModel,
    pub model: &'a Arc<LoadedModel>,
}

impl Judge<'_> {
    pub fn is_cross_encoder(self) -> bool {
        let facts = self.model.facts();
        let embedder = facts.embedder.as_ref();
        embedder.is_some_and(|embedder| embedder.pair_template().is_some())
    }

    pub fn cannot(self, why: &str) -> ApiError {
        let message = format!("the model '{}' cannot judge texts: {why}", self.served.id);
        ApiError::unsupported("model", message)
    }
}
