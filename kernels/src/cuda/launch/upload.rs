//! Short integer lists on a device. Every layer of a network needs the same positions, ids and
//! blocks, so the most recent lists stay there.
//!
//! Must not know: what the integers mean.

use std::collections::VecDeque;

use candle_core::{Device, Result, Tensor, bail};
use parking_lot::Mutex;

use super::recording;

/// Lists cached per device.
const KEPT: usize = 16;
/// Length of the longest list that is cached.
const KEPT_NUMBERS: usize = 1 << 20;

/// The lists of a device, most recently used first.
type RecentLists = VecDeque<(Vec<u32>, Tensor)>;

static DEVICES: Mutex<Vec<(Device, RecentLists)>> = Mutex::new(Vec::new());

/// The list on the device.
///
/// # Errors
/// A device failure; or the list is not there yet while a graph is recorded: a recorded copy would
/// read host memory again at each replay.
pub(crate) fn uploaded(numbers: &[u32], device: &Device) -> Result<Tensor> {
    if let Some(known) = with_lists(device, |lists| known(lists, numbers)) {
        recording::hold(&known);
        return Ok(known);
    }
    if recording::is_on() {
        bail!("a list of {} elements is not on the device yet", numbers.len());
    }
    // Without the lock, so that a hanging device does not block others.
    let tensor = Tensor::new(numbers, device)?;
    if numbers.len() <= KEPT_NUMBERS {
        with_lists(device, |lists| {
            lists.truncate(KEPT - 1);
            lists.push_front((numbers.to_vec(), tensor.clone()));
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
fn known(lists: &mut RecentLists, numbers: &[u32]) -> Option<Tensor> {
    let index = lists.iter().position(|(list, _)| list == numbers)?;
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
        let upload = |number: u32| uploaded(&[number, 1], &device).expect("uploaded");
        let first = upload(0);
        assert_eq!(first.to_vec1::<u32>().expect("numbers"), [0, 1]);
        assert_eq!(upload(0).id(), first.id());
        (1..KEPT as u32).for_each(|number| drop(upload(number)));
        assert_eq!(upload(0).id(), first.id());
        (1..=KEPT as u32).for_each(|number| drop(upload(number)));
        assert_ne!(upload(0).id(), first.id());
        let again = upload(0);
        forget(&device);
        assert_ne!(upload(0).id(), again.id());
        forget(&device);
    }
}
