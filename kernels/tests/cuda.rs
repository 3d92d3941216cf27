//! CUDA devices: with and without the feature the functions are the same, and where there is no device
//! an error says why. Where there is one, it is checked.

use proxima_kernels::cuda::{self, Argument, Kernel, Launch, Properties};
use proxima_kernels::{Device, KernelError, Tensor};

/// One list for the real module and its stand-in: neither can change without the other.
#[test]
fn the_module_has_these_functions_with_and_without_cuda() {
    let _: fn() -> Result<usize, KernelError> = cuda::count;
    let _: fn(usize) -> Result<Device, KernelError> = cuda::device;
    let _: fn(&Device) -> Result<Properties, KernelError> = cuda::properties;
    let _: fn(&Device) -> Result<(), KernelError> = cuda::check;
    let _: fn(&Device, &str, &str) -> Result<Kernel, KernelError> = cuda::kernel;
    let _: fn(&Device) = cuda::forget;
    let _: fn(&Tensor) -> Result<u64, KernelError> = cuda::address;
    let _: fn(&KernelError) -> bool = cuda::is_out_of_memory;
    let _: unsafe fn(&Device, &Kernel, Launch, &[Argument]) -> Result<(), KernelError> =
        cuda::launch;
}

#[test]
fn a_device_works_or_says_why_there_is_none() {
    match cuda::device(0) {
        Ok(device) => {
            println!("{:?}", cuda::properties(&device).expect("properties of a device"));
            cuda::check(&device).expect("a device that computes");
            let other = cuda::kernel(&device, "check", "nothing").err().expect("no such kernel");
            assert!(other.to_string().contains("nothing"), "{other}");
            cuda::forget(&device);
            cuda::check(&device).expect("kernels are loaded anew");
        }
        Err(error) => {
            let said = error.to_string();
            println!("no CUDA device here: {said}");
            assert!(said.contains("CUDA") || said.contains("NVIDIA"), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(!cuda::is_out_of_memory(&error));
        }
    }
}

#[test]
fn a_device_that_no_machine_has_is_an_error() {
    let error = cuda::device(4096).err().expect("an error");
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
}

#[test]
fn a_tensor_of_the_cpu_has_no_address_on_a_device() {
    let tensor = Tensor::new(&[1.0_f32, 2.0], &Device::Cpu).expect("a tensor");
    assert!(cuda::address(&tensor).is_err());
    assert!(cuda::check(&Device::Cpu).is_err());
}
