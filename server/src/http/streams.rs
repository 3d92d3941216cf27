//! Limits concurrent stream messages. Unlike single requests they wait, so this leaves capacity for
//! single requests and for other clients.
//!
//! Must not know: what messages contain, how connections are made.

use std::sync::Arc;

use proxima_engine::ClientKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::shares::Shares;

/// Messages of streams may use one in this many of the concurrent requests.
const STREAMS_PART: usize = 2;
/// A client may use one in this many of the slots of streams.
const CLIENT_PART: usize = 4;

/// The slots for messages of streams.
#[derive(Debug)]
pub struct Streams {
    all: Arc<Semaphore>,
    /// Slots of each client that has some, or waits for one.
    clients: Shares,
}

/// The slot of one message.
#[derive(Debug)]
pub struct StreamSlot {
    _of_all: OwnedSemaphorePermit,
    _of_client: OwnedSemaphorePermit,
}

impl Streams {
    /// The slots of a server with this many concurrent requests.
    pub fn new(requests_max: usize) -> Self {
        let all = (requests_max / STREAMS_PART).max(1);
        Self { all: Arc::new(Semaphore::new(all)), clients: Shares::new(all / CLIENT_PART) }
    }

    /// Waits for a slot for a message of this client.
    pub async fn enter(&self, client: ClientKey) -> Option<StreamSlot> {
        // The client's own first, so that no more of its messages wait among those of others.
        let of_client = self.clients.of(client).acquire_owned().await.ok()?;
        let of_all = self.all.clone().acquire_owned().await.ok()?;
        Some(StreamSlot { _of_all: of_all, _of_client: of_client })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_client_leaves_slots_for_others() {
        let streams = Streams::new(32);
        let (one, other) = (ClientKey::new(1), ClientKey::new(2));
        let mut slots = Vec::new();
        while let Some(Some(slot)) = streams.enter(one).now_or_never() {
            slots.push(slot);
        }
        assert_eq!(slots.len(), 4, "a quarter of the half");
        let of_other = streams.enter(other).now_or_never().flatten().expect("a slot");
        slots.pop();
        assert!(streams.enter(one).now_or_never().is_some(), "given back");
        drop((slots, of_other));
    }

    #[tokio::test]
    async fn the_smallest_server_has_a_slot() {
        let streams = Streams::new(1);
        let slot = streams.enter(ClientKey::default()).now_or_never().flatten();
        assert!(slot.is_some() && streams.enter(ClientKey::default()).now_or_never().is_none());
    }
}
