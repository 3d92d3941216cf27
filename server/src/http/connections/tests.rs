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
fn evicted(slots: &[ConnectionSlot]) -> Vec<usize> {
    let is_evicted = |slot: &ConnectionSlot| slot.record.state.borrow().evicted;
    slots.iter().enumerate().filter(|(_, slot)| is_evicted(slot)).map(|(index, _)| index).collect()
}

#[tokio::test(start_paused = true)]
async fn the_client_with_most_connections_gives_up_the_one_idle_for_longest() {
    let connections = Connections::new(6);
    let mut slots = Vec::new();
    let from = ["192.0.2.9", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.9"];
    for client in from {
        slots.push(connections.slot(address(client)).await);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    // The oldest of them is active, and the next was used just now.
    let _busy = slots[1].record().open();
    drop(slots[2].record().open());
    tokio::select! {
        biased;
        _ = connections.slot(address("198.51.100.1")) => panic!("there is no room"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(evicted(&slots), [3]);
    // No other is evicted while this one is closing; once it is closed, there is a free slot.
    connections.close_idle();
    assert_eq!(evicted(&slots), [3]);
    drop(slots.remove(3));
    slots.push(connections.slot(address("198.51.100.1")).await);
    // Each client has two, so only age counts.
    drop(slots.remove(2));
    slots.push(connections.slot(address("198.51.100.1")).await);
    connections.close_idle();
    assert_eq!(evicted(&slots), [0]);
}

#[tokio::test]
async fn addresses_of_one_ipv6_client_count_together() {
    let connections = Connections::new(4);
    let mut slots = Vec::new();
    for client in ["2a00::1", "2a00:0:0:1::1", "2a00:0:0:1::2", "2a00:0:0:2::1"] {
        slots.push(connections.slot(address(client)).await);
    }
    connections.close_idle();
    assert_eq!(evicted(&slots), [1]);
}

#[tokio::test]
async fn if_all_are_active_a_new_connection_waits_until_one_is_idle() {
    let connections = Connections::new(1);
    let slot = connections.slot(address("192.0.2.1")).await;
    let open = slot.record().open();
    let (more, client) = (connections.clone(), address("192.0.2.2"));
    let next = tokio::spawn(async move { more.slot(client).await });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!next.is_finished() && !slot.record.state.borrow().evicted);
    drop(open);
    slot.evicted().await;
    drop(slot);
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
        let told = StopWatches { leaving: told.clone(), stopping: told };
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
