//! Tile loads and stores with all forms of addresses, configurations, and per-thread state.
//! Must not know: kernels, candle, how the emulator is built.

use std::arch::asm;
use std::sync::Barrier;

use super::{Configuration, EMPTY, amx_emulator, configuration, load_configuration, pattern};

fn stored_configuration() -> Configuration {
    amx_emulator::install();
    let mut stored = Configuration { palette: 9, ..EMPTY };
    // SAFETY: the operand is 64 writable bytes, valid for any values.
    unsafe { asm!("sttilecfg [{}]", in(reg) &mut stored, options(nostack)) };
    stored
}

fn release() {
    // SAFETY: clears tiles only.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// Rows of `bytes` bytes, `stride` bytes apart, from `start` on: what a load reads.
fn rows_of(from: &[u8], start: usize, stride: usize, (rows, bytes): (usize, usize)) -> Vec<u8> {
    (0..rows).flat_map(|row| from[start + row * stride..][..bytes].iter().copied()).collect()
}

/// Loads a whole tile with `base` and `index` in the named registers, all else being equal.
macro_rules! through_registers {
    ($($base:literal $index:literal),*) => {
        #[test]
        fn every_register_is_a_base_and_an_index() {
            load_configuration(&configuration(&[(16, 64)]));
            let from = pattern(16 * 80);
            let expected = rows_of(&from, 0, 80, (16, 64));
            $({
                let mut to = vec![0_u8; 1024];
                // SAFETY: reads 16 rows of `from` and writes all of `to`; the registers that
                // the compiler does not know of keep their values.
                unsafe {
                    asm!(
                        concat!("push ", $base),
                        concat!("push ", $index),
                        "push rdx",
                        "push rcx",
                        concat!("pop ", $index),
                        concat!("pop ", $base),
                        concat!("tileloadd tmm0, [", $base, " + ", $index, "]"),
                        concat!("pop ", $index),
                        concat!("pop ", $base),
                        "mov ecx, 64",
                        "tilestored [rax + rcx], tmm0",
                        in("rdx") from.as_ptr(),
                        inout("rcx") 80_usize => _,
                        in("rax") to.as_mut_ptr(),
                        out("tmm0") _,
                    );
                }
                assert!(to == expected, "[{} + {}]", $base, $index);
            })*
            release();
        }
    };
}

through_registers!(
    "rax" "rcx", "rcx" "rdx", "rdx" "rbx", "rbx" "rbp", "rbp" "rsi", "rsi" "rdi", "rdi" "r8",
    "r8" "r9", "r9" "r10", "r10" "r11", "r11" "r12", "r12" "r13", "r13" "r14", "r14" "r15",
    "r15" "rax", "rcx" "rax", "r13" "r12", "rbp" "r12", "r12" "rbp"
);

/// Loads and stores a tile of 4 rows of 12 bytes at the given address.
macro_rules! through_address {
    ($address:literal, $start:expr, $stride:expr) => {{
        let from = pattern(0x4000);
        let mut to = vec![0_u8; 0x4000];
        // SAFETY: each address given below, with the base in the middle of 0x4000 bytes and index
        // 24, keeps the rows within these bytes, in either buffer.
        unsafe {
            asm!(
                concat!("tileloadd tmm3, ", $address),
                "mov rsi, rdi",
                concat!("tilestored ", $address, ", tmm3"),
                inout("rsi") from.as_ptr().add(0x2000) => _,
                in("rdi") to.as_mut_ptr().add(0x2000),
                in("rcx") 24_usize,
                out("tmm3") _,
                options(nostack),
            );
        }
        let (start, stride) = ((0x2000 + $start) as usize, $stride);
        // Without a stride all rows coincide: the load repeats one, the store overwrites it.
        let expected = rows_of(&from, start, stride, (4, 12));
        let mut written = vec![0_u8; 0x4000];
        for (row, bytes) in expected.chunks(12).enumerate() {
            written[start + row * stride..][..12].copy_from_slice(bytes);
        }
        assert!(to == written, $address);
    }};
}

#[test]
fn addresses_have_scales_and_displacements() {
    load_configuration(&configuration(&[(0, 0), (0, 0), (0, 0), (4, 12)]));
    through_address!("[rsi + rcx]", 0, 24);
    through_address!("[rsi + 2*rcx]", 0, 48);
    through_address!("[rsi + 4*rcx]", 0, 96);
    through_address!("[rsi + 8*rcx]", 0, 192);
    through_address!("[rsi + rcx + 0x7f]", 0x7f, 24);
    through_address!("[rsi + 4*rcx - 0x80]", -0x80, 96);
    through_address!("[rsi + rcx + 0x80]", 0x80, 24);
    through_address!("[rsi + 2*rcx - 0x1234]", -0x1234, 48);
    through_address!("[rsi]", 0, 0);
    through_address!("[rsi + 0x10]", 0x10, 0);
    release();
}

#[test]
fn the_stack_pointer_is_a_base() {
    load_configuration(&configuration(&[(16, 64), (16, 64), (16, 64)]));
    let from = pattern(1024);
    let mut to = vec![0_u8; 2048];
    // SAFETY: the stack below the pointer is free in a block without `nostack`, and the pointer is
    // restored at the end. The other operands are 1024 bytes each.
    unsafe {
        asm!(
            "tileloadd tmm0, [{from} + {stride}]",
            "sub rsp, 2048",
            "tilestored [rsp + {stride}], tmm0",
            "tilestored [rsp + {stride} + 1024], tmm0",
            "tileloadd tmm1, [rsp + {stride}]",
            "tileloadd tmm2, [rsp + {stride} + 1024]",
            "add rsp, 2048",
            "tilestored [{to} + {stride}], tmm1",
            "tilestored [{to} + {stride} + 1024], tmm2",
            "tilerelease",
            from = in(reg) from.as_ptr(),
            to = in(reg) to.as_mut_ptr(),
            stride = in(reg) 64_usize,
            out("tmm0") _,
            out("tmm1") _,
            out("tmm2") _,
        );
    }
    assert!(to[..1024] == from && to[1024..] == from);
}

/// A configuration in the program's own data, for an instruction-relative address.
static IN_DATA: Configuration = Configuration {
    palette: 1,
    bytes: [64, 60, 4, 8, 12, 16, 20, 24],
    rows: [16, 15, 1, 2, 3, 4, 5, 6],
    ..EMPTY
};

/// LDTILECFG with the given address; RSI holds half of it, RDI all of it.
macro_rules! configured_through {
    ($configuration:expr, $($line:literal),+) => {{
        let configuration: &Configuration = $configuration;
        let start = configuration as *const Configuration as usize;
        amx_emulator::install();
        // SAFETY: every address below is that of the configuration; pushes are popped.
        unsafe {
            asm!(
                $($line,)+
                in("rsi") start / 2,
                inout("rdi") start => _,
            );
        }
        assert_eq!(stored_configuration(), *configuration, concat!($($line),+));
        release();
        assert_eq!(stored_configuration(), EMPTY, "released");
    }};
}

#[test]
fn configurations_load_from_every_form_of_address() {
    amx_emulator::install();
    // SAFETY: the operand is the static.
    unsafe { asm!("ldtilecfg [rip + {}]", sym IN_DATA, options(nostack)) };
    assert_eq!(stored_configuration(), IN_DATA);
    let tiles = &configuration(&[(1, 4), (0, 0), (16, 64), (3, 7)]);
    configured_through!(tiles, "ldtilecfg [rdi]");
    configured_through!(tiles, "ldtilecfg [2*rsi]");
    configured_through!(tiles, "ldtilecfg [rsi + rsi]");
    configured_through!(
        tiles,
        "sub rdi, 100",
        "ldtilecfg [rdi + 100]",
        "sub rdi, 1000",
        "ldtilecfg [rdi + 1100]"
    );
    configured_through!(
        tiles,
        "push r12",
        "mov r12, rdi",
        "ldtilecfg [r12]",
        "pop r12",
        "push r13",
        "mov r13, rdi",
        "ldtilecfg [r13]",
        "pop r13"
    );
    configured_through!(
        tiles,
        "push rbp",
        "lea rbp, [rsi + 8]",
        "ldtilecfg [rbp + rsi - 8]",
        "mov rbp, rdi",
        "ldtilecfg [rbp]",
        "pop rbp"
    );
    configured_through!(
        tiles,
        "sub rsp, 64",
        "ldtilecfg [rdi]",
        "sttilecfg [rsp]",
        "tilerelease",
        "ldtilecfg [rsp]",
        "add rsp, 64"
    );
}

#[test]
fn loads_and_zeroing_change_one_tile_from_the_start_row_on() {
    let from = pattern(16 * 64);
    let mut to = vec![0xee_u8; 3 * 1024];
    let mut tiles = configuration(&[(16, 64), (5, 20), (16, 64)]);
    tiles.start_row = 2;
    load_configuration(&tiles);
    // SAFETY: `from` is a whole tile, `to` three.
    unsafe {
        asm!(
            "tileloadd tmm0, [{from} + {stride}]",
            "tileloadd tmm1, [{from} + {stride}]",
            "tileloadd tmm2, [{from} + {stride}]",
            "tilezero tmm2",
            "tilestored [{to} + {stride}], tmm0",
            "tilestored [{to} + {stride} + 1024], tmm1",
            "tilestored [{to} + {stride} + 2048], tmm2",
            from = in(reg) from.as_ptr(),
            to = in(reg) to.as_mut_ptr(),
            stride = in(reg) 64_usize,
            out("tmm0") _,
            out("tmm1") _,
            out("tmm2") _,
            options(nostack),
        );
    }
    // The first load starts at row 2, completes, and so lets the next one start at row 0.
    assert!(to[..128] == [0; 128] && to[128..1024] == from[128..]);
    for (row, bytes) in to[1024..2048].chunks(64).enumerate() {
        let loaded = if row < 5 { &from[row * 64..][..20] } else { &[] };
        assert_eq!(&bytes[..loaded.len()], loaded, "row {row}");
        assert!(bytes[loaded.len()..].iter().all(|byte| *byte == 0xee), "beyond row {row}");
    }
    assert!(to[2048..] == [0; 1024]);
    tiles.start_row = 0;
    assert_eq!(stored_configuration(), tiles);
    release();
}

#[test]
fn a_new_configuration_clears_the_tiles() {
    let from = pattern(1024);
    let mut to = vec![0xee_u8; 1024];
    let tiles = configuration(&[(16, 64)]);
    load_configuration(&tiles);
    // SAFETY: `from` and `to` are whole tiles, `tiles` is a configuration.
    unsafe {
        asm!(
            "tileloadd tmm0, [{from} + {stride}]",
            "ldtilecfg [{tiles}]",
            "tilestored [{to} + {stride}], tmm0",
            from = in(reg) from.as_ptr(),
            to = in(reg) to.as_mut_ptr(),
            tiles = in(reg) &tiles,
            stride = in(reg) 64_usize,
            out("tmm0") _,
            options(nostack),
        );
    }
    assert!(to == [0; 1024]);
    load_configuration(&EMPTY);
    assert_eq!(stored_configuration(), EMPTY);
}

#[test]
fn threads_have_tiles_of_their_own() {
    const THREADS: u8 = 4;
    let barrier = Barrier::new(THREADS.into());
    let work = |number: u8| {
        let (rows, bytes) = (16 - number, 64 - 4 * u16::from(number));
        let size = usize::from(rows) * usize::from(bytes);
        let from = vec![number; size];
        let mut to = vec![0xee; size];
        load_configuration(&configuration(&[(rows, bytes)]));
        // SAFETY: `from` is read and `to` written in the shape that matches their size. The tile's
        // contents survive from one block to the next, since nothing in between uses tiles in this
        // thread.
        unsafe {
            asm!(
                "tileloadd tmm0, [{} + {}]",
                in(reg) from.as_ptr(),
                in(reg) usize::from(bytes),
                options(nostack),
            );
            barrier.wait();
            asm!(
                "tilestored [{} + {}], tmm0",
                in(reg) to.as_mut_ptr(),
                in(reg) usize::from(bytes),
                options(nostack),
            );
        }
        assert!(to == from, "thread {number}");
        barrier.wait();
        release();
    };
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            scope.spawn(move || work(number));
        }
    });
}
