//! Short integer lists on a device. Every layer of a network needs the same positions, ids and
//! blocks, so the most recent lists stay there.
//!
//! Must not know: what the integers mean.

use std::collections::VecDeque;

use candle_core::{Device, Result, Tensor, bail};
use parking_lot::Mutex;

use super::recording;

/// Maximum number of lists cached per device.
const LISTS_MAX: usize = 16;
/// Length of the longest list that is cached.
const LENGTH_MAX: usize = 1 << 20;

/// The lists of a device, most recently used first.
type RecentLists = VecDeque<(Vec<u32>, Tensor)>;

static DEVICES: Mutex<Vec<(Device, RecentLists)>> = Mutex::new(Vec::new());

/// The list on the device.
///
/// # Errors
/// A device failure; or the list is not there yet while a graph is recorded: a recorded copy would
/// read host memory again at each replay.
pub(crate) fn uploaded(values: &[u32], device: &Device) -> Result<Tensor> {
    if let Some(known) = with_lists(device, |lists| known(lists, values)) {
        recording::hold(&known);
        return Ok(known);
    }
    if recording::is_on() {
        bail!("a list of {} elements is not on the device yet", values.len());
    }
    // Without the lock, so that a hanging device does not block others.
    let tensor = Tensor::new(values, device)?;
    if values.len() <= LENGTH_MAX {
        with_lists(device, |lists| {
            lists.truncate(LISTS_MAX - 1);
            lists.push_front((values.to_vec(), tensor.clone()));
        });
    }
    Ok(tensor)
}

fn with_lists<T>(device: &Device, run: impl FnOnce(&mut RecentLists) -> T) -> T {
    let mut devices = DEVICES.lock();
    let index = devices.iter().position(|(known, _)| known.same_device(device));
    let index = index.unwrap_or_else(|| {
        devices.push((device.clone(), RecentLists::new()));
        devices.len() - 1
    });
    run(&mut devices[index].1)
}

/// The cached list of these values, if any; marks it as most recently used.
fn known(lists: &mut RecentLists, values: &[u32]) -> Option<Tensor> {
    let index = lists.iter().position(|(list, _)| list == values)?;
    let found = lists.remove(index)?;
    let tensor = found.1.clone();
    lists.push_front(found);
    Some(tensor)
}

/// Drops a device's lists, so that they do not keep it open.
pub(crate) fn forget(device: &Device) {
    DEVICES.lock().retain(|(known, _)| !known.same_device(device));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_stay_until_others_come_or_the_device_goes() {
        let device = Device::Cpu;
        let upload = |value: u32| uploaded(&[value, 1], &device).expect("uploaded");
        let first = upload(0);
        assert_eq!(first.to_vec1::<u32>().expect("values"), [0, 1]);
        assert_eq!(upload(0).id(), first.id());
        (1..LISTS_MAX as u32).for_each(|value| drop(upload(value)));
        assert_eq!(upload(0).id(), first.id());
        (1..=LISTS_MAX as u32).for_each(|value| drop(upload(value)));
        assert_ne!(upload(0).id(), first.id());
        let again = upload(0);
        forget(&device);
        assert_ne!(upload(0).id(), again.id());
        forget(&device);
    }
}
