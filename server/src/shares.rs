//! Per-client limits on something shared, so that no client takes all of it.
//!
//! Must not know: what is shared.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use proxima_engine::ClientKey;
use tokio::sync::Semaphore;

/// Permits per client; clients that neither hold nor wait for any are dropped.
#[derive(Debug)]
pub struct Shares {
    each: usize,
    clients: Mutex<HashMap<ClientKey, Weak<Semaphore>>>,
}

impl Shares {
    /// Shares of `each` units per client, at least one.
    pub fn new(each: usize) -> Self {
        Self { each: each.max(1), clients: Mutex::default() }
    }

    /// The units of one client's share.
    pub fn each(&self) -> usize {
        self.each
    }

    /// A client's share, remembered while the semaphore or a permit of it exists.
    pub fn of(&self, client: ClientKey) -> Arc<Semaphore> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = clients.get(&client).and_then(Weak::upgrade) {
            return share;
        }
        // The remaining ones belong to current requests and streams, whose number is bounded.
        clients.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.each));
        clients.insert(client, Arc::downgrade(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_shares_of_their_own_and_are_forgotten_without() {
        let shares = Shares::new(2);
        let (one, other) = (ClientKey::new(1), ClientKey::new(2));
        let take = |client| shares.of(client).try_acquire_owned().ok();
        let held = [take(one), take(one)];
        assert!(held.iter().all(Option::is_some) && take(one).is_none());
        assert!(take(other).is_some());
        drop(held);
        assert!(take(one).is_some(), "given back");
        shares.of(other);
        assert_eq!(shares.clients.lock().expect("whole").len(), 1);
    }
}
