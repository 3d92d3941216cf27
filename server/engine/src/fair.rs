//! A queue in which clients take turns: deficit round robin, counted in tokens.
//!
//! Each client with something in the queue has a flow. Flows take turns; a turn adds a quantum to
//! what the flow may take (its deficit), so over time each gets the same number of tokens, however
//! many requests it sends and however large they are. A client that was quiet while others were
//! served has saved what each of them got meanwhile, up to a limit, and is served from its savings
//! at once: who asks for little does not wait for those who ask for everything, and who comes back
//! as soon as it is answered gets as much as who never stops asking.
//! Must not know: what is queued, who a client is, clocks.

use std::collections::{HashMap, VecDeque};

/// Whose request it is. Opaque: the same key is the same client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ClientKey(u64);

impl ClientKey {
    /// The client of this number; 0 is the client of all requests that name none.
    pub fn new(number: u64) -> Self {
        Self(number)
    }
}

/// Clients that are remembered; further ones share a flow.
pub const CLIENTS_MAX: usize = 4_096;
/// Tokens of a turn.
pub const QUANTUM: usize = 512;
/// Tokens that a quiet client saves at most.
const SAVINGS_MAX: usize = 16 * QUANTUM;
/// Parts of a token in which it is counted what each client in line got.
const LEVEL_PARTS: u64 = 1024;
/// The flow of clients that are too many to be remembered.
const OTHERS: ClientKey = ClientKey(u64::MAX);

/// A queue in which clients take turns.
#[derive(Debug)]
pub struct FairQueue<T> {
    flows: HashMap<ClientKey, Flow<T>>,
    /// Clients with something in the queue that are served from their savings, first come first.
    saved: VecDeque<ClientKey>,
    /// The other clients with something in the queue, whose turn is next first.
    ring: VecDeque<ClientKey>,
    /// Clients without anything in the queue, who was served longest ago first.
    quiet: VecDeque<(ClientKey, u64)>,
    /// Tokens, in parts, that each client in line was given: those of all by how many they were.
    level: u64,
    length: usize,
}

#[derive(Debug)]
struct Flow<T> {
    items: VecDeque<(T, usize)>,
    /// Tokens that it may take now.
    deficit: usize,
    /// Whether its turn has begun.
    in_turn: bool,
    /// `level` when its last item left.
    quiet_since: u64,
}

/// Where a flow is while the order of service is looked at ahead of time.
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
    /// Items in it.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds an item of so many tokens.
    pub fn push(&mut self, client: ClientKey, item: T, tokens: usize) {
        let known = self.flows.contains_key(&client);
        let active = self.saved.len() + self.ring.len();
        let client = if known || active < CLIENTS_MAX { client } else { OTHERS };
        let level = self.level;
        let flow = self.flows.entry(client).or_insert_with(|| Flow {
            items: VecDeque::new(),
            // One that is not remembered was not here for long, or never.
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

    /// Forgets the clients that were quiet for longest, if there are too many.
    fn forget(&mut self) {
        while self.flows.len() > CLIENTS_MAX {
            let Some((client, since)) = self.quiet.pop_front() else { return };
            let is_quiet = |flow: &Flow<T>| flow.items.is_empty() && flow.quiet_since == since;
            if self.flows.get(&client).is_some_and(is_quiet) {
                self.flows.remove(&client);
            }
        }
        // Entries of clients that came back since.
        if self.quiet.len() > 2 * CLIENTS_MAX {
            let flows = &self.flows;
            self.quiet.retain(|(client, since)| {
                flows.get(client).is_some_and(|it| it.items.is_empty() && it.quiet_since == *since)
            });
        }
    }

    /// Takes the item whose turn it is.
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
                // What is left of a turn is no savings.
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
        // Looked at as they are needed: a batch takes from few of many clients.
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

    /// Takes out all items that are not to be kept.
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
        let left = self.saved.iter().chain(&self.ring).filter(|it| emptied(it));
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

    /// Takes out everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests;
