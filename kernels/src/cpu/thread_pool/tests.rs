use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn every_index_is_run_once_by_many_leaders_at_a_time() {
    std::thread::scope(|scope| {
        for leader in 0..4 {
            scope.spawn(move || {
                for round in 0..2000 {
                    let counts: Vec<AtomicUsize> =
                        (0..leader * 3 + round % 17).map(|_| AtomicUsize::new(0)).collect();
                    for_each(counts.len(), |index| {
                        counts[index].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
                }
            });
        }
    });
}

#[test]
fn helpers_that_sleep_are_woken() {
    for _ in 0..20 {
        std::thread::park_timeout(3 * LOOKS_FOR);
        let (met, parties) = (AtomicUsize::new(0), threads());
        // Terminates only if all threads run a task at the same time.
        for_each(parties, |_| {
            met.fetch_add(1, Ordering::SeqCst);
            while met.load(Ordering::SeqCst) < parties {
                std::thread::yield_now();
            }
        });
    }
}

#[test]
fn a_panic_reaches_who_has_the_work_and_the_next_job_runs() {
    for _ in 0..50 {
        let result = catch_unwind(|| for_each(64, |index| assert!(index != 20, "at {index}")));
        let panic = result.expect_err("a panic");
        assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some("at 20"));
        let done = AtomicUsize::new(0);
        for_each(64, |_| _ = done.fetch_add(1, Ordering::Relaxed));
        assert_eq!(done.into_inner(), 64);
    }
}

#[test]
fn work_within_work_runs_on_the_thread_that_has_it() {
    let sum = AtomicUsize::new(0);
    for_each(8, |outer| {
        let own = std::thread::current().id();
        for_each(8, |inner| {
            assert_eq!(std::thread::current().id(), own);
            sum.fetch_add(outer * inner, Ordering::Relaxed);
        });
    });
    assert_eq!(sum.into_inner(), 28 * 28);
}

#[test]
fn parts_are_whole_and_in_their_places() {
    let mut all = vec![0; 1003];
    for_each_part(&mut all, 10, |part, numbers| {
        assert_eq!(numbers.len(), if part == 100 { 3 } else { 10 });
        numbers.fill(part);
    });
    assert!(all.iter().enumerate().all(|(at, part)| *part == at / 10));
}

#[test]
fn a_limit_ends_with_its_work_also_in_a_panic() {
    let before = threads();
    assert_eq!(limited(3, || (threads(), limited(2, threads), threads())), (3, 2, 3));
    let result = catch_unwind(|| limited(3, || panic!("at {}", threads())));
    let panic = result.expect_err("a panic");
    assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some("at 3"));
    assert_eq!(threads(), before);
}

#[test]
fn two_tasks_wake_a_helper_that_sleeps() {
    if threads() == 1 {
        return;
    }
    for _ in 0..20 {
        std::thread::park_timeout(3 * LOOKS_FOR);
        let met = AtomicUsize::new(0);
        // Terminates only if two threads run a task at the same time.
        for_each(2, |_| {
            met.fetch_add(1, Ordering::SeqCst);
            while met.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
        });
    }
}
