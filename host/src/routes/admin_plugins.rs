use std::sync::Arc;

use axum::{Json, extract::State};

use crate::{
    app::App,
    error::{AdminError, AnyError},
    plugin::Registry,
};

/// Lists the plugins that can be used, and why other files in the plugin directories cannot.
#[utoipa::path(
    get,
    path = "/admin/plugins",
    tag = "Administration",
    responses(
        (
            status = 200,
            description = "What `tenon plugins list --json` prints. The lists are empty until the plugins are found.",
            body = Object,
        ),
        AnyError,
        AdminError,
    ),
)]
pub async fn list_plugins(State(app): State<Arc<App>>) -> Json<Arc<Registry>> {
    Json(app.plugins.get())
}
