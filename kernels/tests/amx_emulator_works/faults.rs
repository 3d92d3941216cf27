//! What must not run ends the process: incorrect use of AMX, under the emulator or on a CPU that
//! has it, and instructions other than AMX.
//! Must not know: kernels, candle, how the emulator is built.

use std::arch::asm;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use super::amx_emulator;

/// Tells the child process which case to run.
const CASE: &str = "PROXIMA_TEST_AMX_FAULT";

/// The name of the test below, for the harness.
const NAME: &str = "faults::what_must_not_run_ends_the_process";

/// A name, a configuration as (tile, rows, bytes of a row), and what is done with it.
type Case = (&'static str, &'static [(usize, u8, u8)], fn());

const CASES: [Case; 12] = [
    ("nothing wrong", &[(0, 16, 64), (1, 16, 64), (2, 16, 64)], multiply),
    ("an illegal instruction", &[], illegal),
    ("no configuration", &[], zero),
    ("a tile without a shape", &[(1, 16, 64)], zero),
    ("too many rows", &[(0, 17, 64)], nothing),
    ("too many columns", &[(0, 16, 68)], nothing),
    ("rows without columns", &[(0, 16, 0)], nothing),
    ("columns without rows", &[(0, 0, 64)], nothing),
    ("rows that do not fit", &[(0, 15, 64), (1, 16, 64), (2, 16, 64)], multiply),
    ("columns that do not fit", &[(0, 16, 60), (1, 16, 64), (2, 16, 64)], multiply),
    ("depths that do not fit", &[(0, 16, 64), (1, 16, 60), (2, 16, 64)], multiply),
    ("a tile with itself", &[(0, 16, 64)], square),
];

fn nothing() {}

fn illegal() {
    // SAFETY: ends the process.
    unsafe { asm!("ud2") };
}

fn zero() {
    // SAFETY: zeroes a tile that nothing else uses.
    unsafe { asm!("tilezero tmm0", out("tmm0") _, options(nostack, nomem)) };
}

fn multiply() {
    // SAFETY: changes tiles that nothing else uses.
    unsafe { asm!("tdpbssd tmm0, tmm1, tmm2", out("tmm0") _, options(nostack, nomem)) };
}

fn square() {
    // Written as bytes, because an assembler may reject it: TDPBSSD with tile 0 three times.
    // SAFETY: changes a tile that nothing else uses.
    unsafe { asm!(".byte 0xc4, 0xe2, 0x7b, 0x5e, 0xc0", out("tmm0") _, options(nostack, nomem)) };
}

fn run(case: &str) {
    let (_, shapes, act) = CASES.iter().find(|(name, ..)| *name == case).expect("a known case");
    amx_emulator::install();
    if !shapes.is_empty() {
        let mut configuration = [0_u8; 64];
        configuration[0] = 1;
        for &(tile, rows, bytes) in *shapes {
            configuration[16 + 2 * tile] = bytes;
            configuration[48 + tile] = rows;
        }
        // SAFETY: the operand is 64 readable bytes; nothing else uses tiles.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &configuration, options(nostack)) };
    }
    act();
}

fn in_a_process_of_its_own(case: &str) -> Output {
    let program = std::env::current_exe().expect("a path");
    let mut command = Command::new(program);
    command.args(["--exact", NAME, "--nocapture"]).env(CASE, case);
    command.output().expect("a process")
}

#[test]
fn what_must_not_run_ends_the_process() {
    if let Ok(case) = std::env::var(CASE) {
        return run(&case);
    }
    for (case, ..) in CASES {
        let output = in_a_process_of_its_own(case);
        let said = String::from_utf8_lossy(&output.stderr);
        match case {
            "nothing wrong" => assert!(output.status.success(), "{case}: {said}"),
            "an illegal instruction" => {
                assert_eq!(output.status.signal(), Some(libc::SIGILL), "{case}: {said}");
                assert_eq!(said, "", "{case}: the emulator has no say");
            }
            _ => {
                let signal = output.status.signal().expect("ended by a signal");
                // The emulator aborts and says why; the hardware raises #UD and #GP.
                match signal {
                    libc::SIGABRT => assert!(said.contains("emulated AMX: "), "{case}: {said}"),
                    libc::SIGILL | libc::SIGSEGV => assert_eq!(said, "", "{case}"),
                    _ => panic!("{case}: signal {signal}: {said}"),
                }
            }
        }
    }
}
