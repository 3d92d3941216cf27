//! CUDA graphs for the layers of short batches, whose kernels take longer to launch than to
//! compute: a layout that recurs is recorded once, and from then on replayed with one launch.
//!
//! Must not know: layers, what a layout means.

use std::collections::VecDeque;
use std::fmt;

use candle_core::{DType, Result, Tensor};
use parking_lot::Mutex;

use super::Backend;
use super::rows::Rows;
use crate::cuda::launch::recording::{self, Slabs};
use crate::cuda::{self, Recording};
use crate::device::is_out_of_memory;

/// Rows of the longest batch that is recorded: for longer ones, launching takes no longer than
/// computing.
const ROWS_MAX: usize = 128;
/// Layouts remembered.
const LAYOUTS_MAX: usize = 128;

/// The recordings of a network on its device.
#[derive(Default)]
pub struct Recordings(Mutex<LayoutCache>);

#[derive(Default)]
struct LayoutCache {
    /// By layout, most recently used first.
    entries: VecDeque<(Vec<u32>, CachedLayout)>,
    /// Memory for activations, shared by all recordings.
    slabs: Slabs,
}

/// Marks the start of the next layer. A layer's outputs may be read by that layer and the one after
/// it.
pub fn next_layer() {
    recording::advance();
}

/// What is known about a layout.
enum CachedLayout {
    /// Seen, not recorded yet.
    Seen,
    /// Cannot be recorded.
    Refused,
    Recorded(Box<Replay>),
}

struct Replay {
    recording: Recording,
    /// What the graph reads and writes, `[rows, width]` in float32.
    input: Tensor,
    output: Tensor,
    /// Other tensors that the graph reads and writes, kept alive for it.
    _held: Vec<Tensor>,
}

impl Recordings {
    /// The result of `run(input)`, replayed if this layout is recorded; input and result are
    /// float32. `run` must depend on nothing but `layout` and the input's values, since it runs
    /// again to be recorded. It calls its second argument between layers: this is `pause`, during
    /// which the caller may use the device for other work, or a no-op for short batches, so that no
    /// other work is recorded. Only one thread may use the device at a time.
    ///
    /// # Errors
    /// A failure of `run`, or of the device.
    pub fn run(
        &self,
        layout: &[u32],
        input: Rows,
        pause: &dyn Fn(),
        run: impl Fn(Rows, &dyn Fn()) -> Result<Rows>,
    ) -> Result<Rows> {
        let [rows, _] = input.shape()?;
        if input.backend() != Backend::Cuda || rows > ROWS_MAX {
            return run(input, pause);
        }
        let on_device = input.device_tensor()?.clone();
        if on_device.dtype() != DType::F32 {
            return run(input, pause);
        }
        let run = |input| run(input, &|| {});
        let mut known = self.0.lock();
        let LayoutCache { entries, slabs } = &mut *known;
        let index = entries.iter().position(|(other, _)| other == layout);
        let (layout, mut entry) = match index.and_then(|index| entries.remove(index)) {
            Some(known) => known,
            None => (layout.to_vec(), CachedLayout::Seen),
        };
        let answer = match (&mut entry, index) {
            (CachedLayout::Recorded(replay), _) => replay.of(&on_device)?,
            (CachedLayout::Seen, Some(_)) => {
                let (output, sizes) = recording::counted(|| run(input));
                let output = output?;
                // Sized for the longest batch, so that memory is allocated once.
                let sizes = sizes.map(|elements| elements * ROWS_MAX.div_ceil(rows.max(1)));
                let fits = slabs.fit(sizes, on_device.device());
                match fits.and_then(|()| Replay::record(&on_device, &output, slabs, run)) {
                    Ok(replay) => entry = CachedLayout::Recorded(Box::new(replay)),
                    // Retried next time, when memory may be free.
                    Err(error) if is_out_of_memory(&error) => {}
                    Err(_) => entry = CachedLayout::Refused,
                }
                output
            }
            _ => run(input)?,
        };
        entries.truncate(LAYOUTS_MAX - 1);
        entries.push_front((layout, entry));
        Ok(answer)
    }
}

impl Replay {
    /// Records `run` for inputs shaped like `input` and results shaped like `output`.
    fn record(
        input: &Tensor,
        output: &Rows,
        slabs: &Slabs,
        run: impl Fn(Rows) -> Result<Rows>,
    ) -> Result<Self> {
        let device = input.device();
        let [rows, width] = output.shape()?;
        let input = input.force_contiguous()?;
        let output = Tensor::zeros((rows, width), DType::F32, device)?;
        let (recording, held) = recording::recorded(slabs, || {
            cuda::record(device, || {
                let done = run(Rows::on_device(input.clone()))?;
                cuda::copy(done.device_tensor()?, &output)
            })
        });
        Ok(Self { recording: recording?, input, output, _held: held })
    }

    fn of(&mut self, input: &Tensor) -> Result<Rows> {
        cuda::copy(input, &self.input)?;
        self.recording.replay()?;
        Rows::of(&self.output)
    }
}

impl fmt::Debug for Recordings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recordings").field("layouts", &self.0.lock().entries.len()).finish()
    }
}
