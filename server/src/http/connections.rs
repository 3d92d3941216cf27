//! The connections of a listener: which are active and which are idle, which are closed when the
//! limit is reached, and how each ends.
//!
//! A connection without an open request is idle: between two requests, or before its first head
//! ends.
//! Must not know: what is served on them.

use std::collections::{HashMap, VecDeque};
use std::fmt::Display;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use hyper_util::server::graceful::GracefulConnection;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::client::client_part;
use super::half_close::Connection;

/// Idle connections closed at a time when the limit is reached: searching for them takes longer
/// than closing them.
const CLOSED_AT_A_TIME: usize = 16;
/// At most one in this many connections is closed at a time.
const CLOSED_PART: usize = 64;
/// Time for a connection that is to end and has no open request to finish what is in flight: the
/// rest of a head, the reply to a GOAWAY.
const GRACE: Duration = Duration::from_secs(1);
/// Time between two warnings that the limit is reached.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// How connections are notified that the server stops.
#[derive(Debug, Clone)]
pub struct StopWatches {
    /// It will stop soon, and still answers everyone.
    pub leaving: watch::Receiver<bool>,
    /// It stops.
    pub stopping: watch::Receiver<bool>,
}

impl StopWatches {
    /// Resolves when the server stops.
    pub async fn stopped(&mut self) {
        // An error means that the sender was dropped, which is the end as well.
        drop(self.stopping.wait_for(|stopping| *stopping).await);
    }

    /// Resolves when the server begins to leave; never if it is leaving already, since clients that
    /// connect later have no better server.
    async fn left(mut self) {
        if *self.leaving.borrow() {
            std::future::pending::<()>().await;
        }
        drop(self.leaving.wait_for(|leaving| *leaving).await);
    }
}

/// All connections of a listener.
#[derive(Debug)]
pub struct Connections {
    limit: usize,
    table: Mutex<Table>,
    /// Notified when a connection ends or becomes idle.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    records: HashMap<u64, Arc<ConnectionRecord>>,
    next: u64,
    warned: Option<Instant>,
}

/// One connection.
#[derive(Debug)]
pub struct ConnectionRecord {
    address: IpAddr,
    state: watch::Sender<ConnectionState>,
    connections: Arc<Connections>,
}

#[derive(Debug, Clone, Copy)]
struct ConnectionState {
    /// Requests that have begun and are neither answered nor given up.
    open: usize,
    /// When the last of them ended, or the connection began.
    since: Instant,
    /// Whether it must end so that another can connect.
    evicted: bool,
}

impl Connections {
    /// At most `limit` connections at a time.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, table: Mutex::default(), changed: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // No code panics between changes that belong together, so a poisoned lock is safe to use.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot for a new connection from this address. If there is none, idle connections are
    /// closed; if all are active, this waits.
    pub async fn slot(self: &Arc<Self>, address: IpAddr) -> ConnectionSlot {
        loop {
            if let Some(slot) = self.try_slot(address) {
                return slot;
            }
            self.close_idle();
            self.changed.notified().await;
        }
    }

    fn try_slot(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionSlot> {
        let mut table = self.lock();
        if table.records.len() >= self.limit {
            return None;
        }
        let state = ConnectionState { open: 0, since: Instant::now(), evicted: false };
        let (address, state) = (client_part(address), watch::Sender::new(state));
        let record = Arc::new(ConnectionRecord { address, state, connections: self.clone() });
        let number = table.next;
        table.next += 1;
        table.records.insert(number, record.clone());
        Some(ConnectionSlot { record, number })
    }

    /// Closes some idle connections, unless some are being closed already.
    pub fn close_idle(&self) {
        let mut table = self.lock();
        if table.records.values().any(|record| record.state.borrow().evicted) {
            return;
        }
        let mut clients = table.by_client();
        let most = clients.iter().max_by_key(|(_, client)| client.count);
        let most = most.map(|(address, client)| format!("{} of {address}", client.count));
        let mut closed = 0;
        while closed < CLOSED_AT_A_TIME.min(self.limit.div_ceil(CLOSED_PART))
            && let Some(record) = take_idle(&mut clients)
        {
            record.state.send_modify(|state| state.evicted = true);
            closed += 1;
        }
        let due = table.warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY);
        if due {
            table.warned = Some(Instant::now());
            let (count, most) = (table.records.len(), most.unwrap_or_default());
            drop(table);
            let what = match closed {
                0 => "all are busy, so new ones wait",
                _ => "the longest-idle ones are closed, first those of the client with the most",
            };
            tracing::warn!("the limit of {count} connections is reached ({most}): {what}");
        }
    }

    /// Returns when all have ended.
    pub async fn emptied(&self) {
        while !self.lock().records.is_empty() {
            self.changed.notified().await;
        }
    }
}

/// The connections of one client.
#[derive(Default)]
struct ClientConnections {
    count: usize,
    /// The idle ones, longest idle first.
    idle: VecDeque<(Instant, Arc<ConnectionRecord>)>,
}

impl Table {
    fn by_client(&self) -> HashMap<IpAddr, ClientConnections> {
        let mut clients: HashMap<IpAddr, ClientConnections> = HashMap::new();
        for record in self.records.values() {
            let client = clients.entry(record.address).or_default();
            client.count += 1;
            let state = *record.state.borrow();
            if state.open == 0 {
                client.idle.push_back((state.since, record.clone()));
            }
        }
        for client in clients.values_mut() {
            client.idle.make_contiguous().sort_by_key(|(since, _)| *since);
        }
        clients
    }
}

/// The longest idle connection of the client with the most connections, among clients with idle
/// ones. So a client that takes all connections shuts nobody out, and users behind one proxy keep
/// theirs until the limit is reached.
fn take_idle(clients: &mut HashMap<IpAddr, ClientConnections>) -> Option<Arc<ConnectionRecord>> {
    let with_idle = clients.values_mut().filter_map(|client| {
        let since = client.idle.front()?.0;
        Some((client.count, std::cmp::Reverse(since), client))
    });
    let (_, _, client) = with_idle.max_by_key(|(count, since, _)| (*count, *since))?;
    client.count -= 1;
    client.idle.pop_front().map(|(_, record)| record)
}

/// A connection's slot, released when dropped.
#[derive(Debug)]
pub struct ConnectionSlot {
    record: Arc<ConnectionRecord>,
    number: u64,
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let connections = &self.record.connections;
        connections.lock().records.remove(&self.number);
        connections.changed.notify_one();
    }
}

impl ConnectionSlot {
    /// The record in which its requests are counted.
    pub fn record(&self) -> &Arc<ConnectionRecord> {
        &self.record
    }

    async fn evicted(&self) {
        // The sender lives as long as the record.
        drop(self.record.state.subscribe().wait_for(|state| state.evicted).await);
    }

    /// Returns when no request was open for the grace period.
    async fn idle_for_long(&self) {
        let mut state = self.record.state.subscribe();
        loop {
            drop(state.wait_for(|state| state.open == 0).await);
            let busy = tokio::time::timeout(GRACE, state.wait_for(|state| state.open > 0));
            if busy.await.is_err() {
                return;
            }
        }
    }

    /// Runs a connection until its end. It is shut down gracefully when the server stops or it is
    /// evicted; over HTTP/2 also when the server is about to stop, so that clients move early, and
    /// when the client will send nothing more. Its open requests are then answered and it ends,
    /// even if the client does not react.
    pub async fn live<C>(self, connection: C, socket: Connection, mut told: StopWatches)
    where
        C: GracefulConnection,
        C::Error: Display,
    {
        let mut connection = pin!(connection);
        let leaving = async {
            told.clone().left().await;
            if !socket.is_http2() {
                // Its next response says `connection: close`.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            ended = connection.as_mut() => return note(ended),
            () = self.evicted() => {}
            () = leaving => {}
            () = socket.ended() => {}
            () = async { told.clone().stopped().await } => {}
        }
        connection.as_mut().graceful_shutdown();
        // In this order, so that the connection first writes its GOAWAY.
        tokio::select! {
            biased;
            ended = connection => note(ended),
            () = self.evicted() => {}
            () = socket.gone() => {}
            () = async {
                told.stopped().await;
                self.idle_for_long().await;
            } => {}
            () = async {
                socket.ended().await;
                self.idle_for_long().await;
            } => {}
        }
    }
}

fn note(ended: Result<(), impl Display>) {
    if let Err(error) = ended {
        tracing::debug!("a connection was lost: {error}");
    }
}

impl ConnectionRecord {
    /// Counts a request as open until the returned guard is dropped.
    pub fn open(self: &Arc<Self>) -> Open {
        self.state.send_modify(|state| state.open += 1);
        Open { record: self.clone() }
    }
}

/// An open request of a connection.
#[derive(Debug)]
pub struct Open {
    record: Arc<ConnectionRecord>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.record.state.send_modify(|state| {
            state.open -= 1;
            state.since = Instant::now();
        });
        self.record.connections.changed.notify_one();
    }
}

/// The body of a response, whose request is open until the body is written or given up.
#[derive(Debug)]
pub struct OpenBody {
    body: Body,
    _open: Open,
}

impl OpenBody {
    /// The body of the response to this request.
    pub fn new(body: Body, open: Open) -> Self {
        Self { body, _open: open }
    }
}

impl HttpBody for OpenBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
