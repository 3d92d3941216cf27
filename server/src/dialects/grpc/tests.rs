//! The gRPC services as clients see them, over a real connection.

mod access;
mod ending;
mod health;
mod own_api;
mod scores;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use proxima_engine::{Engine, EngineConfig, LoadStep, Registry};
use proxima_models::{LoadOptions, Model};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::{v1 as reflection, v1alpha as older_reflection};

use super::proto::proxima::proxima_client::ProximaClient;
use super::proto::proxima::{self as own, input};
use super::proto::tei as pb;
use super::proto::tei::embed_client::EmbedClient;
use super::proto::tei::info_client::InfoClient;
use super::proto::tei::predict_client::PredictClient;
use super::proto::tei::rerank_client::RerankClient;
use super::proto::tei::tokenize_client::TokenizeClient;
use crate::fake_model::{Knobs, TOKENS_MAX, WIDTH, fake_model};
use crate::http::{App, HttpConfig};
use crate::metrics::MetricsHub;
use crate::served::{self, Listening, app_of};

const LONG: &str = "a b c d e f g h i j k l m n o p q r s t u v w x y z";

struct Server {
    http: SocketAddr,
    channel: Channel,
    engine: Engine,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

async fn serve(model: Model, config: HttpConfig) -> Server {
    let served = app_of("it", model, config, EngineConfig::default());
    let (Listening { http, stop, serving, .. }, channel) = listen(served.app).await;
    Server { http, channel, engine: served.engine, stop, serving }
}

/// A served app, and a channel to its gRPC.
async fn listen(app: Arc<App>) -> (Listening, Channel) {
    let listening = served::listen(app).await;
    let channel = Channel::from_shared(format!("http://{}", listening.grpc));
    let channel = channel.expect("an address").connect().await.expect("connected");
    (listening, channel)
}

async fn fake(config: HttpConfig) -> (Server, Knobs) {
    let (model, knobs) = fake_model();
    (serve(model, config).await, knobs)
}

/// Serves a tiny golden checkpoint of the repository.
async fn golden(name: &str) -> Server {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/scores").join(name);
    let model = crate::serve::load(&folder, &LoadOptions::default()).expect("a model");
    serve(model, HttpConfig::default()).await
}

/// Posts over HTTP and returns the body of the answer.
async fn post(server: &Server, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(server.http).await.expect("connected");
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("a whole answer");
    answer.split("\r\n\r\n").nth(1).expect("a body").to_owned()
}

fn text(inputs: &str) -> pb::EmbedRequest {
    pb::EmbedRequest { inputs: inputs.into(), ..pb::EmbedRequest::default() }
}

async fn embed(server: &Server, message: pb::EmbedRequest) -> Result<Vec<f32>, Status> {
    let mut client = EmbedClient::new(server.channel.clone());
    client.embed(message).await.map(|reply| reply.into_inner().embeddings)
}

fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> Code {
    result.expect_err("refused").code()
}

#[tokio::test]
async fn a_vector_is_that_of_http_bit_for_bit_and_says_what_it_took() {
    let (server, _) = fake(HttpConfig::default()).await;
    let body = post(&server, "/embed", "{\"inputs\": \"one text\"}").await;
    let expected: Vec<Vec<f32>> = serde_json::from_str(&body).expect("vectors");
    let mut client = EmbedClient::new(server.channel.clone());
    let reply = client.embed(text("one text")).await.expect("a vector");
    let number =
        |name: &str| reply.metadata().get(name).and_then(|text| text.to_str().ok()?.parse().ok());
    assert_eq!(number("x-compute-tokens"), Some(4));
    assert_eq!(number("x-compute-characters"), Some(8));
    assert!(number("x-total-time").is_some() && reply.metadata().contains_key("x-compute-type"));
    let reply = reply.into_inner();
    assert_eq!(reply.embeddings, expected[0]);
    let metadata = reply.metadata.expect("what it took");
    assert_eq!((metadata.compute_chars, metadata.compute_tokens), (8, 4));
    assert!(metadata.total_time_ns >= metadata.queue_time_ns && metadata.inference_time_ns > 0);
}

#[tokio::test]
async fn options_of_a_message_are_heard() {
    let (server, _) = fake(HttpConfig::default()).await;
    let prompted = embed(&server, text("search for it")).await.expect("a vector");
    let named = pb::EmbedRequest { prompt_name: Some("query".into()), ..text("it") };
    assert_eq!(embed(&server, named).await.expect("a vector"), prompted);
    let raw = pb::EmbedRequest { normalize: Some(false), ..text("search for it") };
    let raw = embed(&server, raw).await.expect("a vector");
    let length = raw.iter().map(|value| value * value).sum::<f32>().sqrt();
    assert!((length - 1.0).abs() > 1e-3 && (raw[0] / length - prompted[0]).abs() < 1e-6);
    let cut = pb::EmbedRequest { dimensions: Some(2), ..text("it") };
    assert_eq!(embed(&server, cut).await.expect("a vector").len(), 2);
    let mut left = pb::EmbedRequest { truncate: true, ..text(LONG) };
    left.set_truncation_direction(pb::TruncationDirection::Left);
    let tail = embed(&server, text("m n o p q r s t u v w x y z")).await.expect("a vector");
    assert_eq!(embed(&server, left).await.expect("a vector"), tail);
    let side = pb::EmbedRequest { truncation_direction: 7, ..text("it") };
    assert_eq!(code(embed(&server, side).await), Code::InvalidArgument);
}

#[tokio::test]
async fn truncation_is_off_unless_asked_for() {
    let (server, _) = fake(HttpConfig::default()).await;
    assert_eq!(code(embed(&server, text(LONG)).await), Code::InvalidArgument);
    let cut = pb::EmbedRequest { truncate: true, ..text(LONG) };
    let head = embed(&server, text("a b c d e f g h i j k l m n")).await.expect("a vector");
    assert_eq!(embed(&server, cut).await.expect("a vector"), head);
    // Proxima's own API follows the server's setting, as HTTP does.
    let mut client = ProximaClient::new(server.channel.clone());
    let given = |truncate| own::EmbedRequest { truncate, ..inputs(&[LONG]) };
    assert!(client.embed(given(None)).await.is_ok());
    assert_eq!(code(client.embed(given(Some(false))).await), Code::InvalidArgument);
}

#[tokio::test]
async fn a_stream_is_answered_in_order_and_ends_with_its_first_failure() {
    let (server, _) = fake(HttpConfig::default()).await;
    let texts: Vec<String> = (0..50).map(|index| format!("text number {index}")).collect();
    let mut client = EmbedClient::new(server.channel.clone());
    let messages: Vec<_> = texts.iter().map(|sent| text(sent)).collect();
    let replies = client.embed_stream(stream::iter(messages)).await.expect("a stream");
    let replies: Vec<_> = replies.into_inner().try_collect().await.expect("all replies");
    assert_eq!(replies.len(), texts.len());
    for (reply, text_sent) in replies.iter().zip(&texts) {
        assert_eq!(reply.embeddings, embed(&server, text(text_sent)).await.expect("a vector"));
    }
    let messages = stream::iter([text("a"), text(LONG), text("b")]);
    let replies = client.embed_stream(messages).await.expect("a stream").into_inner();
    let mut replies = replies.collect::<Vec<_>>().await.into_iter();
    assert!(replies.next().is_some_and(|reply| reply.is_ok()));
    assert_eq!(replies.next().map(code), Some(Code::InvalidArgument));
    assert!(replies.next().is_none());
}

#[tokio::test]
async fn many_short_messages_of_a_stream_may_wait() {
    let (server, knobs) = fake(HttpConfig::default()).await;
    knobs.shut();
    // One frame per message: the client pauses between them.
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let apart = move |message| {
        counted.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::task::yield_now().await;
            message
        }
    };
    let messages: Vec<_> = (0..10_000).map(|index| text(&index.to_string())).collect();
    let mut client = EmbedClient::new(server.channel.clone());
    let replies = client.embed_stream(stream::iter(messages).then(apart)).await.expect("a stream");
    until_a_batch_waits(&knobs).await;
    // Until all are sent, and lie unread at the server.
    let all_sent = async {
        while sent.load(Ordering::SeqCst) < 10_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all_sent).await.expect("all may wait");
    knobs.open();
    let replies = replies.into_inner().try_collect::<Vec<_>>().await.expect("replies");
    assert_eq!(replies.len(), 10_000);
}

#[tokio::test]
async fn tokens_go_both_ways() {
    let (server, _) = fake(HttpConfig::default()).await;
    let mut client = TokenizeClient::new(server.channel.clone());
    let message = pb::EncodeRequest { inputs: "ab cd".into(), ..Default::default() };
    let bare = client.tokenize(message.clone()).await.expect("tokens").into_inner().tokens;
    let texts: Vec<_> =
        bare.iter().map(|token| (token.text.as_str(), token.start, token.special)).collect();
    assert_eq!(texts, [("ab", Some(0), false), ("cd", Some(3), false)]);
    let message = pb::EncodeRequest { add_special_tokens: true, ..message };
    let replies = client.tokenize_stream(stream::iter([message])).await.expect("a stream");
    let all: Vec<_> = replies.into_inner().try_collect().await.expect("replies");
    assert!(
        all[0].tokens.len() == 4 && all[0].tokens[0].special && all[0].tokens[0].start.is_none()
    );
    let ids = |skip_special_tokens| pb::DecodeRequest { ids: vec![0, 12, 1], skip_special_tokens };
    assert_eq!(client.decode(ids(true)).await.expect("text").into_inner().text, "w12");
    assert_eq!(client.decode(ids(false)).await.expect("text").into_inner().text, "w0 w12 w1");
    assert_eq!(code(client.decode(pb::DecodeRequest::default()).await), Code::InvalidArgument);
    let all = pb::EmbedAllRequest { inputs: "a b".into(), ..Default::default() };
    let mut client = EmbedClient::new(server.channel.clone());
    let rows = client.embed_all(all).await.expect("rows").into_inner().token_embeddings;
    assert!(rows.len() == 4 && rows.iter().all(|row| row.embeddings.len() == WIDTH));
}

#[tokio::test]
async fn failures_have_their_statuses() {
    let config = HttpConfig { body_bytes_max: 10_000, ..HttpConfig::default() };
    let (server, _) = fake(config).await;
    let mut predict = PredictClient::new(server.channel.clone());
    let message = pb::PredictRequest { inputs: "a".into(), ..Default::default() };
    assert_eq!(code(predict.predict(message).await), Code::FailedPrecondition);
    let pair = pb::PredictPairRequest { inputs: vec!["a".into(); 3], ..Default::default() };
    assert_eq!(code(predict.predict_pair(pair).await), Code::InvalidArgument);
    let mut client = EmbedClient::new(server.channel.clone());
    let sparse = pb::EmbedSparseRequest { inputs: "a".into(), ..Default::default() };
    assert_eq!(code(client.embed_sparse(sparse).await), Code::FailedPrecondition);
    assert_eq!(code(embed(&server, text("")).await), Code::InvalidArgument);
    assert_eq!(code(embed(&server, text("poison")).await), Code::Internal);
    let dimensions = pb::EmbedRequest { dimensions: Some(99), ..text("a") };
    assert_eq!(code(embed(&server, dimensions).await), Code::InvalidArgument);
    assert_eq!(code(embed(&server, text(&"a".repeat(20_000))).await), Code::OutOfRange);
    let mut client = ProximaClient::new(server.channel.clone());
    let other = own::EmbedRequest { model: Some("other".into()), ..inputs(&["a"]) };
    let status = client.embed(other).await.expect_err("no such model");
    assert!(status.code() == Code::NotFound && status.message().contains("served: it"));
    assert_eq!(code(client.embed(inputs(&[])).await), Code::InvalidArgument);
    server.engine.shutdown().await;
    assert_eq!(code(embed(&server, text("a")).await), Code::Unavailable);
}

#[tokio::test]
async fn only_calls_with_a_key_get_in_but_health_is_open() {
    let config = HttpConfig { api_keys: vec!["one".into(), "two".into()], ..Default::default() };
    let (server, _) = fake(config).await;
    assert_eq!(code(embed(&server, text("a")).await), Code::Unauthenticated);
    for (value, right) in [("Bearer two", true), ("Bearer three", false), ("Bearer ", false)] {
        let mut request = tonic::Request::new(text("a"));
        request.metadata_mut().insert("authorization", value.parse().expect("ASCII"));
        let reply = EmbedClient::new(server.channel.clone()).embed(request).await;
        assert_eq!(reply.map_or_else(|status| status.code(), |_| Code::Ok) == Code::Ok, right);
    }
    assert_eq!(health(&server, "").await, Ok(ServingStatus::Serving));
}

async fn health(server: &Server, service: &str) -> Result<ServingStatus, Code> {
    let mut client = HealthClient::new(server.channel.clone());
    let reply = client.check(HealthCheckRequest { service: service.into() }).await;
    reply.map(|reply| reply.into_inner().status()).map_err(|status| status.code())
}

#[tokio::test]
async fn reflection_lists_the_services() {
    use reflection::server_reflection_request::MessageRequest;
    use reflection::server_reflection_response::MessageResponse;
    let (server, _) = fake(HttpConfig::default()).await;
    let mut client =
        reflection::server_reflection_client::ServerReflectionClient::new(server.channel.clone());
    let ask = |what| reflection::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(what),
    };
    let asked = stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("tei.v1.EmbedRequest".into())),
    ]);
    let replies = client.server_reflection_info(asked).await.expect("a stream").into_inner();
    let replies: Vec<_> = replies.try_collect().await.expect("replies");
    let Some(MessageResponse::ListServicesResponse(list)) = &replies[0].message_response else {
        panic!("not a list: {:?}", replies[0]);
    };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in super::SERVICES {
        assert!(names.contains(&service), "{service} is not in {names:?}");
    }
    let file = &replies[1].message_response;
    assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(_))));
    use older_reflection::server_reflection_request::MessageRequest as OlderRequest;
    let channel = server.channel.clone();
    let mut older =
        older_reflection::server_reflection_client::ServerReflectionClient::new(channel);
    let asked = older_reflection::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(OlderRequest::ListServices(String::new())),
    };
    let replies = older.server_reflection_info(stream::iter([asked])).await.expect("a stream");
    let replies: Vec<_> = replies.into_inner().try_collect().await.expect("replies");
    assert!(format!("{:?}", replies[0]).contains("proxima.v1.Proxima"));
}

#[tokio::test]
async fn info_tells_the_model_and_the_limits() {
    let (server, _) = fake(HttpConfig::default()).await;
    let info = InfoClient::new(server.channel.clone()).info(pb::InfoRequest {}).await;
    let info = info.expect("told").into_inner();
    assert_eq!((info.model_id.as_str(), info.model_type()), ("it", pb::ModelType::Embedding));
    assert_eq!((info.max_concurrent_requests, info.max_input_length), (512, TOKENS_MAX as u32));
    let mut client = ProximaClient::new(server.channel.clone());
    let models = client.models(own::ModelsRequest {}).await.expect("told").into_inner().models;
    assert_eq!((models.len(), models[0].dimensions), (1, Some(WIDTH as u32)));
    assert_eq!(models[0].rerank_method(), own::RerankMethod::Similarity);
    let server = golden("bert-classifier").await;
    let info = InfoClient::new(server.channel.clone()).info(pb::InfoRequest {}).await;
    assert_eq!(info.expect("told").into_inner().model_type(), pb::ModelType::Classifier);
}

async fn until_a_batch_waits(knobs: &Knobs) {
    let knobs = knobs.clone();
    let waited = tokio::task::spawn_blocking(move || knobs.wait_until_a_batch_waits());
    waited.await.expect("waited");
}

#[tokio::test]
async fn limits_are_shared_with_http_and_streams_wait() {
    let config = HttpConfig { requests_max: 1, ..HttpConfig::default() };
    let (server, knobs) = fake(config).await;
    knobs.shut();
    let mut client = EmbedClient::new(server.channel.clone());
    let first = tokio::spawn({
        let mut client = client.clone();
        async move { client.embed(text("a")).await }
    });
    until_a_batch_waits(&knobs).await;
    let status = embed(&server, text("b")).await.expect_err("refused");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").expect("when"), "1000");
    let refused = post(&server, "/embed", "{\"inputs\": \"c\"}").await;
    assert!(refused.contains("Overloaded"), "{refused}");
    let waiting = client.embed_stream(stream::iter([text("d"), text("e")])).await;
    let waiting = waiting.expect("a stream").into_inner();
    knobs.open();
    assert!(first.await.expect("no panic").is_ok());
    let replies: Vec<_> = waiting.try_collect().await.expect("replies");
    assert_eq!(replies.len(), 2);
}

#[tokio::test]
async fn streams_leave_room_for_single_requests() {
    let (server, knobs) = fake(HttpConfig { requests_max: 8, ..HttpConfig::default() }).await;
    knobs.shut();
    let sent = Arc::new(AtomicUsize::new(0));
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut client = EmbedClient::new(server.channel.clone());
        let counted = sent.clone();
        let messages = stream::iter("abcdefgh".chars()).map(move |letter| {
            counted.fetch_add(1, Ordering::SeqCst);
            text(&letter.to_string())
        });
        streams.push(client.embed_stream(messages).await.expect("a stream").into_inner());
    }
    until_a_batch_waits(&knobs).await;
    // Until the server has read as much of them as it wants: both ends share one thread.
    while sent.load(Ordering::SeqCst) < 32 {
        tokio::task::yield_now().await;
    }
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    // The streams would leave no capacity for these if they took all they could use.
    let mut single = Vec::new();
    for _ in 0..4 {
        let mut client = EmbedClient::new(server.channel.clone());
        single.push(tokio::spawn(async move { client.embed(text("x")).await }));
    }
    knobs.open();
    for call in single {
        call.await.expect("no panic").expect("answered");
    }
    for replies in streams {
        let replies: Vec<_> = replies.try_collect().await.expect("replies");
        assert_eq!(replies.len(), 8);
    }
}

#[tokio::test]
async fn calls_end_at_their_clients_deadlines() {
    let times = [("2H", 7_200_000), ("1M", 60_000), ("3S", 3_000), ("99999999m", 99_999_999)];
    for (text, milliseconds) in times {
        assert_eq!(super::deadline(text), Some(Duration::from_millis(milliseconds)), "{text}");
    }
    assert_eq!(super::deadline("5u"), Some(Duration::from_micros(5)));
    assert_eq!(super::deadline("0n"), Some(Duration::ZERO));
    for wrong in ["", "1", "S", "+1S", "123456789S", "1s", "1.5S", "1é"] {
        assert_eq!(super::deadline(wrong), None, "{wrong}");
    }
    let (server, _) = fake(HttpConfig::default()).await;
    let mut client = EmbedClient::new(server.channel.clone());
    let mut request = tonic::Request::new(text("a"));
    request.metadata_mut().insert("grpc-timeout", "soon".parse().expect("a value"));
    let status = client.embed(request).await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("grpc-timeout"), "{status}");
}

#[tokio::test]
async fn a_message_that_takes_too_long_is_ended() {
    let limit = Duration::from_millis(50);
    let (server, knobs) = fake(HttpConfig { request_timeout: limit, ..Default::default() }).await;
    knobs.shut();
    assert_eq!(code(embed(&server, text("a")).await), Code::DeadlineExceeded);
    let mut client = EmbedClient::new(server.channel.clone());
    let replies = client.embed_stream(stream::iter([text("b")])).await.expect("a stream");
    assert_eq!(code(replies.into_inner().message().await), Code::DeadlineExceeded);
    // A stream that is answered as a whole, and never ends.
    let mut client = RerankClient::new(server.channel.clone());
    assert_eq!(code(client.rerank_stream(stream::pending()).await), Code::DeadlineExceeded);
    knobs.open();
}

#[tokio::test]
async fn a_stopping_server_answers_what_it_read_and_ends_open_streams() {
    let (server, knobs) = fake(HttpConfig::default()).await;
    knobs.shut();
    let mut client = EmbedClient::new(server.channel.clone());
    // A client that sends one message and then stays silent.
    let messages = stream::iter([text("a")]).chain(stream::pending());
    let mut replies = client.embed_stream(messages).await.expect("a stream").into_inner();
    until_a_batch_waits(&knobs).await;
    server.stop.send(()).expect("it listens");
    while TcpStream::connect(server.http).await.is_ok() {
        tokio::task::yield_now().await;
    }
    knobs.open();
    assert!(replies.message().await.expect("answered").is_some());
    assert_eq!(code(replies.message().await), Code::Unavailable);
    server.serving.await.expect("no panic");
}

/// Inputs of Proxima's own API.
fn inputs(texts: &[&str]) -> own::EmbedRequest {
    let input = |text: &&str| own::Input { input: Some(input::Input::Text((*text).into())) };
    own::EmbedRequest { inputs: texts.iter().map(input).collect(), ..Default::default() }
}
