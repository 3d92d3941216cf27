use proptest::prelude::*;

use super::*;

const TIME_MAX: Duration = Duration::from_secs(30);

fn key(number: u64) -> ClientKey {
    ClientKey::new(number)
}

#[test]
fn what_waits_in_front_is_bounded_by_time() {
    let load = |same_class, ahead| Load { same_class, ahead, rate: Some(1_000.0) };
    assert_eq!(fits(load(0, 0), TIME_MAX), Ok(()));
    assert_eq!(fits(load(30_000, 0), TIME_MAX), Ok(()));
    assert_eq!(fits(load(40_000, 0), TIME_MAX), Err(10.0..50.0));
    assert_eq!(fits(load(30_000, 5_000), TIME_MAX), Err(5.0..40.0));
    // If nothing of its class waits, a request is admitted, whatever goes before its class.
    assert_eq!(fits(load(0, 90_000), TIME_MAX), Ok(()));
    let unknown = Load { same_class: usize::MAX, ahead: 0, rate: None };
    assert_eq!(fits(unknown, TIME_MAX), Ok(()));
}

#[test]
fn a_client_waits_for_its_own_and_as_much_of_each_other() {
    let mut ledger = Ledger::default();
    ledger.add(key(1), 100_000);
    ledger.add(key(2), 300);
    assert_eq!(ledger.in_front(key(1), 1_000), 100_300);
    assert_eq!(ledger.in_front(key(2), 1_000), 300 + 1_300);
    assert_eq!(ledger.in_front(key(3), 1_000), 1_000 + 300);
    assert_eq!(ledger.in_front(key(3), 1_000_000), 100_300);
    ledger.remove(key(1), 100_000);
    ledger.remove(key(2), 300);
    assert_eq!((ledger.total(), ledger.clients.len()), (0, 0));
}

#[test]
fn sizes_are_estimated_by_bytes_and_cut_as_inputs_are() {
    let text = |bytes: usize| Input::from("x".repeat(bytes));
    let about = |inputs: &[Input], how: &Prepare| RequestSize::about(inputs, how, 512).tokens;
    let plain = Prepare::default();
    assert_eq!(about(&[text(400), text(40)], &plain), 102 + 12);
    assert_eq!(about(&[text(1_000_000)], &plain), 512);
    let short = Prepare { tokens_max: Some(64), ..Prepare::default() };
    assert_eq!(about(&[text(1_000_000), text(0)], &short), 64 + 2);
    assert_eq!(about(&[Input::Tokens(vec![7; 100])], &plain), 100);
    assert_eq!(tokens_about(10, 4_000, 512), 1_020);
    assert_eq!(tokens_about(2, usize::MAX, 512), 1_024);
}

#[test]
fn those_who_are_refused_do_not_all_come_back_at_once() {
    let mut jitter = Jitter::new();
    let mut seconds: Vec<u64> =
        (0..1_000).map(|_| retry_after(&(2.0..32.0), jitter.next()).as_secs()).collect();
    assert!(seconds.iter().all(|wait| (2..=32).contains(wait)));
    seconds.sort_unstable();
    seconds.dedup();
    assert!(seconds.len() > 25, "{seconds:?}");
}

proptest! {
    #[test]
    fn advice_when_to_come_back_is_one_to_sixty_seconds(
        least in 0.0..1e9f64,
        more in 0.0..1e9f64,
        random in 0.0..=1.0f64,
    ) {
        let seconds = retry_after(&(least..least + more), random).as_secs();
        prop_assert!((1..=60).contains(&seconds));
    }

    #[test]
    fn a_ledger_adds_up(
        entries in proptest::collection::vec((0..5u64, 1..1_000usize), 0..40),
        client in 0..6u64,
        cost in 0..5_000usize,
    ) {
        let mut ledger = Ledger::default();
        entries.iter().for_each(|(client, cost)| ledger.add(key(*client), *cost));
        let total: usize = entries.iter().map(|(_, cost)| cost).sum();
        prop_assert_eq!(ledger.total(), total);
        // A client never waits for more than the total, nor for less than its own work.
        let of_client = entries.iter().filter(|(other, _)| *other == client);
        let own: usize = of_client.map(|(_, cost)| cost).sum();
        let in_front = ledger.in_front(key(client), cost);
        prop_assert!((own..=total).contains(&in_front));
        prop_assert_eq!(ledger.in_front(key(client), usize::MAX), total);
        entries.iter().for_each(|(client, cost)| ledger.remove(key(*client), *cost));
        prop_assert_eq!(ledger.total(), 0);
    }
}
