//! How many messages of streams are at work at a time: streams wait for their turn where single
//! requests are refused, so they must leave room for those, and a client's for another client's.
//!
//! Must not know: what messages say, how connections are made.

use std::sync::Arc;

use proxima_engine::ClientKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::shares::Shares;

/// Of the requests at a time, one in so many is for messages of streams.
const STREAMS_PART: usize = 2;
/// Of the messages of streams, one in so many is for a client.
const CLIENT_PART: usize = 4;

/// Places of messages of streams.
#[derive(Debug)]
pub struct Streams {
    all: Arc<Semaphore>,
    /// Places of each client that has some, or waits for one.
    clients: Shares,
}

/// The place of one message.
#[derive(Debug)]
pub struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_client: OwnedSemaphorePermit,
}

impl Streams {
    /// Places for a server that has so many requests at work at a time.
    pub fn new(requests_max: usize) -> Self {
        let all = (requests_max / STREAMS_PART).max(1);
        Self { all: Arc::new(Semaphore::new(all)), clients: Shares::new(all / CLIENT_PART) }
    }

    /// A place for a message of this client, when it is its turn.
    pub async fn enter(&self, client: ClientKey) -> Option<Place> {
        // The client's own first, so that only so many of its messages wait among those of others.
        let of_client = self.clients.of(client).acquire_owned().await.ok()?;
        let of_all = self.all.clone().acquire_owned().await.ok()?;
        Some(Place { _of_all: of_all, _of_client: of_client })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_client_leaves_places_for_others() {
        let streams = Streams::new(32);
        let (one, other) = (ClientKey::new(1), ClientKey::new(2));
        let mut places = Vec::new();
        while let Some(Some(place)) = streams.enter(one).now_or_never() {
            places.push(place);
        }
        assert_eq!(places.len(), 4, "a quarter of the half");
        let of_other = streams.enter(other).now_or_never().flatten().expect("a place");
        places.pop();
        assert!(streams.enter(one).now_or_never().is_some(), "given back");
        drop((places, of_other));
    }

    #[tokio::test]
    async fn the_smallest_server_has_a_place() {
        let streams = Streams::new(1);
        let place = streams.enter(ClientKey::default()).now_or_never().flatten();
        assert!(place.is_some() && streams.enter(ClientKey::default()).now_or_never().is_none());
    }
}
