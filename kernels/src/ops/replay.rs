//! Layers of short batches on a GPU, whose launches take longer than what they compute: those of a
//! layout that comes again are recorded once, and started as one from then on.
//!
//! Must not know: layers, what a layout says.

use std::collections::VecDeque;
use std::fmt;

use candle_core::{DType, Result, Tensor, bail};
use parking_lot::Mutex;

use super::rows::Rows;
use crate::cuda::launch::recording::{self, Slabs};
use crate::cuda::{self, Recording};
use crate::device::is_out_of_memory;

/// Rows of the longest batch that is recorded: launches of more take no longer than computing.
const ROWS_MAX: usize = 128;
/// Layouts that are kept.
const LAYOUTS_MAX: usize = 128;

/// The recordings of a network on its device.
#[derive(Default)]
pub struct Recordings(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// By layout, the last used first.
    entries: VecDeque<(Vec<u32>, Entry)>,
    /// Memory of activations, for all.
    slabs: Slabs,
}

/// The next layer begins. What a layer makes may be read by that layer and by the one after it.
pub fn next_layer() {
    recording::advance();
}

/// What is known of a layout.
enum Entry {
    /// It came once.
    Seen,
    /// It cannot be recorded.
    Refused,
    Recorded(Box<Replay>),
}

struct Replay {
    recording: Recording,
    /// What it reads and writes, `[rows, width]` in float32.
    input: Tensor,
    output: Tensor,
    /// What else it reads and writes.
    _held: Vec<Tensor>,
}

impl Recordings {
    /// What `run` makes of `input`; both are float32. All that `run` does must depend on the
    /// `layout` and the input's numbers alone, as it is run again for a recording. It calls what it
    /// is given between layers: `pause`, in which the caller may use the device, or nothing where
    /// the batch is short, so that nothing of others is recorded. One thread at a time may use the
    /// device.
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
        let Some(on_device) = input.as_plain().filter(|it| it.device().is_cuda()).cloned() else {
            return run(input, pause);
        };
        if rows > ROWS_MAX || on_device.dtype() != DType::F32 {
            return run(input, pause);
        }
        let run = |input| run(input, &|| {});
        let mut known = self.0.lock();
        let Known { entries, slabs } = &mut *known;
        let place = entries.iter().position(|(other, _)| other == layout);
        let (layout, mut entry) = match place.and_then(|place| entries.remove(place)) {
            Some(known) => known,
            None => (layout.to_vec(), Entry::Seen),
        };
        let answer = match (&mut entry, place) {
            (Entry::Recorded(replay), _) => replay.of(&on_device)?,
            (Entry::Seen, Some(_)) => {
                let (output, sizes) = recording::counted(|| run(input));
                let output = output?;
                // For the longest, so that memory is taken once.
                let sizes = sizes.map(|numbers| numbers * ROWS_MAX.div_ceil(rows.max(1)));
                let fits = slabs.fit(sizes, on_device.device());
                match fits.and_then(|()| Replay::record(&on_device, &output, slabs, run)) {
                    Ok(replay) => entry = Entry::Recorded(Box::new(replay)),
                    // It is tried again, when there may be memory.
                    Err(error) if is_out_of_memory(&error) => {}
                    Err(_) => entry = Entry::Refused,
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
    /// Records what `run` does with rows as `input`, which gives such as `output`.
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
                let Ok(done) = run(Rows::plain(input.clone()))?.into_plain() else {
                    bail!("rows of another device")
                };
                cuda::copy(&done, &output)
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
