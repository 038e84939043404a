use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// The answer to the deletion of a response.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeletedResponse {
    /// The id.
    pub id: String,
    /// Always `response`.
    pub object: &'static str,
    /// Always true.
    pub deleted: bool,
}

/// How to return a kept response.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RetrieveQuery {
    /// Only false is possible: a kept response comes as a whole.
    #[param(example = false)]
    pub stream: Option<bool>,
}

/// Which items of a response's input to list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct InputItemsQuery {
    /// Most items to list, up to 100. Default: 20.
    #[param(minimum = 1, maximum = 100, example = 20)]
    pub limit: Option<usize>,
    /// `asc`: the oldest first. Default: `desc`.
    #[param(inline, example = "asc")]
    pub order: Option<ItemOrder>,
    /// The id of the item after which to begin.
    pub after: Option<String>,
}

/// The order of listed items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ItemOrder {
    /// The oldest first.
    Asc,
    /// The newest first.
    Desc,
}

/// Items of a response's input.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct InputItemList {
    /// Always `list`.
    pub object: &'static str,
    /// The items, each with an `id`.
    #[schema(value_type = Vec<Object>)]
    pub data: Vec<Value>,
    /// The id of the first item. Null if there is none.
    #[schema(required)]
    pub first_id: Option<String>,
    /// The id of the last item. Null if there is none.
    #[schema(required)]
    pub last_id: Option<String>,
    /// Whether there are more items after the last one.
    pub has_more: bool,
}
