use std::convert::Infallible;

use axum::body::Body;
use axum::response::Response;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use super::*;

/// What happens to a request.
#[derive(Debug, PartialEq)]
enum Event {
    Begun,
    Ended,
}

struct Ends(mpsc::UnboundedSender<Event>);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.send(Event::Ended);
    }
}

/// A client of a server whose requests wait for a permit, and what happens to these requests.
async fn connected(every: Duration) -> (TcpStream, Arc<Semaphore>, mpsc::UnboundedReceiver<Event>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("an address"));
    let client = client.await.expect("connected");
    let (stream, _) = listener.accept().await.expect("accepted");
    let (permits, (events, received)) = (Arc::new(Semaphore::new(0)), mpsc::unbounded_channel());
    let may = permits.clone();
    let service = service_fn(move |_: Request<hyper::body::Incoming>| {
        let (ends, may) = (Ends(events.clone()), may.clone());
        ends.0.send(Event::Begun).expect("the test listens");
        async move {
            may.acquire().await.expect("never closed").forget();
            drop(ends);
            Ok::<_, Infallible>(Response::new(Body::from("the answer")))
        }
    });
    let connection = Connection::new(stream);
    let service = WhileConnected { service, connection: connection.clone(), every };
    tokio::spawn(async move {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).half_close(true);
        let _ = builder.serve_connection(TokioIo::new(connection), service).await;
    });
    (client, permits, received)
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(5);

#[tokio::test]
async fn a_client_that_has_sent_all_it_will_gets_its_answer() {
    for request in [REQUEST, b"GET / HTTP/1.0\r\n\r\n"] {
        let (mut client, permits, mut events) = connected(LONG).await;
        client.write_all(request).await.expect("sent");
        client.shutdown().await.expect("half closed");
        assert_eq!(events.recv().await, Some(Event::Begun));
        permits.add_permits(1);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an answer, and the end");
        assert!(answer.contains(" 200 OK") && answer.ends_with("\r\n\r\nthe answer"), "{answer}");
    }
}

#[tokio::test]
async fn a_half_closed_client_that_waits_for_long_is_asked_and_gets_its_answer() {
    let (mut client, permits, _events) = connected(SHORT).await;
    client.write_all(REQUEST).await.expect("sent");
    client.shutdown().await.expect("half closed");
    let mut interim = vec![0; INTERIM.len()];
    client.read_exact(&mut interim).await.expect("asked");
    assert_eq!(interim, INTERIM);
    permits.add_permits(1);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("an answer, and the end");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("the answer"), "{answer}");
}

#[tokio::test]
async fn the_request_of_a_client_that_disconnects_ends() {
    let (mut client, _permits, mut events) = connected(SHORT).await;
    client.write_all(REQUEST).await.expect("sent");
    assert_eq!(events.recv().await, Some(Event::Begun));
    drop(client);
    assert_eq!(events.recv().await, Some(Event::Ended));
}

#[tokio::test]
async fn pipelined_requests_of_a_half_closed_client_are_answered() {
    let (mut client, permits, mut events) = connected(SHORT).await;
    client.write_all(&REQUEST.repeat(3)).await.expect("sent");
    assert_eq!(events.recv().await, Some(Event::Begun));
    client.shutdown().await.expect("half closed");
    permits.add_permits(3);
    let mut answers = String::new();
    client.read_to_string(&mut answers).await.expect("answers, and the end");
    assert_eq!(answers.matches("the answer").count(), 3, "{answers}");
}
