//! A queue in which clients take turns: deficit round robin, counted in tokens.
//!
//! Each client with queued items has a flow. Flows take turns; each turn adds a quantum to what the
//! flow may take (its deficit), so over time each client gets the same number of tokens, however
//! many requests it sends and however large they are. A client that was idle while others were
//! served has saved what each of them got meanwhile, up to a limit, and is served from its savings
//! at once. So a client that asks for little does not wait for clients that ask for everything, and
//! one that sends its next request only after an answer gets as much as one that never stops
//! sending.
//!
//! Must not know: what is queued, who a client is, clocks.

use std::collections::{HashMap, VecDeque};

/// The client of a request. Opaque: equal keys are the same client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ClientKey(u64);

impl ClientKey {
    /// The client with this number; 0 stands for all requests that name no client.
    pub fn new(number: u64) -> Self {
        Self(number)
    }
}

/// Maximum number of clients tracked; further ones share a flow.
pub const CLIENTS_MAX: usize = 4_096;
/// Tokens per turn.
pub const QUANTUM: usize = 512;
/// Maximum tokens that an idle client saves.
const SAVINGS_MAX: usize = 16 * QUANTUM;
/// Resolution of `level`: units per token.
const LEVEL_PARTS: u64 = 1024;
/// The shared flow of clients beyond [`CLIENTS_MAX`].
const OTHERS: ClientKey = ClientKey(u64::MAX);

/// A queue in which clients take turns.
#[derive(Debug)]
pub struct FairQueue<T> {
    flows: HashMap<ClientKey, Flow<T>>,
    /// Clients with queued items that are served from their savings, first come, first served.
    saved: VecDeque<ClientKey>,
    /// The other clients with queued items, next turn first.
    ring: VecDeque<ClientKey>,
    /// Clients without queued items and their `quiet_since`, longest idle first.
    quiet: VecDeque<(ClientKey, u64)>,
    /// Virtual time: tokens received per client in line, in units of `1 / LEVEL_PARTS`. Taking an
    /// item adds its tokens divided by the number of clients in line.
    level: u64,
    length: usize,
}

#[derive(Debug)]
struct Flow<T> {
    items: VecDeque<(T, usize)>,
    /// Tokens it may still take.
    deficit: usize,
    /// Whether its turn has begun.
    in_turn: bool,
    /// `level` when its last item left.
    quiet_since: u64,
}

/// State of a flow while `iter` simulates the order of service.
#[derive(Debug, Clone, Copy)]
struct Ahead {
    key: ClientKey,
    taken: usize,
    deficit: usize,
    in_turn: bool,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            flows: HashMap::new(),
            saved: VecDeque::new(),
            ring: VecDeque::new(),
            quiet: VecDeque::new(),
            level: 0,
            length: 0,
        }
    }
}

impl<T> FairQueue<T> {
    /// Number of items.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds an item that costs `tokens`.
    pub fn push(&mut self, client: ClientKey, item: T, tokens: usize) {
        let known = self.flows.contains_key(&client);
        let active = self.saved.len() + self.ring.len();
        let client = if known || active < CLIENTS_MAX { client } else { OTHERS };
        let level = self.level;
        let flow = self.flows.entry(client).or_insert_with(|| Flow {
            items: VecDeque::new(),
            // An unknown client has been idle for long, or was never here: it starts with full
            // savings.
            deficit: SAVINGS_MAX,
            in_turn: false,
            quiet_since: level,
        });
        if flow.items.is_empty() {
            let saved = (level - flow.quiet_since) / LEVEL_PARTS;
            let saved = usize::try_from(saved).unwrap_or(SAVINGS_MAX);
            flow.deficit = flow.deficit.saturating_add(saved).min(SAVINGS_MAX);
            flow.in_turn = false;
            self.saved.push_back(client);
        }
        flow.items.push_back((item, tokens));
        self.length += 1;
        self.forget();
    }

    /// Forgets the longest-idle clients if there are more than [`CLIENTS_MAX`].
    fn forget(&mut self) {
        while self.flows.len() > CLIENTS_MAX {
            let Some((client, since)) = self.quiet.pop_front() else { return };
            let flow = self.flows.get(&client);
            if flow.is_some_and(|flow| flow.items.is_empty() && flow.quiet_since == since) {
                self.flows.remove(&client);
            }
        }
        // Drops stale entries of clients that have come back since.
        if self.quiet.len() > 2 * CLIENTS_MAX {
            let flows = &self.flows;
            self.quiet.retain(|(client, since)| {
                flows
                    .get(client)
                    .is_some_and(|flow| flow.items.is_empty() && flow.quiet_since == *since)
            });
        }
    }

    /// Removes and returns the next item.
    pub fn pop(&mut self) -> Option<T> {
        loop {
            let from_savings = !self.saved.is_empty();
            let client = *self.saved.front().or_else(|| self.ring.front())?;
            let flow = self.flows.get_mut(&client).expect("a client in line has a flow");
            if !from_savings && !flow.in_turn {
                (flow.deficit, flow.in_turn) = (flow.deficit + QUANTUM, true);
            }
            let tokens = flow.items.front().expect("a client in line has an item").1;
            if tokens > flow.deficit {
                flow.in_turn = false;
                if from_savings {
                    self.saved.pop_front();
                } else {
                    self.ring.pop_front();
                }
                self.ring.push_back(client);
                continue;
            }
            flow.deficit -= tokens;
            let in_line = self.saved.len() + self.ring.len();
            self.level += tokens as u64 * LEVEL_PARTS / in_line as u64;
            self.length -= 1;
            let (item, _) = flow.items.pop_front().expect("looked at above");
            if flow.items.is_empty() {
                // The rest of a turn is not saved.
                flow.deficit = if from_savings { flow.deficit } else { 0 };
                flow.quiet_since = self.level;
                self.quiet.push_back((client, self.level));
                if from_savings {
                    self.saved.pop_front();
                } else {
                    self.ring.pop_front();
                }
            }
            return Some(item);
        }
    }

    /// The items in the order in which [`pop`](Self::pop) would take them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let ahead = |key: &ClientKey| {
            let flow = &self.flows[key];
            Ahead { key: *key, taken: 0, deficit: flow.deficit, in_turn: flow.in_turn }
        };
        // Lazy, as a batch takes items of only a few of many clients.
        let mut saved = self.saved.iter().map(ahead).peekable();
        let mut begun: Option<Ahead> = None;
        let mut ring = self.ring.iter().map(ahead);
        let mut later: VecDeque<Ahead> = VecDeque::new();
        std::iter::from_fn(move || {
            loop {
                let (mut flow, from_savings) = match begun.take() {
                    Some(flow) => (flow, saved.peek().is_some()),
                    None => match saved.peek() {
                        Some(flow) => (*flow, true),
                        None => (ring.next().or_else(|| later.pop_front())?, false),
                    },
                };
                let Some((item, tokens)) = self.flows[&flow.key].items.get(flow.taken) else {
                    if from_savings {
                        saved.next();
                    }
                    continue;
                };
                if !from_savings && !flow.in_turn {
                    (flow.deficit, flow.in_turn) = (flow.deficit + QUANTUM, true);
                }
                if *tokens > flow.deficit {
                    flow.in_turn = false;
                    if from_savings {
                        saved.next();
                    }
                    later.push_back(flow);
                    continue;
                }
                flow.deficit -= tokens;
                flow.taken += 1;
                begun = Some(flow);
                return Some(item);
            }
        })
    }

    /// Removes and returns all items for which `keep` is false.
    pub fn drop_unless(&mut self, mut keep: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut dropped = Vec::new();
        for flow in self.flows.values_mut() {
            let items = std::mem::take(&mut flow.items);
            for (item, tokens) in items {
                if keep(&item) {
                    flow.items.push_back((item, tokens));
                } else {
                    dropped.push(item);
                }
            }
        }
        let flows = &self.flows;
        let emptied = |client: &ClientKey| flows[client].items.is_empty();
        let left = self.saved.iter().chain(&self.ring).filter(|client| emptied(client));
        let left: Vec<ClientKey> = left.copied().collect();
        self.saved.retain(|client| !emptied(client));
        self.ring.retain(|client| !emptied(client));
        for client in left {
            let flow = self.flows.get_mut(&client).expect("it was in line");
            flow.quiet_since = self.level;
            flow.deficit = 0;
            self.quiet.push_back((client, self.level));
        }
        self.length -= dropped.len();
        dropped
    }

    /// Removes everything, including what is known of clients.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests;
