//! Certificates, and a client that speaks TLS.

use std::{io, sync::Arc};

use futures_util::future::Either;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    client::conn::{http1, http2},
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// An authority that signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// The authority's own certificate, in PEM.
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `localhost`, or for a client.
    pub fn sign(&self) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// A builder of HTTP clients without trusted authorities, for servers without TLS.
pub fn plain_http() -> reqwest::ClientBuilder {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(config)
}

/// A client that trusts one authority.
#[derive(Clone)]
pub struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    /// A client that has this certificate, if any, and offers these protocols.
    pub fn new(trusted: &Authority, identity: Option<&Identity>, protocols: &[&str]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.0.der().clone()).expect("a certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
                builder
                    .with_client_auth_cert(vec![certificate.expect("a certificate")], key)
                    .expect("a certificate with its key")
            }
        };
        let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
        config.alpn_protocols = protocols.collect();
        Self(Arc::new(config))
    }

    /// Connects to the server at this address, such as `127.0.0.1:8443`.
    pub async fn connect(&self, address: &str) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(self.0.clone())
            .connect(name, stream)
            .await
    }

    /// Connects, and speaks the protocol that the server has chosen.
    pub async fn open(&self, address: &str) -> io::Result<TlsConnection> {
        let stream = self.connect(address).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(stream);
        let sender = match is_http2 {
            true => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                // Smaller than any answer, so that a client that does not read holds the server up.
                builder.initial_stream_window_size(1024);
                let (sender, connection) = builder.handshake(io).await.map_err(io::Error::other)?;
                tokio::spawn(connection);
                Either::Left(sender)
            }
            false => {
                let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
                tokio::spawn(connection);
                Either::Right(sender)
            }
        };
        Ok(TlsConnection(sender))
    }
}

/// A connection over which requests are sent.
pub struct TlsConnection(Either<http2::SendRequest<String>, http1::SendRequest<String>>);

impl TlsConnection {
    pub fn is_http2(&self) -> bool {
        matches!(self.0, Either::Left(_))
    }

    /// Sends a request. `body` is JSON, or empty for GET. The answer's body is not read yet.
    pub async fn send(&mut self, path: &str, body: &str) -> hyper::Result<Response<Incoming>> {
        self.send_as("none", path, body).await
    }

    /// Sends a request with an API key.
    pub async fn send_as(
        &mut self,
        key: &str,
        path: &str,
        body: &str,
    ) -> hyper::Result<Response<Incoming>> {
        let key = (HeaderName::from_static("x-api-key"), header(key));
        self.send_with(path, body, HeaderMap::from_iter([key]))
            .await
    }

    /// Sends a request with these headers too.
    pub async fn send_with(
        &mut self,
        path: &str,
        body: &str,
        mut headers: HeaderMap,
    ) -> hyper::Result<Response<Incoming>> {
        let method = if body.is_empty() { "GET" } else { "POST" };
        headers.insert(CONTENT_TYPE, header("application/json"));
        let mut request = Request::builder().method(method);
        request.headers_mut().expect("a request").extend(headers);
        match &mut self.0 {
            Either::Left(sender) => {
                let uri = format!("https://localhost{path}");
                sender.ready().await?;
                let request = request.uri(uri).body(body.to_owned()).expect("a request");
                sender.send_request(request).await
            }
            Either::Right(sender) => {
                let request = request.uri(path).header("host", "localhost");
                sender.ready().await?;
                let request = request.body(body.to_owned()).expect("a request");
                sender.send_request(request).await
            }
        }
    }
}

fn header(value: &str) -> HeaderValue {
    value.parse().expect("a header")
}

/// The next piece of an answer's body. None at its end.
pub async fn next_piece(body: &mut Incoming) -> Option<hyper::Result<String>> {
    loop {
        let frame =
            std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context));
        match frame.await? {
            Ok(frame) => {
                if let Some(data) = frame.data_ref() {
                    return Some(Ok(String::from_utf8_lossy(data).into_owned()));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

/// The whole body of an answer.
pub async fn whole(response: Response<Incoming>) -> hyper::Result<String> {
    let (mut body, mut text) = (response.into_body(), String::new());
    while let Some(piece) = next_piece(&mut body).await {
        text += &piece?;
    }
    Ok(text)
}
