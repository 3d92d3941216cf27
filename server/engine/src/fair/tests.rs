use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn key(number: u64) -> ClientKey {
    ClientKey::new(number)
}

/// Tokens each client received among the first `tokens` that the queue served.
fn given(queue: &mut FairQueue<(u64, usize)>, tokens: usize) -> BTreeMap<u64, usize> {
    let (mut given, mut all) = (BTreeMap::new(), 0);
    while all < tokens {
        let Some((client, tokens)) = queue.pop() else { break };
        *given.entry(client).or_default() += tokens;
        all += tokens;
    }
    given
}

/// A queue that knows these clients, none of which has any savings.
fn without_savings(clients: u64) -> FairQueue<(u64, usize)> {
    let mut queue = FairQueue::default();
    for client in 0..clients {
        queue.push(key(client), (client, 1), 1);
    }
    while queue.pop().is_some() {}
    for flow in queue.flows.values_mut() {
        (flow.deficit, flow.quiet_since) = (0, queue.level);
    }
    queue
}

#[test]
fn one_client_is_served_in_order() {
    let mut queue = FairQueue::default();
    for number in 0..100 {
        queue.push(key(1), number, 1 + number * 37 % 900);
    }
    assert_eq!(queue.iter().copied().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    let order: Vec<usize> = std::iter::from_fn(|| queue.pop()).collect();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
    assert!(queue.is_empty());
}

#[test]
fn clients_get_the_same_tokens_however_much_they_ask_for() {
    let mut queue = without_savings(3);
    // Items of 100, 1,000 and 50,000 tokens.
    for _ in 0..2_000 {
        queue.push(key(0), (0, 100), 100);
    }
    for _ in 0..1_000 {
        queue.push(key(1), (1, 1_000), 1_000);
    }
    for _ in 0..20 {
        queue.push(key(2), (2, 50_000), 50_000);
    }
    let given = given(&mut queue, 400_000);
    let fair = 400_000 / 3;
    for (client, tokens) in given {
        assert!(tokens.abs_diff(fair) <= 50_000 + 2 * QUANTUM, "client {client}: {tokens}");
    }
}

#[test]
fn a_quiet_client_goes_first_with_what_it_saved() {
    let mut queue = without_savings(2);
    for _ in 0..10_000 {
        queue.push(key(0), (0, 100), 100);
    }
    // While it is idle, the other client gets a hundred times what it will ask for.
    given(&mut queue, 200_000);
    for _ in 0..20 {
        queue.push(key(1), (1, 100), 100);
    }
    let first = given(&mut queue, 2_000);
    assert_eq!(first, BTreeMap::from([(1, 2_000)]));
    // A client that asks for as much as it can get soon has no savings left, and gets half.
    let mut share = BTreeMap::new();
    for _ in 0..1_000 {
        queue.push(key(1), (1, 100), 100);
    }
    given(&mut queue, SAVINGS_MAX);
    for (client, tokens) in given(&mut queue, 50_000) {
        share.insert(client, tokens);
    }
    assert!(share[&1].abs_diff(25_000) <= 2 * QUANTUM, "{share:?}");
}

#[test]
fn a_client_that_comes_back_when_it_is_answered_gets_as_much_as_one_that_never_stops() {
    const BATCH: usize = 1_500;
    let mut queue = without_savings(2);
    let (mut shares, mut waits, mut answered) = ([0, 0], true, 0);
    for batch in 0..4_000 {
        while queue.len() < 1_000 {
            queue.push(key(0), (0, 100), 100);
        }
        // Its next request arrives after the batch following its answer has started, so it misses
        // one.
        if waits && answered < batch {
            (0..32).for_each(|_| queue.push(key(1), (1, 90), 90));
            waits = false;
        }
        let mut left = BATCH;
        loop {
            let next = queue.iter().next().copied();
            let Some((client, tokens)) = next.filter(|item| item.1 <= left) else { break };
            queue.pop();
            left -= tokens;
            shares[usize::from(client == 1)] += tokens;
        }
        if !waits && queue.flows[&key(1)].items.is_empty() {
            (waits, answered) = (true, batch + 1);
        }
    }
    let part = shares[1] as f64 / (shares[0] + shares[1]) as f64;
    assert!((0.45..0.52).contains(&part), "{part}");
}

#[test]
fn no_more_clients_are_remembered_than_may_be() {
    let mut queue = FairQueue::default();
    for client in 0..3 * CLIENTS_MAX as u64 {
        queue.push(key(client), client, 1);
        queue.pop();
    }
    assert!(queue.flows.len() <= CLIENTS_MAX && queue.quiet.len() <= 2 * CLIENTS_MAX + 1);
    for client in 0..2 * CLIENTS_MAX as u64 {
        queue.push(key(client), client, 1);
    }
    assert!(queue.flows.len() <= CLIENTS_MAX + 1, "the rest share a flow");
    let mut seen: Vec<u64> = std::iter::from_fn(|| queue.pop()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..2 * CLIENTS_MAX as u64).collect::<Vec<_>>());
}

/// Push an item of a client with its tokens, pop a number of items, or drop a client's items.
#[derive(Debug, Clone)]
enum Operation {
    Push(u64, usize),
    Pop(usize),
    Drop(u64),
}

fn steps() -> impl Strategy<Value = Vec<Operation>> {
    let step = prop_oneof![
        4 => (0..6u64, 1..3_000usize).prop_map(|(client, tokens)| Operation::Push(client, tokens)),
        2 => (1..6usize).prop_map(Operation::Pop),
        1 => (0..6u64).prop_map(Operation::Drop),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    #[test]
    fn what_is_looked_at_is_what_is_taken_and_nothing_is_lost(steps in steps()) {
        let mut queue = FairQueue::default();
        let (mut number, mut left) = (0usize, Vec::new());
        for step in steps {
            match step {
                Operation::Push(client, tokens) => {
                    queue.push(key(client), (client, number), tokens);
                    left.push((client, number));
                    number += 1;
                }
                Operation::Pop(count) => {
                    let ahead: Vec<_> = queue.iter().take(count).copied().collect();
                    let taken: Vec<_> = (0..count).filter_map(|_| queue.pop()).collect();
                    prop_assert_eq!(&ahead, &taken);
                    left.retain(|item| !taken.contains(item));
                }
                Operation::Drop(client) => {
                    let dropped = queue.drop_unless(|(of, _)| *of != client);
                    prop_assert!(dropped.iter().all(|(of, _)| *of == client));
                    left.retain(|(of, _)| *of != client);
                }
            }
            prop_assert_eq!(queue.len(), left.len());
            let mut all: Vec<_> = queue.iter().copied().collect();
            // The order of each client's items is preserved.
            for client in 0..6 {
                let of = |items: &[(u64, usize)]| -> Vec<usize> {
                    let of_client = items.iter().filter(|(other, _)| *other == client);
                    of_client.map(|(_, tokens)| *tokens).collect()
                };
                prop_assert_eq!(of(&all), of(&left));
            }
            all.sort_unstable();
            let mut expected = left.clone();
            expected.sort_unstable();
            prop_assert_eq!(all, expected);
        }
    }

    #[test]
    fn nobody_who_waits_gets_much_less_than_another(
        sizes in proptest::collection::vec(1..2_000usize, 2..8),
        part in 1..10usize,
    ) {
        let mut queue = without_savings(sizes.len() as u64);
        for (client, tokens) in sizes.iter().enumerate() {
            for _ in 0..60_000 / tokens + 1 {
                queue.push(key(client as u64), (client as u64, *tokens), *tokens);
            }
        }
        let given = given(&mut queue, 5_000 * part * sizes.len());
        let most = given.values().max().copied().unwrap_or(0);
        for client in 0..sizes.len() as u64 {
            let tokens = given.get(&client).copied().unwrap_or(0);
            prop_assert!(most - tokens <= 2_000 + 2 * QUANTUM, "client {client}: {given:?}");
        }
    }
}
