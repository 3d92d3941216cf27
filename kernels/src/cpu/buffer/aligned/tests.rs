use super::*;

const MIB: usize = 1024 * 1024;

fn spare() -> Spare {
    Spare { all: Vec::new(), bytes: 0 }
}

fn lengths(pieces: &[Vec<u8>]) -> Vec<usize> {
    pieces.iter().map(Vec::len).collect()
}

#[test]
fn bytes_begin_at_a_line_and_are_as_many_as_asked_for() {
    for length in [0, 1, 63, 64, 65, 4096, 3 * MIB] {
        let zeros = AlignedBytes::zeros(length);
        assert!(zeros.len() == length && zeros.iter().all(|byte| *byte == 0));
        for bytes in [zeros, AlignedBytes::reused(length)] {
            assert!(bytes.len() == length && bytes.as_ptr().addr().is_multiple_of(LINE));
        }
    }
}

#[test]
fn the_smallest_piece_with_room_is_taken() {
    let mut spare = spare();
    for length in [300, 100, 200] {
        assert!(spare.give(zeros(length)).is_empty());
    }
    assert_eq!(spare.take(150).map(|piece| piece.len()), Some(200));
    assert_eq!(spare.take(150).map(|piece| piece.len()), Some(300));
    assert_eq!((spare.take(150), spare.bytes), (None, 100));
}

#[test]
fn large_pieces_wait_too_and_what_waited_longest_goes_first() {
    let mut spare = spare();
    for length in [100 * MIB, 200 * MIB, 150 * MIB] {
        assert!(spare.give(zeros(length)).is_empty());
    }
    assert_eq!(lengths(&spare.give(zeros(300 * MIB))), [100 * MIB, 200 * MIB]);
    assert_eq!((lengths(&spare.all), spare.bytes), (vec![150 * MIB, 300 * MIB], 450 * MIB));
    // A buffer that alone exceeds the limit evicts nothing.
    assert_eq!(lengths(&spare.give(zeros(SPARE_BYTES_MAX + 1))), [SPARE_BYTES_MAX + 1]);
    assert_eq!(spare.bytes, 450 * MIB);
    (0..SPARE_MAX - 2).for_each(|_| assert!(spare.give(zeros(64)).is_empty()));
    assert_eq!(lengths(&spare.give(zeros(64))), [150 * MIB]);
}
