//! State for operations while their launches are recorded: preallocated memory, so that the
//! recording neither allocates nor frees any, and lists that are on the device already.
//!
//! Layers alternate between two halves of this memory: a layer's outputs are read by itself and the
//! next layer, and overwritten by the one after that. A first run, which is not recorded, counts
//! how much the largest layer needs.
//! Must not know: what is recorded, layers.

use std::cell::RefCell;

use candle_core::{DType, Device, Result, Shape, Tensor, bail};

/// Dtypes that operations write.
const DTYPES: [DType; 3] = [DType::F32, DType::BF16, DType::F16];
/// Tensor sizes are rounded up to this many elements: 256 bytes at two bytes each.
const STEP: usize = 128;

/// Elements of each dtype.
type SlabSizes = [usize; DTYPES.len()];

thread_local! {
    static STATE: RefCell<RecordingState> = const { RefCell::new(RecordingState::Off) };
}

enum RecordingState {
    Off,
    /// What this layer has taken so far, and the most that any layer took.
    Counting {
        now: SlabSizes,
        most: SlabSizes,
    },
    On(Arena),
}

struct Arena {
    slabs: Slabs,
    /// Which half of each slab the current layer uses.
    half: usize,
    taken: SlabSizes,
    /// Tensors that the recording reads and others may drop.
    held: Vec<Tensor>,
}

/// Memory for recordings, which run one after another. Clones share the memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slabs([Option<Tensor>; DTYPES.len()]);

impl Slabs {
    /// Makes room for two layers of these sizes; existing recordings keep their memory.
    ///
    /// # Errors
    /// Out of device memory.
    pub(crate) fn fit(&mut self, sizes: SlabSizes, device: &Device) -> Result<()> {
        for ((slab, dtype), elements) in self.0.iter_mut().zip(DTYPES).zip(sizes) {
            let has = slab.as_ref().map_or(0, Tensor::elem_count);
            if has < 2 * elements {
                *slab = Some(Tensor::zeros(2 * elements, dtype, device)?);
            }
        }
        Ok(())
    }
}

/// Ends counting or recording on this thread, also on panic.
struct Off;

impl Drop for Off {
    fn drop(&mut self) {
        STATE.set(RecordingState::Off);
    }
}

/// Calls `run` and counts how much its largest layer takes.
pub(crate) fn counted<T>(run: impl FnOnce() -> T) -> (T, SlabSizes) {
    STATE.set(RecordingState::Counting { now: SlabSizes::default(), most: SlabSizes::default() });
    let _off = Off;
    let done = run();
    advance();
    match STATE.replace(RecordingState::Off) {
        RecordingState::Counting { most, .. } => (done, most),
        _ => (done, SlabSizes::default()),
    }
}

/// Calls `run` while it is recorded, with its tensors in `slabs`. Also returns the tensors that
/// must live as long as the recording, which refers to them by address.
pub(crate) fn recorded<T>(slabs: &Slabs, run: impl FnOnce() -> T) -> (T, Vec<Tensor>) {
    let slabs = slabs.clone();
    STATE.set(RecordingState::On(Arena {
        slabs,
        half: 0,
        taken: SlabSizes::default(),
        held: Vec::new(),
    }));
    let _off = Off;
    let done = run();
    match STATE.replace(RecordingState::Off) {
        RecordingState::On(arena) => {
            let mut held = arena.held;
            held.extend(arena.slabs.0.into_iter().flatten());
            (done, held)
        }
        _ => (done, Vec::new()),
    }
}

/// Marks the start of the next layer.
pub(crate) fn advance() {
    STATE.with_borrow_mut(|state| match state {
        RecordingState::Off => {}
        RecordingState::Counting { now, most } => {
            most.iter_mut().zip(*now).for_each(|(most, now)| *most = now.max(*most));
            *now = SlabSizes::default();
        }
        RecordingState::On(arena) => {
            arena.half = 1 - arena.half;
            arena.taken = SlabSizes::default();
        }
    });
}

/// Whether this thread is recording.
pub(crate) fn is_on() -> bool {
    STATE.with_borrow(|state| matches!(state, RecordingState::On(_)))
}

/// While recording, keeps a tensor alive that the recording reads and others may drop.
pub(crate) fn hold(tensor: &Tensor) {
    STATE.with_borrow_mut(|state| {
        if let RecordingState::On(arena) = state {
            arena.held.push(tensor.clone());
        }
    });
}

/// An uninitialised tensor in the recording's memory, or `None` when not recording.
///
/// # Errors
/// The layer takes more than was counted.
pub(crate) fn taken(shape: &Shape, dtype: DType) -> Result<Option<Tensor>> {
    let Some(index) = DTYPES.iter().position(|known| *known == dtype) else { return Ok(None) };
    let elements = shape.elem_count().next_multiple_of(STEP);
    STATE.with_borrow_mut(|state| {
        let arena = match state {
            RecordingState::Off => return Ok(None),
            RecordingState::Counting { now, .. } => {
                now[index] += elements;
                return Ok(None);
            }
            RecordingState::On(arena) => arena,
        };
        let slab = arena.slabs.0[index].as_ref();
        let half = slab.map_or(0, Tensor::elem_count) / 2 / STEP * STEP;
        let at = arena.taken[index];
        arena.taken[index] += elements;
        let Some(slab) = slab.filter(|_| arena.taken[index] <= half) else {
            bail!("a layer takes more memory than was reserved");
        };
        let tensor = slab.narrow(0, arena.half * half + at, shape.elem_count())?;
        tensor.reshape(shape).map(Some)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(elements: usize, value: f32) -> Tensor {
        let shape = Shape::from(elements);
        let tensor = taken(&shape, DType::F32).expect("room");
        let tensor = tensor
            .unwrap_or_else(|| Tensor::zeros(shape, DType::F32, &Device::Cpu).expect("memory"));
        tensor
            .slice_set(&Tensor::full(value, elements, &Device::Cpu).expect("elements"), 0, 0)
            .expect("written");
        tensor
    }

    /// Layers that make two tensors each; reads those of the previous and of the current layer.
    fn layers() -> Vec<[f32; 4]> {
        let mut before = [make(300, 0.0), make(5, 1.0)];
        let mut read = Vec::new();
        for layer in 1..6 {
            advance();
            let now = [make(300, 2.0 * layer as f32), make(5, 2.0 * layer as f32 + 1.0)];
            let last = |tensor: &Tensor| {
                let elements = tensor.to_vec1::<f32>().expect("elements");
                assert!(elements.iter().all(|element| *element == elements[0]));
                elements[0]
            };
            read.push([&before[0], &before[1], &now[0], &now[1]].map(last));
            before = now;
        }
        read
    }

    #[test]
    fn what_a_layer_made_is_there_in_the_next() {
        let (wanted, sizes) = counted(layers);
        assert_eq!(sizes, [384 + 128, 0, 0]);
        let mut slabs = Slabs::default();
        slabs.fit(sizes, &Device::Cpu).expect("memory");
        let (found, held) = recorded(&slabs, layers);
        assert_eq!(found, wanted);
        assert!(!is_on() && held.iter().any(|slab| slab.elem_count() == 1024));
    }

    #[test]
    fn a_panic_ends_a_recording() {
        let recorded = || recorded(&Slabs::default(), || panic!("in a layer"));
        std::panic::catch_unwind(recorded).expect_err("it panics");
        assert!(!is_on());
    }

    #[test]
    fn more_than_was_counted_is_refused() {
        let mut slabs = Slabs::default();
        slabs.fit([128, 0, 0], &Device::Cpu).expect("memory");
        let (found, _) = recorded(&slabs, || taken(&Shape::from(129), DType::F32));
        assert!(found.is_err());
        assert!(taken(&Shape::from(129), DType::F32).expect("off").is_none());
    }
}
