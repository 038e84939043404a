use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};

use super::lookup::loaded;
use crate::{
    app::App,
    error::{AnyError, ApiError, ModelError},
    models::{LoadedModel, ModelState, ServedModel},
    openai::{ModelEmbeddings, ModelList, ModelObject, ModelSampling, unix_seconds},
};

/// Lists the models that are being served.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "Models",
    responses((status = 200, description = "The models.", body = ModelList), AnyError),
)]
pub async fn list_models(State(app): State<Arc<App>>) -> Json<ModelList> {
    let data = app
        .models()
        .iter()
        .filter_map(|served| match served.state() {
            ModelState::Ready(model) => Some(object(served, &model)),
            ModelState::Loading | ModelState::Restarting(_) | ModelState::Failed(_) => None,
        });
    Json(ModelList {
        object: "list",
        data: data.collect(),
    })
}

/// Describes the model with a name or alias.
#[utoipa::path(
    get,
    // A model's name may have slashes in it.
    path = "/v1/models/{*name}",
    tag = "Models",
    params(("name" = String, Path, description = "Name or alias of a model.")),
    responses(
        (status = 200, description = "The model.", body = ModelObject),
        AnyError,
        ModelError,
    ),
)]
pub async fn retrieve_model(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<ModelObject>, ApiError> {
    let Path(name) = name?;
    let (served, model) = loaded(&app, Some(&name)).await?;
    Ok(Json(object(served, &model)))
}

fn object(served: &ServedModel, model: &LoadedModel) -> ModelObject {
    let facts = model.facts();
    let info = &facts.info;
    ModelObject {
        id: served.id.clone(),
        object: "model",
        created: unix_seconds(model.created),
        owned_by: "tenon",
        aliases: served.aliases.clone(),
        backend: model.backend().to_owned(),
        architecture: info.architecture.clone(),
        parameters: info.parameters,
        quantization: info.quantization.clone(),
        requantize_levels: info.requantize_levels.clone(),
        context_length: facts.context_length(),
        sampling: ModelSampling {
            temperature: info.sampling.temperature().unwrap_or(1.0),
            top_p: info.sampling.top_p().unwrap_or(1.0),
            top_k: info.sampling.top_k().unwrap_or(0),
            min_p: info.sampling.min_p().unwrap_or(0.0),
            repetition_penalty: info.sampling.repetition_penalty().unwrap_or(1.0),
        },
        embeddings: facts.embedder.as_ref().map(|embedder| ModelEmbeddings {
            dimensions: embedder.dimensions,
            max_tokens: facts.longest_embedded(embedder),
            pooling: embedder.pooling.clone(),
        }),
    }
}
