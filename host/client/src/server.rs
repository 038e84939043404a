//! A server, and requests to it.

use std::path::Path;

use anyhow::{Context, anyhow};
use reqwest::{RequestBuilder, Response};
use serde_json::Value;

use crate::trust::{client_builder, is_distrust};

/// A server of the OpenAI API.
pub struct Server {
    http: reqwest::Client,
    /// The base URL, without `/v1`.
    url: String,
    api_key: Option<String>,
}

impl Server {
    /// `url` may end with `/v1`. `authorities` is a file with the certificates of the authorities that may sign the server's
    /// certificate. None: the authorities that this machine trusts.
    ///
    /// # Errors
    /// The file has no certificates, or the HTTP client cannot be made.
    pub fn new(
        url: &str,
        api_key: Option<String>,
        authorities: Option<&Path>,
    ) -> anyhow::Result<Self> {
        // A proxy would be measured too. Each request gets its own connection: llama-server closes a connection silently
        // after each stream, and the next request on it would fail.
        let http = client_builder(authorities)?
            .no_proxy()
            .pool_max_idle_per_host(0)
            .build()?;
        let url = url.trim_end_matches('/').trim_end_matches("/v1");
        Ok(Self {
            http,
            url: url.to_owned(),
            api_key,
        })
    }

    /// The base URL, without `/v1` and without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a GET request.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses the request.
    pub async fn get(&self, path: &str) -> anyhow::Result<Response> {
        self.send(self.http.get(self.at(path))).await
    }

    /// Sends a POST request with a body in JSON.
    ///
    /// # Errors
    /// The errors of [`get`](Self::get).
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Response> {
        self.send(self.http.post(self.at(path)).json(body)).await
    }

    /// The id of the first model that the server lists.
    ///
    /// # Errors
    /// The errors of [`get`](Self::get), or the server lists none.
    pub async fn first_model(&self) -> anyhow::Result<String> {
        let models: Value = self.get("/v1/models").await?.json().await?;
        let id = models["data"][0]["id"].as_str();
        let id = id.with_context(|| format!("{} lists no model: name one (--model)", self.url))?;
        Ok(id.to_owned())
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let request = match &self.api_key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        match request.send().await {
            Ok(response) => accepted(response).await,
            Err(error) if is_distrust(&error) => Err(anyhow!(error).context(
                "nobody whom this machine trusts has signed the server's certificate: name a file with the certificate of its \
                 authority (--ca, or SSL_CERT_FILE)",
            )),
            Err(error) => Err(error.into()),
        }
    }
}

/// The response, unless the server refused the request.
async fn accepted(response: Response) -> anyhow::Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.text().await.unwrap_or_default();
    Err(anyhow!("the server answers {status}: {}", reason(&text)))
}

/// The message of an error in OpenAI's form, or the whole text.
fn reason(text: &str) -> String {
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let message = body["error"]["message"].as_str();
    message.unwrap_or(text.trim()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_url_is_without_v1() {
        for url in [
            "http://a:1",
            "http://a:1/",
            "http://a:1/v1",
            "http://a:1/v1/",
        ] {
            assert_eq!(Server::new(url, None, None).unwrap().url(), "http://a:1");
        }
    }

    #[test]
    fn the_reason_of_a_refusal_is_its_message() {
        assert_eq!(
            reason(r#"{"error": {"message": "no such model"}}"#),
            "no such model"
        );
        assert_eq!(reason("bad gateway\n"), "bad gateway");
    }
}
