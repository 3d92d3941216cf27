use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::listen;
use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The indices of those that are evicted.
fn evicted(places: &[Place]) -> Vec<usize> {
    let is_evicted = |place: &Place| place.record.state.borrow().evicted;
    places.iter().enumerate().filter(|(_, place)| is_evicted(place)).map(|it| it.0).collect()
}

#[tokio::test(start_paused = true)]
async fn the_client_with_most_connections_gives_up_the_one_idle_for_longest() {
    let connections = Connections::new(6);
    let mut places = Vec::new();
    let from = ["192.0.2.9", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.9"];
    for client in from {
        places.push(connections.place(address(client)).await);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    // The oldest of them is active, and the next was used just now.
    let _busy = places[1].record().open();
    drop(places[2].record().open());
    tokio::select! {
        biased;
        _ = connections.place(address("198.51.100.1")) => panic!("there is no room"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(evicted(&places), [3]);
    // No other is evicted while this one is closing; once it is closed, there is a free slot.
    connections.close_idle();
    assert_eq!(evicted(&places), [3]);
    drop(places.remove(3));
    places.push(connections.place(address("198.51.100.1")).await);
    // Each client has two, so only age counts.
    drop(places.remove(2));
    places.push(connections.place(address("198.51.100.1")).await);
    connections.close_idle();
    assert_eq!(evicted(&places), [0]);
}

#[tokio::test]
async fn addresses_of_one_ipv6_client_count_together() {
    let connections = Connections::new(4);
    let mut places = Vec::new();
    for client in ["2a00::1", "2a00:0:0:1::1", "2a00:0:0:1::2", "2a00:0:0:2::1"] {
        places.push(connections.place(address(client)).await);
    }
    connections.close_idle();
    assert_eq!(evicted(&places), [1]);
}

#[tokio::test]
async fn where_all_are_at_work_a_new_connection_waits_until_one_is_not() {
    let connections = Connections::new(1);
    let place = connections.place(address("192.0.2.1")).await;
    let open = place.record().open();
    let (more, client) = (connections.clone(), address("192.0.2.2"));
    let next = tokio::spawn(async move { more.place(client).await });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!next.is_finished() && !place.record.state.borrow().evicted);
    drop(open);
    place.evicted().await;
    drop(place);
    next.await.expect("no panic");
}

/// A server with this limit of connections, where requests to `/waits` wait.
async fn serve(connections_max: usize) -> (SocketAddr, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let may_answer = Arc::new(Notify::new());
    let waits = may_answer.clone();
    let router = Router::new()
        .route("/livez", get(|| async { "alive" }))
        .route("/waits", get(move || async move { waits.notified().await }));
    let limits = listen::Limits {
        connections_max,
        drain: Duration::ZERO,
        write_timeout: Duration::from_secs(30),
        streams_max: 16,
    };
    tokio::spawn(async move {
        let (_tell, told) = watch::channel(false);
        let told = Told { leaving: told.clone(), stopping: told };
        listen::serve(listener, router, told, limits).await
    });
    (address, may_answer)
}

async fn ask(stream: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
}

async fn is_ok(stream: &mut TcpStream) -> bool {
    let mut first = [0; 15];
    stream.read_exact(&mut first).await.is_ok() && first.starts_with(b"HTTP/1.1 200 OK")
}

#[tokio::test]
async fn idle_connections_lock_nobody_out() {
    let (address, may_answer) = serve(8).await;
    let connect = || async { TcpStream::connect(address).await.expect("connected") };
    let mut at_work = connect().await;
    ask(&mut at_work, "/waits").await;
    let mut idle = Vec::new();
    for index in 0..40 {
        let mut stream = connect().await;
        match index % 3 {
            0 => {}
            1 => stream.write_all(b"GET /livez HTTP/1.1\r\nhost").await.expect("sent"),
            _ => stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent"),
        }
        idle.push(stream);
        let mut asks = connect().await;
        ask(&mut asks, "/livez").await;
        assert!(is_ok(&mut asks).await, "after {index} idle connections");
    }
    // Active connections were not closed for them.
    may_answer.notify_one();
    assert!(is_ok(&mut at_work).await);
}
