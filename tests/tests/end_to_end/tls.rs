//! TLS and HTTP/2.

use std::{fs, future::pending, process::Command, time::Duration};

use futures_util::future::join_all;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use tenon_tests::{
    Authority, Client, Collector, Identity, Server, ServerOptions, TlsClient, artifacts, chat,
    next_piece, whole,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

const EXAMPLE: &str = include_str!("../../../config/examples/public-server.toml");
const CHAT: &str = "/v1/chat/completions";
const HTTP1: &[&str] = &["http/1.1"];
const BOTH: &[&str] = &["h2", "http/1.1"];
const RUNNING: &str = "tenon_engine_running_sequences";

#[tokio::test]
async fn clients_get_the_protocol_that_they_speak() {
    let authority = Authority::new();
    let mut tls = start(&authority, "", "");
    for (protocols, is_http2) in [(&[][..], false), (HTTP1, false), (BOTH, true)] {
        let client = TlsClient::new(&authority, None, protocols);
        let mut connection = client.open(&tls.address).await.unwrap();
        assert_eq!(connection.is_http2(), is_http2);
        // Several requests, one after the other, over the same connection.
        for _ in 0..2 {
            let answer = connection.send(CHAT, &greedy("Hi", "echo")).await.unwrap();
            assert_eq!(answer.status(), 200);
            let answer: Value = serde_json::from_str(&whole(answer).await.unwrap()).unwrap();
            assert_eq!(tenon_tests::text(&answer), "Hi");
        }
        let stream = connection.send(CHAT, &streamed("Hello", "echo")).await;
        let text = whole(stream.unwrap()).await.unwrap();
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        let refused = connection.send("/nope", "").await.unwrap();
        assert_eq!(refused.status(), 404);
    }
    // The server's other address does not speak TLS.
    assert_eq!(tls.plain.chat("Hi", json!({"temperature": 0})).await, "Hi");
    let mut stream = TcpStream::connect(&tls.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    tls.server.signal("TERM");
    assert_eq!(tls.server.wait().code(), Some(0));
}

#[tokio::test]
async fn requests_share_a_connection_of_http2() {
    let authority = Authority::new();
    let tls = start(&authority, "", "");
    let client = TlsClient::new(&authority, None, BOTH);
    let mut connection = client.open(&tls.address).await.unwrap();
    let long = "x".repeat(2000);
    let slow = connection
        .send(CHAT, &streamed(&long, "slow"))
        .await
        .unwrap();
    let mut answers = Vec::new();
    for _ in 0..8 {
        answers.push(connection.send(CHAT, &greedy("Hi", "echo")).await.unwrap());
    }
    for answer in join_all(answers.into_iter().map(whole)).await {
        assert!(answer.unwrap().contains("\"Hi\""));
    }
    tls.plain.wait_for_metric(RUNNING, 1.0).await;
    // A request that is given up ends, and its connection stays.
    drop(slow);
    tls.plain.wait_for_metric(RUNNING, 0.0).await;
    let answer = connection.send("/health/live", "").await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn heads_over_http2_have_a_limit() {
    let authority = Authority::new();
    let tls = start(&authority, "", "");
    let client = TlsClient::new(&authority, None, BOTH);
    let mut connection = client.open(&tls.address).await.unwrap();
    let filler = |name: usize, bytes| {
        let name = HeaderName::from_bytes(format!("x-{name}").as_bytes());
        let value = HeaderValue::try_from("b".repeat(bytes));
        (name.unwrap(), value.unwrap())
    };
    for (count, bytes, status) in [
        (1, 60_000, 200),
        (300, 100, 200),
        (1, 66_000, 431),
        (700, 100, 431),
        // The connection is not lost.
        (1, 100, 200),
    ] {
        let headers = (0..count).map(|name| filler(name, bytes)).collect();
        let answer = connection.send_with("/health/live", "", headers).await;
        assert_eq!(answer.unwrap().status(), status, "{count} of {bytes}");
    }
    // A head without end costs the client its connection, and no other client anything.
    let headers = (0..300).map(|name| filler(name, 10_000)).collect();
    let answer = connection.send_with("/health/live", "", headers).await;
    assert!(answer.is_err(), "{answer:?}");
    let mut other = client.open(&tls.address).await.unwrap();
    let answer = other.send("/health/live", "").await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request() {
    let authority = Authority::new();
    let tls = start(&authority, "", "");
    let long = "x".repeat(2000);
    for protocols in [HTTP1, BOTH] {
        for body in [streamed(&long, "slow"), greedy(&long, "slow")] {
            let client = TlsClient::new(&authority, None, protocols);
            let mut connection = client.open(&tls.address).await.unwrap();
            let asked = tokio::spawn(async move {
                let answer = connection.send(CHAT, &body).await;
                pending::<()>().await;
                drop((connection, answer));
            });
            tls.plain.wait_for_metric(RUNNING, 1.0).await;
            asked.abort();
            tls.plain.wait_for_metric(RUNNING, 0.0).await;
        }
    }
}

#[tokio::test]
async fn a_new_certificate_counts_for_new_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let mut tls = start(&old, "", "");
    let client = TlsClient::new(&old, None, BOTH);
    let mut before = client.open(&tls.address).await.unwrap();
    // A certificate whose key has not arrived yet changes nothing.
    let identity = new.sign();
    let home = tls.server.home().to_owned();
    fs::write(home.join("server.pem"), &identity.certificate).unwrap();
    let line = tls.server.wait_for_log("the certificate stays as it is");
    assert!(line.contains("cannot be used with the key in"), "{line}");
    assert!(client.open(&tls.address).await.is_ok());
    fs::write(home.join("server.key"), &identity.key).unwrap();
    tls.server
        .wait_for_log("new connections get another certificate");
    assert!(client.open(&tls.address).await.is_err());
    let client = TlsClient::new(&new, None, BOTH);
    let mut after = client.open(&tls.address).await.unwrap();
    for connection in [&mut before, &mut after] {
        let answer = connection.send("/health/live", "").await.unwrap();
        assert_eq!(answer.status(), 200);
    }
}

/// A certificate that ends must not stay because somebody has mistyped a key.
#[tokio::test]
async fn a_certificate_is_renewed_while_the_configuration_has_a_mistake() {
    let (old, new) = (Authority::new(), Authority::new());
    let mut tls = start(&old, "", "");
    let client = TlsClient::new(&new, None, BOTH);
    let home = tls.server.home().to_owned();
    let file = home.join("tenon.toml");
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, config.replace("[engine]", "[engin]")).unwrap();
    let line = tls
        .server
        .wait_for_log("the configuration stays as it is: ");
    assert!(line.contains("engin"), "{line}");
    let identity = new.sign();
    fs::write(home.join("server.pem"), &identity.certificate).unwrap();
    let line = tls.server.wait_for_log("the certificate stays as it is: ");
    assert!(line.contains("cannot be used with the key in"), "{line}");
    assert!(client.open(&tls.address).await.is_err());
    fs::write(home.join("server.key"), &identity.key).unwrap();
    tls.server
        .wait_for_log("new connections get another certificate");
    let mut connection = client.open(&tls.address).await.unwrap();
    let answer = connection.send(CHAT, &greedy("Hi", "slow")).await.unwrap();
    assert_eq!(answer.status(), 200);
}

/// A revoked key must not stay valid because a certificate has been damaged.
#[tokio::test]
async fn the_configuration_changes_while_the_certificate_has_a_mistake() {
    let authority = Authority::new();
    let mut tls = start(&authority, "", "");
    let file = tls.server.home().join("tenon.toml");
    let config = fs::read_to_string(&file).unwrap();
    let with_key = config.replace("[engine]", "[[keys]]\nname = 'new'\nkey = 'new'\n[engine]");
    // The file of the certificate's key is not there.
    fs::write(&file, with_key.replace("'server.key'", "'other.key'")).unwrap();
    let line = tls.server.wait_for_log("the certificate stays as it is: ");
    assert!(line.contains("other.key cannot be read"), "{line}");
    tls.server.wait_for_log("the configuration was read again");
    let client = TlsClient::new(&authority, None, BOTH);
    let mut connection = client.open(&tls.address).await.unwrap();
    let answer = connection.send(CHAT, &greedy("Hi", "slow")).await.unwrap();
    assert_eq!(answer.status(), 401);
    let reload = "/admin/config/reload";
    let (status, reread) = tls.plain.with_key("new").post(reload, &json!({})).await;
    assert_eq!(status, 200, "{reread}");
    let why = reread["certificate_failed"].as_str().unwrap();
    assert!(why.contains("other.key cannot be read"), "{why}");
}

#[tokio::test]
async fn clients_may_need_a_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let tls = start(&authority, "client_ca_file = 'ca.pem'", "");
    for (identity, is_let_in) in [
        (Some(authority.sign()), true),
        (Some(other.sign()), false),
        (None, false),
    ] {
        let client = TlsClient::new(&authority, identity.as_ref(), BOTH);
        assert_eq!(is_answered(&client, &tls.address).await, is_let_in);
    }
}

#[tokio::test]
async fn a_new_authority_counts_for_new_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let mut tls = start(&old, "client_ca_file = 'ca.pem'", "");
    let [of_old, of_new] =
        [&old, &new].map(|authority| TlsClient::new(&old, Some(&authority.sign()), BOTH));
    let mut before = of_old.open(&tls.address).await.unwrap();
    assert!(before.send("/health/live", "").await.is_ok());
    assert!(!is_answered(&of_new, &tls.address).await);
    let file = tls.server.home().join("ca.pem");
    fs::write(&file, new.certificate()).unwrap();
    tls.server
        .wait_for_log("new connections get another certificate");
    assert!(is_answered(&of_new, &tls.address).await);
    assert!(!is_answered(&of_old, &tls.address).await);
    assert!(before.send("/health/live", "").await.is_ok());
    // A file without an authority does not let everybody in.
    fs::write(&file, "").unwrap();
    let line = tls.server.wait_for_log("the certificate stays as it is");
    assert!(line.contains("ca.pem has no certificate"), "{line}");
    assert!(is_answered(&of_new, &tls.address).await);
    let anybody = TlsClient::new(&old, None, BOTH);
    assert!(!is_answered(&anybody, &tls.address).await);
}

/// Whether the server lets a client in. It may refuse after the client has begun to send.
async fn is_answered(client: &TlsClient, address: &str) -> bool {
    match client.open(address).await {
        Ok(mut connection) => connection.send("/health/live", "").await.is_ok(),
        Err(_) => false,
    }
}

#[tokio::test]
async fn administration_speaks_tls_too() {
    let authority = Authority::new();
    let config = "[server]\nlisten = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\nadmin_keys = ['ops']\n\
                  [tls]\ncertificate_file = 'server.pem'\nkey_file = 'server.key'\n[[models]]\npath = 'echo.echo'\n";
    let mut server = options(&authority, "", "").config(config).start();
    let mut address = |purpose: &str| {
        let line = server.wait_for_log(purpose);
        let (_, address) = line.split_once("listening at https://").unwrap();
        address.split(' ').next().unwrap().to_owned()
    };
    let addresses = [
        address("listening at https://"),
        address("for administration and metrics"),
    ];
    for protocols in [HTTP1, BOTH] {
        let client = TlsClient::new(&authority, None, protocols);
        let mut clients = client.open(&addresses[0]).await.unwrap();
        let mut admin = client.open(&addresses[1]).await.unwrap();
        assert_eq!(admin.is_http2(), protocols == BOTH);
        for (key, path, of_clients, of_admin) in [
            ("ops", "/admin/models", 404, 200),
            ("ops", "/metrics", 404, 200),
            ("ops", "/status", 404, 200),
            ("none", "/admin/models", 401, 401),
            ("ops", "/v1/models", 200, 404),
        ] {
            for (connection, status) in [(&mut clients, of_clients), (&mut admin, of_admin)] {
                let answer = connection.send_as(key, path, "").await.unwrap();
                assert_eq!(answer.status(), status, "{key} {path}");
                whole(answer).await.unwrap();
            }
        }
    }
    let mut plain = TcpStream::connect(&addresses[1]).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nx-api-key: ops\r\n\r\n";
    plain.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
}

#[tokio::test]
async fn slow_and_silent_clients_lose_their_connections() {
    let authority = Authority::new();
    let tls = start(
        &authority,
        "",
        "header_timeout_secs = 1\nidle_timeout_secs = 1\nwrite_timeout_secs = 1",
    );
    // A client that does not begin TLS, and a client that sends only the beginning of a handshake.
    let mut silent = TcpStream::connect(&tls.address).await.unwrap();
    let mut slow = TcpStream::connect(&tls.address).await.unwrap();
    slow.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    for stream in [&mut silent, &mut slow] {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    }
    for protocols in [HTTP1, BOTH] {
        let client = TlsClient::new(&authority, None, protocols);
        // A client that sends no request.
        let mut stream = client.connect(&tls.address).await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        // A client that is idle after a request.
        let mut connection = client.open(&tls.address).await.unwrap();
        whole(connection.send("/health/live", "").await.unwrap())
            .await
            .unwrap();
        wait_for_connections(&tls.plain, 1.0).await;
        assert!(connection.send("/health/live", "").await.is_err());
    }
    // A client that does not read its answer.
    let client = TlsClient::new(&authority, None, BOTH);
    let mut connection = client.open(&tls.address).await.unwrap();
    let long = "x".repeat(3000);
    let mut answer = connection
        .send(CHAT, &streamed(&long, "echo"))
        .await
        .unwrap();
    wait_for_connections(&tls.plain, 1.0).await;
    let end = loop {
        match next_piece(answer.body_mut()).await {
            Some(Ok(_)) => {}
            end => break end,
        }
    };
    assert!(matches!(end, Some(Err(_))), "the answer is whole");
}

#[tokio::test]
async fn a_stop_waits_for_running_streams() {
    let authority = Authority::new();
    let mut tls = start(&authority, "", "");
    let client = TlsClient::new(&authority, None, BOTH);
    let mut idle = client.open(&tls.address).await.unwrap();
    whole(idle.send("/health/live", "").await.unwrap())
        .await
        .unwrap();
    let mut connection = client.open(&tls.address).await.unwrap();
    let mut answer = connection
        .send(CHAT, &streamed(&"x".repeat(50), "slow"))
        .await
        .unwrap();
    next_piece(answer.body_mut()).await.unwrap().unwrap();
    tls.server.signal("TERM");
    tls.server.wait_for_log("draining");
    let text = whole(answer).await.unwrap();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(tls.server.wait().code(), Some(0));
}

/// The example for strangers, with files and ports of the test.
#[tokio::test]
async fn the_example_of_a_public_server_serves() {
    let authority = Authority::new();
    let Identity { certificate, key } = authority.sign();
    let mut collector = Collector::start();
    let endpoint = collector.endpoint();
    let mut config = EXAMPLE.to_owned();
    for (written, replaced) in [
        ("http://127.0.0.1:4318", endpoint.as_str()),
        ("0.0.0.0:8443", "127.0.0.1:0"),
        ("127.0.0.1:9090", "127.0.0.1:0"),
        ("/run/tenon/clients.sock", "clients.sock"),
        ("/run/tenon/admin.sock", "admin.sock"),
        (
            "/etc/letsencrypt/live/llm.example.com/fullchain.pem",
            "server.pem",
        ),
        (
            "/etc/letsencrypt/live/llm.example.com/privkey.pem",
            "server.key",
        ),
        ("/etc/tenon/keys/website", "website"),
        ("/etc/tenon/keys/operator", "operator"),
        ("/srv/models/Qwen3-4B-Q4_K_M.gguf", "echo.echo"),
        (
            "/srv/models/Qwen2.5-Coder-7B-Instruct-Q4_K_M.gguf",
            "echo.echo",
        ),
        ("drain_delay_secs = 10", "drain_delay_secs = 0"),
    ] {
        assert!(config.contains(written), "{written}");
        config = config.replace(written, replaced);
    }
    let mut server = ServerOptions::new(&["tenon_plugin_echo"])
        .file("echo.echo", "0")
        .file("server.pem", &certificate)
        .file("server.key", &key)
        .file("website", "key-w\n")
        .file("operator", "key-o\n")
        .environment("TENON_PARTNER_KEY", "key-p")
        .config(&config)
        .addresses_of_config()
        .start();
    let address = server
        .address()
        .strip_prefix("https://")
        .unwrap()
        .to_owned();
    let client = TlsClient::new(&authority, None, BOTH);
    let mut connection = client.open(&address).await.unwrap();
    for (key, status) in [("none", 401), ("key-w", 200), ("key-p", 200)] {
        let answer = connection.send_as(key, CHAT, &greedy("Hi", "chat")).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), status, "{key}");
        assert_eq!(
            answer
                .headers()
                .contains_key("x-ratelimit-remaining-tokens"),
            status == 200
        );
        whole(answer).await.unwrap();
    }
    // The second model is loaded now. One client may not use it.
    for (key, status) in [("key-w", 200), ("key-p", 403)] {
        let answer = connection.send_as(key, CHAT, &greedy("Hi", "code")).await;
        assert_eq!(answer.unwrap().status(), status, "{key}");
    }
    let of_socket = Client::of_socket(&server.home().join("clients.sock")).with_key("key-w");
    assert_eq!(of_socket.chat("Hi", json!({"temperature": 0})).await, "Hi");
    let answer = connection
        .send_as("key-o", "/admin/models", "")
        .await
        .unwrap();
    assert_eq!(answer.status(), 404);
    let admin = Client::of_socket(&server.home().join("admin.sock"));
    assert_eq!(admin.get("/metrics").await.0, 401);
    let admin = admin.with_key("key-o");
    assert_eq!(admin.get("/admin/models").await.0, 200);
    assert!(
        admin
            .get_text("/status")
            .await
            .contains("<code>chat</code>")
    );
    let line = server.wait_for_log("\"target\":\"access\"");
    assert!(line.contains(CHAT), "{line}");
    collector.wait_for_span(|span| span["attributes"]["tenon.key"] == "website");
}

#[test]
fn files_that_cannot_be_used_are_a_sentence_and_exit_code_2() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (file, content, sentence) in [
        (
            "server.pem",
            "no certificate",
            "server.pem has no certificate in PEM",
        ),
        ("server.key", "no key", "server.key has no private key"),
        (
            "server.key",
            &other.sign().key,
            "cannot be used with the key in",
        ),
    ] {
        let mut server = options(&authority, "", "").file(file, content).spawn();
        assert_eq!(server.wait().code(), Some(2), "{file}");
        let log = server.rest_of_log();
        assert!(log.contains(sentence), "{log}");
    }
}

#[test]
fn clients_of_the_program_trust_the_authority_that_they_are_given() {
    let authority = Authority::new();
    let tls = start(&authority, "", "");
    let (_, port) = tls.address.rsplit_once(':').unwrap();
    let (url, authorities) = (
        format!("https://localhost:{port}"),
        tls.server.home().join("ca.pem"),
    );
    let run = |arguments: &[&str], file: Option<&str>| {
        let mut command = Command::new(&artifacts().tenon);
        command
            .args(["run", &url, "Hi"])
            .args(arguments)
            .env_remove("SSL_CERT_FILE");
        command.envs(file.map(|file| ("SSL_CERT_FILE", file)));
        let output = command.output().unwrap();
        let texts = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.success(), texts)
    };
    let file = authorities.to_str().unwrap();
    for (is_trusted, [answer, why]) in [run(&["--ca", file], None), run(&[], Some(file))] {
        assert!(is_trusted && answer == "Hi\n", "{answer}{why}");
    }
    let key = tls.server.home().join("server.key");
    for (arguments, expected) in [
        (&[][..], "(--ca, or SSL_CERT_FILE)"),
        (
            &["--ca", key.to_str().unwrap()],
            "has no certificate in PEM",
        ),
    ] {
        let (is_trusted, [answer, why]) = run(arguments, None);
        assert!(!is_trusted && answer.is_empty(), "{answer}");
        assert!(why.contains(expected), "{why}");
    }
}

/// A server with two addresses.
struct Tls {
    server: Server,
    /// The address that speaks TLS.
    address: String,
    /// A client of the address without TLS.
    plain: Client,
}

/// A server of the models `echo` and `slow`, with these keys in its `[tls]` and `[server]`.
fn start(authority: &Authority, tls: &str, keys: &str) -> Tls {
    let mut server = options(authority, tls, keys).start();
    server.wait_for_log("model ready model=\"slow\"");
    let at = |server: &mut Server, scheme: &str| {
        let line = server.wait_for_log(&format!("listening at {scheme}://"));
        let (_, address) = line.split_once("://").unwrap();
        address.split(' ').next().unwrap().to_owned()
    };
    let address = at(&mut server, "https");
    let plain = Client::new(format!("http://{}", at(&mut server, "http")));
    Tls {
        server,
        address,
        plain,
    }
}

fn options(authority: &Authority, tls: &str, keys: &str) -> ServerOptions {
    let Identity { certificate, key } = authority.sign();
    let config = format!(
        "[server]\nlisten = ['127.0.0.1:0', 'http://127.0.0.1:0']\n{keys}\n\
         [tls]\ncertificate_file = 'server.pem'\nkey_file = 'server.key'\n{tls}\n\
         [engine]\nmax_draft_tokens = 0\n[[models]]\npath = 'echo.echo'\n[[models]]\npath = 'slow.echo'\n"
    );
    ServerOptions::new(&["tenon_plugin_echo"])
        .file("echo.echo", "0")
        .file("slow.echo", "20")
        .file("server.pem", &certificate)
        .file("server.key", &key)
        .file("ca.pem", &authority.certificate())
        .config(&config)
        .addresses_of_config()
}

/// Waits until the server has this number of connections, including the one that reads the metric.
async fn wait_for_connections(plain: &Client, number: f64) {
    while plain.metric("tenon_http_connections").await > number {
        sleep(Duration::from_millis(50)).await;
    }
}

fn greedy(message: &str, model: &str) -> String {
    chat(message, json!({"model": model, "temperature": 0})).to_string()
}

fn streamed(message: &str, model: &str) -> String {
    let parameters = json!({"model": model, "temperature": 0, "stream": true});
    chat(message, parameters).to_string()
}
