//! The emulator detects the deliberate bugs in native/faults.cu.

use proxima_emulator::{Arg, Buffer, Fault, Launch, emulate, null, read, write};

/// A kernel's copy of 64 values, with one order of warps and lanes.
fn run(name: &str, seed: u64) -> Result<Vec<f32>, Fault> {
    let from = Buffer::of(&values());
    let mut out = Buffer::of(&[0.0f32; 64]);
    let launch = Launch { grid: [1, 1, 1], block: 64, shared: 1024, seed };
    // SAFETY: these kernels read and write 64 elements.
    unsafe { emulate(name, launch, &[read(&from), write(&mut out)])? };
    Ok(out.elements())
}

fn values() -> Vec<f32> {
    (0..64).map(|value| value as f32).collect()
}

#[test]
fn a_kernel_without_mistakes_works_in_every_order() {
    let reversed: Vec<f32> = values().into_iter().rev().collect();
    for seed in 0..20 {
        assert_eq!(run("fault_none", seed).as_deref(), Ok(reversed.as_slice()));
    }
}

#[test]
fn missing_synchronisation_is_seen_as_nan() {
    for name in ["fault_no_barrier", "fault_no_wait", "fault_no_warp_barrier"] {
        for seed in 0..5 {
            let out = run(name, seed).expect("it runs");
            assert!(out.iter().any(|number| number.is_nan()), "{name}, {seed}: {out:?}");
        }
    }
}

#[test]
fn lanes_that_part_are_reported() {
    let fault = run("fault_diverged", 1).expect_err("half a warp is elsewhere");
    assert!(fault.0.contains("are at different instructions"), "{fault}");
    let fault = run("fault_left", 1).expect_err("a lane is gone");
    assert!(fault.0.contains("end"), "{fault}");
    let fault = run("fault_beyond", 1).expect_err("there is no such memory");
    assert!(fault.0.contains("past its end"), "{fault}");
}

#[test]
fn arguments_of_other_types_are_refused() {
    let from = Buffer::of(&values());
    let integers = Buffer::of(&[0u32; 64]);
    let mut out = Buffer::of(&[0.0f32; 64]);
    let launch = Launch { grid: [1, 1, 1], block: 64, shared: 1024, seed: 0 };
    let wrong = [
        vec![read(&from)],
        vec![read(&from), read(&from)],
        vec![read(&integers), write(&mut out)],
        vec![read(&from), write(&mut out), Arg::Int(1)],
        vec![null(), Arg::Float(1.0)],
    ];
    for args in wrong {
        // SAFETY: such arguments are refused before anything runs.
        let result = unsafe { emulate("fault_none", launch, &args) };
        assert!(result.is_err(), "{args:?}");
    }
    // SAFETY: there is nothing to run.
    assert!(unsafe { emulate("no_such_kernel", launch, &[]) }.is_err());
    let half_a_warp = Launch { block: 16, ..launch };
    // SAFETY: the machine refuses blocks that are not whole warps.
    let fault = unsafe { emulate("fault_none", half_a_warp, &[read(&from), write(&mut out)]) };
    assert!(fault.is_err());
}
