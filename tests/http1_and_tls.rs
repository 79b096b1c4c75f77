//! The same sessions over HTTP/1.1, which older clients use for them, and over TLS; all on one port.

mod support;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use s2s_gateway::{
    server::Certificate,
    types::AppendAck,
    wire::{Frame, FrameBuffer, ReadBatch, decode_append_ack, decode_read_batch},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use self::support::{
    Gateway, Setup,
    http1::Http1,
    peer::{BASIN, Peer, any_request, frame, input, records_path, settings, stream_path, until, within},
};

const S2S: (&str, &str) = ("content-type", "s2s/proto");
const IN_BASIN: (&str, &str) = ("s2-basin", BASIN);
const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");

async fn http1(gateway: &Gateway) -> Http1<TcpStream> {
    let socket = TcpStream::connect(gateway.address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    Http1::over(socket)
}

async fn unary<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Http1<S>,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, serde_json::Value) {
    let len = body.len().to_string();
    let fields = [IN_BASIN, ("content-type", "application/json"), ("content-length", &len)];
    connection.send_head(method, path, &fields).await;
    connection.send(body.as_bytes()).await;
    let (head, body) = connection.response().await;
    assert_eq!(head.fields.get("content-type").map(String::as_str), Some("application/json"), "{head:?}");
    (head.status, serde_json::from_slice(&body).unwrap())
}

async fn provision<S: AsyncRead + AsyncWrite + Unpin>(connection: &mut Http1<S>) {
    for path in [format!("/v1/basins/{BASIN}"), stream_path("orders")] {
        assert_eq!(unary(connection, "PUT", &path, "").await.0, 201);
    }
}

/// The frames of a session's response, out of whatever chunks they come in.
struct Frames<S> {
    connection: Http1<S>,
    frames: FrameBuffer,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    /// Reads the head of the response, which must grant the session.
    async fn of(mut connection: Http1<S>) -> Self {
        let head = connection.head().await;
        assert_eq!(head.status, 200);
        for (name, value) in [
            ("content-type", "s2s/proto"),
            ("cache-control", "no-cache, no-transform"),
            ("x-accel-buffering", "no"),
            ("transfer-encoding", "chunked"),
        ] {
            assert_eq!(head.fields.get(name).map(String::as_str), Some(value), "{name}");
        }
        Self { connection, frames: FrameBuffer::new() }
    }

    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.frames.next_frame().unwrap() {
                return Some(frame);
            }
            self.frames.push(self.connection.chunk().await?);
        }
    }

    async fn message(&mut self) -> Bytes {
        match self.next().await {
            Some(Frame::Message { body, .. }) => body,
            other => panic!("not a message: {other:?}"),
        }
    }

    async fn ack(&mut self) -> AppendAck {
        decode_append_ack(self.message().await).unwrap()
    }

    async fn batch(&mut self) -> ReadBatch {
        decode_read_batch(self.message().await).unwrap()
    }
}

/// An append session and a read session, each on a connection of its own, both directions at once.
async fn both_sessions_run<S: AsyncRead + AsyncWrite + Unpin>(mut writer: Http1<S>, mut reader: Http1<S>) {
    provision(&mut writer).await;
    reader.send_head("GET", &format!("{}?seq_num=0", records_path("orders")), &[IN_BASIN, S2S]).await;
    let mut reader = Frames::of(reader).await;
    assert!(reader.batch().await.records.is_empty(), "the heartbeat of one who arrived at the tail");

    writer.send_head("POST", &records_path("orders"), &[IN_BASIN, S2S, CHUNKED]).await;
    // The head of the response is there before any input.
    let mut writer = Frames::of(writer).await;
    for n in 0..20 {
        writer.connection.send_chunk(&input([format!("record {n}")])).await;
        let ack = writer.ack().await;
        assert_eq!((ack.start.seq_num.get(), ack.end.seq_num.get()), (n, n + 1));
        let batch = reader.batch().await;
        assert_eq!(batch.records[0].body, format!("record {n}"));
    }
    // Pipelined, and cut where no frame ends.
    let inputs: Vec<u8> = (20..40).flat_map(|n| input([format!("record {n}")])).collect();
    for piece in inputs.chunks(7) {
        writer.connection.send_chunk(piece).await;
    }
    writer.connection.send_last_chunk().await;
    for n in 20..40 {
        assert_eq!(writer.ack().await.start.seq_num.get(), n);
    }
    assert_eq!(writer.next().await, None);

    // The connection of a session that ended well can be used again.
    let path = format!("{}/tail", records_path("orders"));
    let (status, body) = unary(&mut writer.connection, "GET", &path, "").await;
    assert_eq!((status, &body["tail"]["seq_num"]), (200, &serde_json::json!(40)));
}

#[tokio::test]
async fn sessions_over_http1() {
    let gateway = Gateway::start().await;
    both_sessions_run(http1(&gateway).await, http1(&gateway).await).await;
}

#[tokio::test]
async fn a_session_that_fails_over_http1() {
    let gateway = Gateway::start().await;
    let mut connection = http1(&gateway).await;
    provision(&mut connection).await;
    connection.send_head("POST", &records_path("orders"), &[IN_BASIN, S2S, CHUNKED]).await;
    let mut session = Frames::of(connection).await;
    session.connection.send_chunk(&input(["x"])).await;
    session.connection.send_chunk(&frame(b"")).await;
    session.ack().await;
    match session.next().await {
        Some(Frame::Terminal(terminal)) => assert_eq!(terminal.status, 422),
        other => panic!("{other:?}"),
    }
    assert_eq!(session.next().await, None);
}

#[tokio::test]
async fn a_session_whose_request_breaks_off_over_http1() {
    // s2s.md §3.4: what came is acknowledged, and that it was not all is told, although no frame was cut in half.
    let gateway = Gateway::start().await;
    provision(&mut http1(&gateway).await).await;
    for rubbish in [&b"no length\r\n"[..], b"ffffffffffffffffff\r\n"] {
        let mut connection = http1(&gateway).await;
        connection.send_head("POST", &records_path("orders"), &[IN_BASIN, S2S, CHUNKED]).await;
        let mut session = Frames::of(connection).await;
        session.connection.send_chunk(&input(["x"])).await;
        session.ack().await;
        session.connection.send(rubbish).await;
        match session.next().await {
            Some(Frame::Terminal(terminal)) => {
                let body: serde_json::Value = serde_json::from_slice(&terminal.body).unwrap();
                assert_eq!((terminal.status, &body["code"]), (400, &serde_json::json!("bad_frame")));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(session.next().await, None);
    }
}

#[tokio::test]
async fn clients_that_vanish_over_http1_and_tls() {
    for (gateway, over_tls) in [(Gateway::start().await, false), (Setup::tls().start().await, true)] {
        let connect = async || -> Http1<Box<dyn Io>> {
            let io: Box<dyn Io> = match over_tls {
                true => Box::new(any_tls(&gateway, &[]).await),
                false => Box::new(TcpStream::connect(gateway.address).await.unwrap()),
            };
            Http1::over(io)
        };
        provision(&mut connect().await).await;
        let mut writer = connect().await;
        writer.send_head("POST", &records_path("orders"), &[IN_BASIN, S2S, CHUNKED]).await;
        let mut writer = Frames::of(writer).await;
        writer.connection.send_chunk(&input(["stays"])).await;
        writer.ack().await;
        writer.connection.send_chunk(&input(["half of this"])[..8]).await;
        let mut reader = connect().await;
        reader.send_head("GET", &records_path("orders"), &[IN_BASIN, S2S]).await;
        let mut reader = Frames::of(reader).await;
        assert!(reader.batch().await.records.is_empty());
        let sessions = |kind: &str| gateway.metric(&format!("s2s_sessions_open{{kind=\"{kind}\"}}"));
        assert_eq!((sessions("append"), sessions("read")), (1.0, 1.0));
        drop((writer, reader));
        until(|| sessions("append") + sessions("read") == 0.0).await;
        let path = format!("{}/tail", records_path("orders"));
        assert_eq!(unary(&mut connect().await, "GET", &path, "").await.1["tail"]["seq_num"], 1);
    }
}

/// A connection of whatever kind.
trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

#[tokio::test]
async fn a_session_that_is_refused_over_http1() {
    // s2s.md §1.3: whole, also while the body is still being sent.
    let gateway = Gateway::start().await;
    let mut connection = http1(&gateway).await;
    provision(&mut connection).await;
    connection.send_head("POST", &records_path("missing"), &[IN_BASIN, S2S, CHUNKED]).await;
    connection.send_chunk(&input(["x"])).await;
    let (head, body) = connection.response().await;
    assert_eq!((head.status, &head.fields["content-type"][..]), (404, "application/json"));
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["code"], "stream_not_found");
}

#[tokio::test]
async fn a_bounded_read_session_over_http1_leaves_the_connection_usable() {
    let gateway = Gateway::start().await;
    let mut connection = http1(&gateway).await;
    provision(&mut connection).await;
    let append = r#"{"records":[{"body":"a"},{"body":"b"}]}"#;
    assert_eq!(unary(&mut connection, "POST", &records_path("orders"), append).await.0, 200);
    connection.send_head("GET", &format!("{}?seq_num=0&count=2", records_path("orders")), &[IN_BASIN, S2S]).await;
    let mut session = Frames::of(connection).await;
    assert_eq!(session.batch().await.records.len(), 2);
    assert_eq!(session.next().await, None);
    assert_eq!(unary(&mut session.connection, "GET", "/v1/streams", "").await.0, 200);
}

#[tokio::test]
async fn unary_calls_share_a_connection_over_http1() {
    let gateway = Gateway::start().await;
    let mut connection = http1(&gateway).await;
    provision(&mut connection).await;
    for n in 0..20 {
        let append = format!(r#"{{"records":[{{"body":"record {n}"}}],"match_seq_num":{n}}}"#);
        let (status, ack) = unary(&mut connection, "POST", &records_path("orders"), &append).await;
        assert_eq!((status, &ack["end"]["seq_num"]), (200, &serde_json::json!(n + 1)));
    }
    let (status, error) = unary(&mut connection, "POST", &records_path("orders"), "{").await;
    assert_eq!((status, &error["code"]), (400, &serde_json::json!("bad_json")));
    let (status, batch) = unary(&mut connection, "GET", &format!("{}?seq_num=19", records_path("orders")), "").await;
    assert_eq!((status, &batch["records"][0]["body"]), (200, &serde_json::json!("record 19")));
    assert_eq!(unary(&mut connection, "DELETE", "/v1/nowhere", "").await.0, 404);
    assert_eq!(unary(&mut connection, "PATCH", &records_path("orders"), "").await.0, 405);
    assert_eq!(gateway.metric("s2s_connections_open"), 1.0);
}

#[tokio::test]
async fn who_asks_for_a_head_gets_no_body() {
    // RFC 9110 §9.3.2; to HTTP/2 peers a body would be a broken stream.
    let gateway = Gateway::start().await;
    let mut peer = Peer::connect(&gateway).await;
    for (path, status) in [("/health", 200), ("/metrics", 200), ("/v1/basins", 405), ("/nowhere", 404)] {
        let reply = peer.call(any_request("HEAD", path).body(Bytes::new()).unwrap()).await;
        assert_eq!((reply.status(), reply.body.len()), (status, 0), "{path}");
        let mut connection = http1(&gateway).await;
        connection.send_head("HEAD", path, &[("connection", "close")]).await;
        let head = connection.head().await;
        assert_eq!(head.status, status, "{path}");
        assert!(connection.closed().await.is_empty(), "{path}");
        let len = |text: Option<&str>| text.and_then(|text| text.parse::<usize>().ok()).unwrap();
        assert!(len(reply.header("content-length")) > 0, "of what GET would have got");
        assert!(len(head.fields.get("content-length").map(String::as_str)) > 0);
    }
}

#[tokio::test]
async fn a_request_with_expect_is_told_to_go_on() {
    // curl does so with bodies of more than a megabyte.
    let gateway = Gateway::start().await;
    let mut connection = http1(&gateway).await;
    provision(&mut connection).await;
    let body = r#"{"records":[{"body":"x"}]}"#;
    let len = body.len().to_string();
    let json = ("content-type", "application/json");
    let fields = [IN_BASIN, json, ("content-length", &len), ("expect", "100-continue")];
    connection.send_head("POST", &records_path("orders"), &fields).await;
    assert_eq!(connection.head().await.status, 100);
    connection.send(body.as_bytes()).await;
    assert_eq!(connection.response().await.0.status, 200);
}

#[tokio::test]
async fn a_client_that_says_so_is_closed_on_after_its_response() {
    let gateway = Gateway::start().await;
    let mut connection = http1(&gateway).await;
    connection.send_head("GET", "/health", &[("connection", "close")]).await;
    assert_eq!(connection.response().await.0.status, 200);
    assert!(connection.closed().await.is_empty());
}

/// Takes any certificate: the gateway made its own.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

enum Trust {
    Anyone,
    Only(CertificateDer<'static>),
}

async fn tls(
    gateway: &Gateway,
    trust: Trust,
    versions: &[&'static rustls::SupportedProtocolVersion],
    offers: &[&str],
) -> TlsStream<TcpStream> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = match trust {
        Trust::Anyone => builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified)),
        Trust::Only(certificate) => {
            let mut roots = RootCertStore::empty();
            roots.add(certificate).unwrap();
            builder.with_root_certificates(roots)
        }
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = offers.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let socket = TcpStream::connect(gateway.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    within(TlsConnector::from(Arc::new(config)).connect(name, socket)).await.unwrap()
}

async fn any_tls(gateway: &Gateway, offers: &[&str]) -> TlsStream<TcpStream> {
    tls(gateway, Trust::Anyone, rustls::ALL_VERSIONS, offers).await
}

fn negotiated(stream: &TlsStream<TcpStream>) -> Option<&str> {
    stream.get_ref().1.alpn_protocol().map(|protocol| std::str::from_utf8(protocol).unwrap())
}

async fn one_record_comes_back(peer: &mut Peer) {
    peer.provision(&["orders"]).await;
    let mut reader = peer.read_session("orders", "seq_num=0").await;
    assert_eq!(reader.expect_heartbeat().await, 0);
    let mut writer = peer.append_session("orders").await;
    writer.send(input(["over TLS"]));
    assert_eq!(writer.expect_acked().await, (0, 1));
    assert_eq!(reader.expect_records(1).await, [(0, Bytes::from("over TLS"))]);
}

#[tokio::test]
async fn http2_over_tls() {
    // http.md §1, §2
    for version in rustls::ALL_VERSIONS {
        let gateway = Setup::tls().start().await;
        let stream = tls(&gateway, Trust::Anyone, &[version], &["h2"]).await;
        assert_eq!(negotiated(&stream), Some("h2"), "{version:?}");
        one_record_comes_back(&mut Peer::over(stream, &settings()).await).await;
    }
}

#[tokio::test]
async fn what_is_negotiated() {
    let gateway = Setup::tls().start().await;
    for (offers, expected) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        assert_eq!(negotiated(&any_tls(&gateway, offers).await), expected, "{offers:?}");
    }
}

#[tokio::test]
async fn http1_over_tls() {
    let gateway = Setup::tls().start().await;
    let connection = async |offers: &[&str]| Http1::over(any_tls(&gateway, offers).await);
    both_sessions_run(connection(&["http/1.1"]).await, connection(&[]).await).await;
}

#[tokio::test]
async fn a_certificate_from_files_is_the_one_that_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (chain, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut setup = Setup::default();
    setup.server.tls = Some(Certificate::Files { chain, key });
    let gateway = setup.start().await;
    let stream = tls(&gateway, Trust::Only(made.cert.into()), rustls::ALL_VERSIONS, &["h2"]).await;
    one_record_comes_back(&mut Peer::over(stream, &settings()).await).await;
}

#[tokio::test]
async fn plain_http_on_a_tls_port_harms_nobody() {
    let gateway = Setup::tls().start().await;
    let mut peer = Peer::over(any_tls(&gateway, &["h2"]).await, &settings()).await;
    one_record_comes_back(&mut peer).await;
    let mut plain = http1(&gateway).await;
    plain.send_head("GET", "/health", &[]).await;
    // A TLS alert, if anything, and the end.
    assert!(!plain.closed().await.starts_with(b"HTTP"));
    let mut silent = http1(&gateway).await;
    silent.send(b"\x16").await;
    drop(silent);
    assert_eq!(peer.tail("orders").await, 1);
}

#[tokio::test(start_paused = true)]
async fn who_connects_and_does_not_say_what_they_speak_is_given_up() {
    let gateway = Gateway::start().await;
    for said in [&b""[..], b"PRI * HTTP/2.0\r\n", b"GET /health HT"] {
        let mut silent = TcpStream::connect(gateway.address).await.unwrap();
        silent.write_all(said).await.unwrap();
        let ended = timeout(Duration::from_secs(60), silent.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "{said:?}: it is still connected");
    }
}

#[tokio::test]
async fn a_head_without_end_is_not_kept() {
    let gateway = Gateway::start().await;
    for (len, is_served) in [(30 * 1024, true), (100 * 1024, false)] {
        let mut peer = http1(&gateway).await;
        peer.send_head("GET", "/health", &[("connection", "close"), ("x-long", &"x".repeat(len))]).await;
        assert_eq!(peer.closed().await.starts_with(b"HTTP/1.1 200"), is_served, "{len} bytes");
    }
}
